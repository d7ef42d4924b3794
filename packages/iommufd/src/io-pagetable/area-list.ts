/**
 * The areas of an IO address space in order: found, added and removed in logarithmic time, or nearly.
 *
 * A list of pieces. Each knows how large the holes in it can be at most, so that a search for room passes by full ones.
 *
 * @packageDocumentation
 */
import { InternalError } from '@nestwalk/driver'
import { lastAddress } from './area.js'
import type { Area } from './area.js'

/** A piece with more areas is halved. */
const fullPiece = 512

/** A piece with fewer areas is joined with a neighbour, if the two together are not much more than half full. */
const smallPiece = 128

const joinedPiece = 320

interface Piece {
  /** At least one, in order. */
  areas: Area[]
  /** No hole between two areas of this piece is longer, nor the one up to the next piece, if there is one. */
  longestHole: bigint
}

/** See the file's comment. Areas do not overlap. */
export class AreaList {
  readonly #pieces: Piece[]
  /** So many pieces from the first on have no holes: room is looked for behind them. */
  #fullPieces = 0
  #size = 0

  private constructor(pieces: Piece[]) {
    this.#pieces = pieces
    for (const piece of pieces) this.#size += piece.areas.length
  }

  static create(): AreaList {
    return new AreaList([])
  }

  /** A copy with other areas in the same places. */
  map(change: (area: Area) => Area): AreaList {
    return new AreaList(
      this.#pieces.map(({ areas, longestHole }) => ({ areas: areas.map(change), longestHole })),
    )
  }

  get size(): number {
    return this.#size
  }

