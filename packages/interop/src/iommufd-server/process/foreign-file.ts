/**
 * Files of a process that are not the server's: what IOAS_MAP_FILE may name.
 *
 * @packageDocumentation
 */
import { closeSync, fstatSync, openSync, statfsSync, statSync } from 'node:fs'
import { pageBytes } from '@nestwalk/iommufd'
import type { ForeignFile, PageSource, PhysicalRun, PinFailure } from '@nestwalk/iommufd'
import { objectName } from './memory-map.js'
import { readAll, writeAll } from './move-bytes.js'
import type { PhysicalPages } from './physical-pages.js'
import { joined, runsOf } from './runs.js'

/** Linux include/uapi/linux/magic.h: TMPFS_MAGIC, which memfds have too, and HUGETLBFS_MAGIC. */
const sharedMemoryFileSystems = [0x01021994, 0x958458f6]

/** A file that is open as long as an IOAS maps it. */
interface OpenedFile {
  readonly descriptor: number
  readonly object: string
}

/** See the file's comment. */
export class ForeignFiles {
  private readonly opened = new Map<string, WeakRef<OpenedFile>>()
  private readonly closing = new FinalizationRegistry((descriptor: number) => {
    closeSync(descriptor)
  })

  constructor(private readonly numbers: PhysicalPages) {}

  /** The file that a descriptor of a process stands for; `undefined`: there is none, or it may not be looked at. */
  find(pid: number, descriptor: number): ForeignFile | undefined {
    const path = `/proc/${pid}/fd/${descriptor}`
    try {
      const status = statSync(path)
      const isShared = status.isFile() && sharedMemoryFileSystems.includes(statfsSync(path).type)
      if (!isShared) return { kind: 'other', source: () => noPages }
      const file = this.open(path, objectName(status.dev, status.ino))
      return { kind: 'shared-memory', source: (start) => new FilePages(file, start, this.numbers) }
    } catch {
      return undefined
    }
  }

  private open(path: string, object: string): OpenedFile {
    const known = this.opened.get(object)?.deref()
    if (known !== undefined) return known
    const file = { descriptor: openReadable(path), object }
    this.opened.set(object, new WeakRef(file))
    this.closing.register(file, file.descriptor)
    return file
  }
}

/** A file that is sealed against writing opens for reading. */
function openReadable(path: string): number {
  try {
    return openSync(path, 'r+')
  } catch {
    return openSync(path, 'r')
  }
}

/** Files of other kinds cannot be pinned. */
const noPages: PageSource = {
  pin: () => 'EINVAL',
  unpin: () => undefined,
  read: () => false,
  write: () => false,
}

/** Pages of a file from the one that holds byte `start` on. */
class FilePages implements PageSource {
  private readonly firstPage: number

  constructor(
    private readonly file: OpenedFile,
    start: bigint,
    private readonly numbers: PhysicalPages,
  ) {
    this.firstPage = Number(start / BigInt(pageBytes))
  }

  pin(first: number, count: number): readonly PhysicalRun[] | PinFailure {
    const index = this.firstPage + first
    // Linux mm/gup.c, memfd_pin_folios.
    if ((index + count) * pageBytes > fstatSync(this.file.descriptor).size) return 'EINVAL'
    try {
      const runs = joined(runsOf(this.numbers, this.file.object, index, count))
      this.numbers.pin(this.file.object, count)
      return runs
    } catch (error) {
      if (error instanceof RangeError) return 'ENOMEM'
      throw error
    }
  }

  unpin(_first: number, count: number): void {
    this.numbers.unpin(this.file.object, count)
  }

  read(offset: number, into: Uint8Array): boolean {
    return readAll(this.file.descriptor, into, this.firstPage * pageBytes + offset)
  }

  write(offset: number, from: Uint8Array): boolean {
    const position = this.firstPage * pageBytes + offset
    // A write past the end would make the file longer.
    const isInside = position + from.length <= fstatSync(this.file.descriptor).size
    return isInside && writeAll(this.file.descriptor, from, position)
  }
}
