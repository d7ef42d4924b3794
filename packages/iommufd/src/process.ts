/**
 * Who calls: a process with its memory, files, rights and limits, as the kernel sees it.
 *
 * Whoever serves real programs, or a test, stands in for the kernel's memory management with these.
 *
 * @packageDocumentation
 */

/** Bytes of a page of the processor. */
export const pageBytes = 4096

/** Physically contiguous pages. */
export interface PhysicalRun {
  /** Physical address of the first, a multiple of 4096. */
  readonly first: bigint
  readonly pages: number
}

/** Why memory cannot be pinned. EINVAL: the file is of a kind, or too short, for that. */
export type PinFailure = 'EFAULT' | 'EINVAL' | 'ENOMEM'

/**
 * Memory that an IOAS maps: a range of a process' addresses or of a file, in whole pages from the one with its first byte.
 *
 * Pages that are pinned stay readable and writeable through it, also after their process has gone.
 */
export interface PageSource {
  /** Finds pages and holds them: from page number `first`, `count` of them, all or none. */
  pin(first: number, count: number, writes: boolean): readonly PhysicalRun[] | PinFailure
  /** Lets go of what {@link pin} held, once. */
  unpin(first: number, count: number): void
  /** Copies bytes out, `offset` bytes into the first page. False: not there, or its process is gone and nothing pins it. */
  read(offset: number, into: Uint8Array): boolean
  /** Copies bytes in. */
  write(offset: number, from: Uint8Array): boolean
  /** The same memory in a fork of its machine, with the same pins; `memo` says what became of what. Without: shared. */
  fork?(memo: Map<object, object>): PageSource
}

/** A process' memory. */
export interface AddressSpace {
  /** The same for all who share this memory, unique in the kernel: the process number, for instance. */
  readonly key: number
  /** Copies bytes from an address. False: EFAULT, and `into` may have changed. */
  read(address: bigint, into: Uint8Array): boolean
  write(address: bigint, from: Uint8Array): boolean
  /** Memory from the page that holds an address on; `pages` of them. */
  source(address: bigint, pages: number): PageSource
  /** Physical address of a byte, if there is a page. */
  lookUp(address: bigint): { readonly physical: bigint; readonly isHugePage: boolean } | undefined
}

/** An open file that is not one of ours. */
export interface ForeignFile {
  readonly kind: 'shared-memory' | 'other'
  /** From the page that holds byte `start` on; EINVAL comes from pinning, not from here. */
  source(start: bigint, pages: number): PageSource
}

/** Rights of a process that matter here. */
export interface Capabilities {
  /** CAP_IPC_LOCK: pinned memory is not limited. */
  readonly ipcLock: boolean
  /** CAP_SYS_RESOURCE: OPTION RLIMIT_MODE may be set. */
  readonly sysResource: boolean
  /** CAP_SYS_RAWIO. */
  readonly rawIo: boolean
}

/** The process that makes a call, `F` being our open files. */
export interface CallingProcess<F = unknown> {
  readonly uid: number
  readonly capabilities: Capabilities
  /** RLIMIT_MEMLOCK in bytes. */
  readonly lockableBytes: bigint
  readonly memory: AddressSpace
  /** What a descriptor stands for; `undefined`: EBADF. */
  file(descriptor: number): F | ForeignFile | undefined
}
