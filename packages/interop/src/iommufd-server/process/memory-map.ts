/**
 * What is mapped in a process: `/proc/PID/maps`, read again when asked, parsed again when its text has changed.
 *
 * Linux Documentation/filesystems/proc.rst, "/proc/PID/maps".
 *
 * @packageDocumentation
 */
import { closeSync, openSync, readSync } from 'node:fs'
import { pageBytes } from '@nestwalk/iommufd'

/** A mapping: addresses, rights and what is behind. Addresses of user memory have at most 47 bits: they are numbers. */
export interface Mapping {
  readonly start: number
  readonly end: number
  readonly isReadable: boolean
  readonly isWriteable: boolean
  /** Shared memory or a shared file: its name, the same in every process; `undefined`: memory of this process. */
  readonly object: string | undefined
  /** Whether there may be less file than there are addresses. */
  readonly mayEnd: boolean
  /** Index of the first page in the object. */
  readonly firstPage: number
  readonly isHugePage: boolean
}

/** Start, end, rights, offset, device, inode, path. */
const linePattern = /^([0-9a-f]+)-([0-9a-f]+) (.)(.).(.) ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+)\s*(.*)$/
/** Above all that a program may map. */
const afterUserMemory = 2 ** 47
/** Pages of the kernel and of devices: nobody may pin them. */
const unpinnable = new Set(['[vvar]', '[vvar_vclock]', '[vsyscall]'])

/** Where there is this mapping it is the last, which saves a look whether more comes. */
const lastLine = Buffer.from('[vsyscall]\n')

/** Name of an object of which a device (as stat says) and an inode are known. */
export const objectName = (device: number, inode: number | string): string => `${device}:${inode}`

/** See the file's comment. */
export class MemoryMap {
  private readonly file: number
  private text = Buffer.alloc(16_384)
  private spare = Buffer.alloc(16_384)
  private textBytes = -1
  private mappings: readonly Mapping[] = []

  /** @throws Error of node:fs where there is no such process, or it may not be looked at */
  constructor(pid: number) {
    this.file = openSync(`/proc/${pid}/maps`, 'r')
  }

  close(): void {
    closeSync(this.file)
  }

  /** Looks whether anything has changed. False: the process has ended, and has no memory any more. */
  refresh(): boolean {
    const bytes = this.readText()
    if (bytes !== this.textBytes || this.text.compare(this.spare, 0, bytes, 0, bytes) !== 0) {
      this.mappings = parseMaps(this.spare.toString('latin1', 0, bytes))
      ;[this.text, this.spare] = [this.spare, this.text]
      this.textBytes = bytes
    }
    return bytes > 0
  }

  /** The mapping that holds an address, as of the last look. */
  at(address: number): Mapping | undefined {
    const { mappings } = this
    let [low, high] = [0, mappings.length]
    while (low < high) {
      const middle = (low + high) >> 1
      const mapping = mappings[middle]
      if (mapping === undefined || address < mapping.start) high = middle
      else if (address >= mapping.end) low = middle + 1
      else return mapping
    }
    return undefined
  }

  /** Whether a range may be read, or written, throughout, as of the last look. */
  allows(address: number, bytes: number, writes: boolean): boolean {
    for (let at = address; at < address + bytes;) {
      const mapping = this.at(at)
      if (mapping === undefined || !(writes ? mapping.isWriteable : mapping.isReadable)) return false
      at = mapping.end
    }
    return true
  }

  /** An address at which a page of an object is mapped. */
  addressOf(object: string, page: number): number | undefined {
    for (const mapping of this.mappings) {
      if (mapping.object !== object) continue
      const address = mapping.start + (page - mapping.firstPage) * pageBytes
      if (address >= mapping.start && address < mapping.end) return address
    }
    return undefined
  }

  private readText(): number {
    let bytes = 0
    for (;;) {
      if (bytes === this.spare.length) {
        this.spare = Buffer.concat([this.spare], this.spare.length * 2)
        this.text = Buffer.concat([this.text], this.spare.length)
      }
      const got = readOrNone(this.file, this.spare, bytes)
      bytes += got
      if (got === 0 || this.spare.subarray(bytes - lastLine.length, bytes).equals(lastLine)) return bytes
    }
  }
}

/** The kernel gives at most a page of text at a time; ESRCH where the process is gone. */
function readOrNone(file: number, into: Buffer, at: number): number {
  try {
    return readSync(file, into, at, into.length - at, at)
  } catch {
    return 0
  }
}

/** The mappings that a text lists, in ascending order. */
export function parseMaps(text: string): Mapping[] {
  return text.split('\n').flatMap((line) => {
    const parts = linePattern.exec(line)
    if (parts === null) return []
    const [, start = '', end = '', r, w, shared, offset = '', major = '', minor = '', inode = '', path = ''] =
      parts
    const first = Number.parseInt(start, 16)
    if (first >= afterUserMemory || unpinnable.has(path)) return []
    const isObject = shared === 's' && inode !== '0'
    return [
      {
        start: first,
        end: Number.parseInt(end, 16),
        isReadable: r === 'r',
        isWriteable: w === 'w',
        object: isObject ? objectName(deviceNumber(major, minor), inode) : undefined,
        mayEnd: inode !== '0' && !path.startsWith('/dev/zero'),
        firstPage: isObject ? Number.parseInt(offset, 16) / pageBytes : first / pageBytes,
        isHugePage: path.startsWith('/anon_hugepage'),
      },
    ]
  })
}

/** As stat(2) encodes it: linux/kdev_t.h, new_encode_dev. */
function deviceNumber(major: string, minor: string): number {
  const [high, low] = [Number.parseInt(major, 16), Number.parseInt(minor, 16)]
  return (low & 0xff) + high * 0x100 + (low & ~0xff) * 0x1000
}