  *[Symbol.iterator](): Iterator<Area> {
    for (const piece of this.#pieces) yield* piece.areas
  }

  /** The area that holds an IOVA. */
  at(iova: bigint): Area | undefined {
    const area = this.#lastUpTo(iova)
    return area !== undefined && area.last >= iova ? area : undefined
  }

  /** Whether a range meets any area. */
  meets(first: bigint, last: bigint): boolean {
    const area = this.#lastUpTo(last)
    return area !== undefined && area.last >= first
  }

  /** All areas that a range meets, in order. */
  in(first: bigint, last: bigint): Area[] {
    const found: Area[] = []
    for (let p = Math.max(this.#pieceOf(first), 0); p < this.#pieces.length; p++) {
      const { areas } = this.#piece(p)
      for (let i = firstEndingFrom(areas, first); i < areas.length; i++) {
        const area = areas[i]
        if (area === undefined || area.first > last) return found
        found.push(area)
      }
    }
    return found
  }

  /** Adds an area to a place where there is none. */
  add(area: Area): void {
    this.#size++
    const p = Math.max(this.#pieceOf(area.first), 0)
    const piece = this.#pieces[p]
    if (piece === undefined) {
      this.#pieces.push({ areas: [area], longestHole: 0n })
      return
    }
    const at = firstEndingFrom(piece.areas, area.first)
    // Elsewhere there was a longer hole, which is known.
    if (at === 0) this.#widen(p, area, piece.areas[0])
    else if (at === piece.areas.length && p === this.#pieces.length - 1)
      this.#widen(p, piece.areas[at - 1], area)
    piece.areas.splice(at, 0, area)
    if (piece.areas.length > fullPiece) {
      const { longestHole } = piece
      this.#splice(p + 1, 0, { areas: piece.areas.splice(fullPiece / 2), longestHole })
    }
  }

  /** Removes an area that is here. */
  remove(area: Area): void {
    const p = this.#pieceOf(area.first)
    const piece = this.#piece(p)
    const at = firstEndingFrom(piece.areas, area.first)
    if (piece.areas[at] !== area) throw new InternalError(`no such area at 0x${area.first.toString(16)}`)
    this.#size--
    piece.areas.splice(at, 1)
    const holder = at > 0 ? p : p - 1
    const before = at > 0 ? piece.areas[at - 1] : this.#pieces[holder]?.areas.at(-1)
    this.#widen(holder, before, piece.areas[at] ?? this.#pieces[p + 1]?.areas[0])
    if (piece.areas.length < smallPiece) this.#joinAround(p)
  }

  /**
   * Asks about each hole of a range that is at least `length` long, in order, until there is an answer.
   *
   * @param fit - what the caller can do with a hole, by its first and last IOVA
   */
  findHole(
    first: bigint,
    last: bigint,
    length: bigint,
    fit: (first: bigint, last: bigint) => bigint | undefined,
  ): bigint | undefined {
    const within = (from: bigint, to: bigint): bigint | undefined => {
      const start = from < first ? first : from
      const stop = to > last ? last : to
      return start <= stop && stop - start >= length - 1n ? fit(start, stop) : undefined
    }
    const p = this.#pieceOf(first)
    const [start, end] = [this.#pieces[0]?.areas[0], this.#pieces.at(-1)?.areas.at(-1)]
    if (start === undefined || end === undefined) return within(0n, lastAddress)
    const before = p < 0 && start.first > 0n ? within(0n, start.first - 1n) : undefined
    if (before !== undefined) return before
    for (let q = Math.max(p, this.#fullPieces); q < this.#pieces.length; q++) {
      const piece = this.#piece(q)
      if (this.#area(piece, 0).first > last) return undefined
      const found = piece.longestHole >= length ? this.#findHoleIn(q, within) : undefined
      if (found !== undefined) return found
      if (q === this.#fullPieces && piece.longestHole === 0n) this.#fullPieces++
    }
    return end.last === lastAddress ? undefined : within(end.last + 1n, lastAddress)
  }

  /** Asks about all holes of one piece, and learns how long the longest is. */
  #findHoleIn(p: number, fit: (first: bigint, last: bigint) => bigint | undefined): bigint | undefined {
    const piece = this.#piece(p)
    let longest = 0n
    for (let i = 0; i < piece.areas.length; i++) {
      const next = piece.areas[i + 1] ?? this.#pieces[p + 1]?.areas[0]
      if (next === undefined) break
      const first = this.#area(piece, i).last + 1n
      if (first === next.first) continue
      const found = fit(first, next.first - 1n)
      if (found !== undefined) return found
      if (next.first - first > longest) longest = next.first - first
    }
    piece.longestHole = longest
    return undefined
  }

  /** There may be a hole between two areas of a piece now. */
  #widen(p: number, before: Area | undefined, behind: Area | undefined): void {
    const piece = this.#pieces[p]
    if (piece === undefined || before === undefined || behind === undefined) return
    const hole = behind.first - before.last - 1n
    if (hole > 0n && p < this.#fullPieces) this.#fullPieces = p
    if (hole > piece.longestHole) piece.longestHole = hole
  }

  /** Joins a small piece with the one behind or before it. An empty one goes. */
  #joinAround(p: number): void {
    if (this.#piece(p).areas.length === 0) {
      this.#splice(p, 1)
      return
    }
    for (const left of [p, p - 1]) {
      const a = this.#pieces[left]
      const b = this.#pieces[left + 1]
      if (a === undefined || b === undefined || a.areas.length + b.areas.length > joinedPiece) continue
      if (b.longestHole > a.longestHole) a.longestHole = b.longestHole
      a.areas = a.areas.concat(b.areas)
      this.#splice(left + 1, 1)
      return
    }
  }

  #splice(p: number, removed: number, ...added: Piece[]): void {
    this.#pieces.splice(p, removed, ...added)
    this.#fullPieces = Math.min(this.#fullPieces, Math.max(p - 1, 0))
  }

  /** Number of the last piece that begins at or before an IOVA; -1: none does. */
  #pieceOf(iova: bigint): number {
    let low = 0
    let high = this.#pieces.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#area(this.#piece(middle), 0).first <= iova) low = middle + 1
      else high = middle
    }
    return low - 1
  }

  /** The last area that begins at or before an IOVA. */
  #lastUpTo(iova: bigint): Area | undefined {
    const piece = this.#pieces[this.#pieceOf(iova)]
    if (piece === undefined) return undefined
    const { areas } = piece
    let low = 0
    let high = areas.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#area(piece, middle).first <= iova) low = middle + 1
      else high = middle
    }
    return areas[low - 1]
  }

  #piece(p: number): Piece {
    const piece = this.#pieces[p]
    if (piece === undefined) throw new InternalError(`there is no piece ${p} of the list`)
    return piece
  }

  #area(piece: Piece, at: number): Area {
    const area = piece.areas[at]
    if (area === undefined) throw new InternalError('a piece of the list is empty')
    return area
  }
}

/** Number of the first area that ends at or behind an IOVA. */
function firstEndingFrom(areas: readonly Area[], iova: bigint): number {
  let low = 0
  let high = areas.length
  while (low < high) {
    const middle = (low + high) >>> 1
    const area = areas[middle]
    if (area !== undefined && area.last < iova) low = middle + 1
    else high = middle
  }
  return low
}
