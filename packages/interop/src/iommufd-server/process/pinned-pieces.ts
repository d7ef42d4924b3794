/**
 * Which pages of a range are pinned, and what they are pages of: pieces that do not meet, in ascending order.
 *
 * @packageDocumentation
 */

/** Neighbouring pages of the range that are neighbouring pages of an object. */
export interface Piece {
  /** First page, counted in the range. */
  readonly first: number
  readonly pages: number
  readonly object: string
  /** Which page of the object that is. */
  readonly index: number
}

/** See the file's comment. */
export class PinnedPieces {
  private pieces: Piece[] = []

  /** Adds a piece, whose pages are not pinned yet. */
  add(piece: Piece): void {
    const place = this.placeAfter(piece.first)
    const before = this.pieces[place - 1]
    if (before !== undefined && continues(before, piece)) {
      this.pieces[place - 1] = { ...before, pages: before.pages + piece.pages }
    } else {
      this.pieces.splice(place, 0, piece)
    }
  }

  /** Takes a range out, and returns the pieces that were in it. */
  remove(first: number, count: number): Piece[] {
    const end = first + count
    const from = Math.max(0, this.placeAfter(first) - 1)
    let to = from
    const [removed, kept]: [Piece[], Piece[]] = [[], []]
    for (; to < this.pieces.length; to++) {
      const piece = this.pieces[to]
      if (piece === undefined || piece.first >= end) break
      const [low, high] = [Math.max(piece.first, first), Math.min(piece.first + piece.pages, end)]
      if (low >= high) kept.push(piece)
      else {
        if (piece.first < low) kept.push(part(piece, piece.first, low))
        removed.push(part(piece, low, high))
        if (high < piece.first + piece.pages) kept.push(part(piece, high, piece.first + piece.pages))
      }
    }
    this.pieces.splice(from, to - from, ...kept)
    return removed
  }

  /** The piece that a page is in, or how many pages there are to the next one. */
  at(page: number): Piece | number {
    const place = this.placeAfter(page)
    const piece = this.pieces[place - 1]
    if (piece !== undefined && page < piece.first + piece.pages) return piece
    return (this.pieces[place]?.first ?? Infinity) - page
  }

  /** Index of the first piece that begins after a page. */
  private placeAfter(page: number): number {
    let [low, high] = [0, this.pieces.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.pieces[middle]?.first ?? Infinity) <= page) low = middle + 1
      else high = middle
    }
    return low
  }
}

const continues = (before: Piece, after: Piece): boolean =>
  before.object === after.object &&
  before.first + before.pages === after.first &&
  before.index + before.pages === after.index

const part = ({ first, object, index }: Piece, from: number, to: number): Piece => ({
  ...{ first: from, pages: to - from },
  ...{ object, index: index + from - first },
})
