/**
 * Open files as a program sees them: what the system calls on a descriptor of `/dev/iommu` give.
 *
 * Whoever serves real programs holds one {@link OpenFile} for each open file, and hands every call to it.
 *
 * @packageDocumentation
 */
import type { Region } from './backend.js'
import type { Dmabuf } from './io-pagetable/dmabuf.js'
import type { Errno } from './outcome.js'
import type { CallingProcess } from './process.js'

/** A file that a call has opened: an event queue, an access, a dma-buf. */
export interface NewFile {
  readonly file: OpenFile
  /** Where the caller wants the number of the descriptor, as 4 bytes; 0: it is what the call returns. */
  readonly address: bigint
  readonly isCloseOnExec: boolean
}

/** How a system call ends. */
export interface FileResult {
  /** What the call returns; -1 where there is an errno. */
  readonly ret: number
  readonly errno?: Errno
  /** The rule that was broken: a name of the catalogue, or one of the driver's. */
  readonly rule?: string
  /** One sentence for a person, with the numbers of this call. */
  readonly why?: string
  /** What a read read: `ret` bytes. */
  readonly bytes?: Uint8Array
  readonly newFiles?: readonly NewFile[]
}

/** A mapping that was asked for; `region` is there when it was granted. */
export interface MmapResult extends FileResult {
  readonly region?: Region
}

export interface IoctlCall {
  /** The command word. */
  readonly cmd: number
  /** The third argument as it was given, mostly the address of a structure in the caller's memory. */
  readonly argument: bigint
  readonly process: CallingProcess<OpenFile>
}

export interface MmapRequest {
  readonly length: bigint
  /** PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4. */
  readonly protection: number
  /** MAP_SHARED 1, MAP_PRIVATE 2 and others. */
  readonly flags: number
  readonly offset: bigint
}

/** The kernel's `struct file`, however many descriptors stand for it. */
export interface OpenFile {
  /** The memory that the file is, where it is a dma-buf. */
  readonly dmabuf?: Dmabuf
  ioctl(call: IoctlCall): FileResult
  /** read(2) when `offset` is -1, else pread(2). */
  read(process: CallingProcess<OpenFile>, count: bigint, offset: bigint): FileResult
  /**
   * write(2) when `offset` is -1, else pwrite(2).
   *
   * @param bytes - what lies at the buffer; fewer than `count` when the rest of it cannot be read
   */
  write(process: CallingProcess<OpenFile>, bytes: Uint8Array, count: bigint, offset: bigint): FileResult
  /** Those of the events asked for (POLLIN 1, POLLOUT 4, ...) that are there now. */
  poll(events: number): number
  mmap(request: MmapRequest): MmapResult
  /** A mapping of the region is gone. */
  munmap(region: Region): void
  /** The last descriptor is gone. */
  close(): void
}

/** The machine whose files are opened. Memory is counted by `AddressSpace.key`. */
export interface OpenableKernel {
  /** `/dev/iommu`. */
  openIommu(): OpenFile
  /** `/dev/vfio/vfio`. */
  openVfioContainer(): OpenFile
  /** `/dev/vfio/devices/vfioN`; `undefined` where there is no such device. */
  openVfioDevice(n: number): OpenFile | undefined
  /** Pages that a process has pinned (VmPin) and that count as locked (VmLck). */
  pinned(memory: number): number
  locked(memory: number): number
  /** Lets the `count`-th step from now that may fail, of calls with this memory, fail; 0 ends it. */
  armFailure(memory: number, count: number): void
  /** What is left of that count; 0: it has fired, or was never armed. */
  failuresLeft(memory: number): number
}
