/**
 * A range of a process' memory that an IOAS maps.
 *
 * A page that is pinned is that page from then on, whatever the process maps at its address later. Of shared memory it also
 * outlives the process. Pages that only the process has are lost with it: nobody but the kernel could keep them.
 *
 * @packageDocumentation
 */
import { pageBytes } from '@nestwalk/iommufd'
import type { PageSource, PhysicalRun, PinFailure } from '@nestwalk/iommufd'
import { readAll, writeAll } from './move-bytes.js'
import { PinnedPieces } from './pinned-pieces.js'
import type { Piece } from './pinned-pieces.js'
import type { ProcessMemory } from './process-memory.js'
import { joined, runsOf } from './runs.js'

/** Where contents are: in a file, or in the memory of a process. */
type Place =
  | { readonly file: number; readonly position: number }
  | { readonly memory: ProcessMemory; readonly address: number }

/** A stretch of the range that lies in one pinned piece, or in none. */
interface Stretch {
  readonly piece: Piece | undefined
  /** In the range, and as an address of the process. */
  readonly offset: number
  readonly address: number
}

/** See the file's comment. */
export class ProcessPages implements PageSource {
  private readonly pinned = new PinnedPieces()

  /**
   * @param start - address of the first page
   * @param pages - how many there are
   */
  constructor(
    private readonly memory: ProcessMemory,
    private readonly start: number,
    private readonly pages: number,
  ) {}

  pin(first: number, count: number, writes: boolean): readonly PhysicalRun[] | PinFailure {
    const { memory } = this
    const { pages: numbers, objects } = memory.machine
    const found = this.find(first, count, writes)
    if (found === undefined) return 'EFAULT'
    try {
      const runs = found.flatMap(({ piece: { object, index, pages } }) =>
        runsOf(numbers, object, index, pages),
      )
      for (const { piece, path } of found) {
        this.pinned.add(piece)
        numbers.pin(piece.object, piece.pages)
        if (path !== undefined) objects.keep(piece.object, path)
      }
      return joined(runs)
    } catch (error) {
      if (error instanceof RangeError) return 'ENOMEM'
      throw error
    }
  }

  unpin(first: number, count: number): void {
    for (const { object, pages } of this.pinned.remove(first, count)) {
      this.memory.machine.pages.unpin(object, pages)
    }
  }

  read(offset: number, into: Uint8Array): boolean {
    return this.eachStretch(offset, into, (stretch, bytes) => {
      if (stretch.piece === undefined) {
        const isAllowed = this.memory.allows(BigInt(stretch.address), bytes.length, false)
        return isAllowed && this.memory.readAt(stretch.address, bytes)
      }
      const place = this.placeOf(stretch.piece, stretch.offset)
      if (place === undefined) return false
      if ('file' in place) return readAll(place.file, bytes, place.position)
      return place.memory.readAt(place.address, bytes)
    })
  }

  write(offset: number, from: Uint8Array): boolean {
    return this.eachStretch(offset, from, (stretch, bytes) => {
      if (stretch.piece === undefined) return this.memory.write(BigInt(stretch.address), bytes)
      const place = this.placeOf(stretch.piece, stretch.offset)
      if (place === undefined) return false
      if ('file' in place) return writeAll(place.file, bytes, place.position)
      return place.memory.writeAt(place.address, bytes)
    })
  }

  /** The pieces that a range consists of; `undefined` where a page is not there or may not be used so. */
  private find(
    first: number,
    count: number,
    writes: boolean,
  ): { piece: Piece; path: string | undefined }[] | undefined {
    const { memory, start } = this
    if (start === Infinity || first + count > this.pages || !memory.look()) return undefined
    const found = []
    const end = start + (first + count) * pageBytes
    for (let at = start + first * pageBytes; at < end;) {
      const mapping = memory.mappingAt(at)
      if (mapping === undefined || !(writes ? mapping.isWriteable : mapping.isReadable)) return undefined
      const next = Math.min(mapping.end, end)
      if (mapping.mayEnd && !memory.readAt(next - 1, new Uint8Array(1))) return undefined
      const [page, pages] = [(at - start) / pageBytes, (next - at) / pageBytes]
      const index = mapping.firstPage + (at - mapping.start) / pageBytes
      const piece = { first: page, pages, object: mapping.object ?? memory.ownPages, index }
      const path = `/proc/${memory.pid}/map_files/${mapping.start.toString(16)}-${mapping.end.toString(16)}`
      found.push({ piece, path: mapping.object === undefined ? undefined : path })
      at = next
    }
    return found
  }

  /** Where the contents of a byte of a pinned piece are. */
  private placeOf({ first, object, index }: Piece, offset: number): Place | undefined {
    const { machine, ownPages } = this.memory
    if (object === ownPages) return { memory: this.memory, address: this.start + offset }
    const position = index * pageBytes + offset - first * pageBytes
    const file = machine.objects.file(object)
    if (file !== undefined) return { file, position }
    const mapped = machine.whereMapped(object, Math.floor(position / pageBytes))
    if (mapped === undefined) return undefined
    return { memory: mapped.memory, address: mapped.address + (position % pageBytes) }
  }

  /** Calls `move` for each stretch that lies in one piece, or in none; until one says no. */
  private eachStretch(
    offset: number,
    bytes: Uint8Array,
    move: (stretch: Stretch, part: Uint8Array) => boolean,
  ): boolean {
    if (this.start === Infinity) return false
    for (let done = 0; done < bytes.length;) {
      const at = offset + done
      const page = Math.floor(at / pageBytes)
      const found = this.pinned.at(page)
      const piece = typeof found === 'number' ? undefined : found
      const endPage = typeof found === 'number' ? page + found : found.first + found.pages
      const length = Math.min(bytes.length - done, endPage * pageBytes - at)
      const stretch = { piece, offset: at, address: this.start + at }
      if (!move(stretch, bytes.subarray(done, done + length))) return false
      done += length
    }
    return true
  }
}
