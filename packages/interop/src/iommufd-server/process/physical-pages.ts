/**
 * Numbers for the pages that programs have: the same page has the same number, whoever names it.
 *
 * The real numbers are the kernel's secret, and move. These are made up: a page is known by its object (a file, shared
 * memory, or the private memory of one process) and its place in it. Neighbours in an object are neighbours here, for a
 * gibibyte at a time, so that large entries of an IOMMU's table come about as with memory of the real kind.
 *
 * @packageDocumentation
 */

/** Pages that are numbered in one piece: 1 GiB. */
const windowPages = 1 << 18
/** The first is at 1 TiB, above any memory of a machine that is modelled. */
const firstWindow = 1 << 10
/** Physical addresses have 52 bits. */
const usualEnd = 1 << 22

/** See the file's comment. */
export class PhysicalPages {
  /** First page of a window, by object and then by number of the window in it. */
  private readonly windows = new Map<string, Map<number, number>>()
  private readonly freed: number[] = []
  private readonly pinned = new Map<string, number>()
  private nextWindow = firstWindow

  /** @param endWindow - the first gibibyte that has no addresses any more */
  constructor(private readonly endWindow = usualEnd) {}

  /**
   * The number of a page.
   *
   * @param object - name of the object
   * @param index - of the page in it
   * @throws RangeError if there are no numbers left
   */
  numberOf(object: string, index: number): number {
    let windows = this.windows.get(object)
    if (windows === undefined) {
      windows = new Map()
      this.windows.set(object, windows)
    }
    const window = Math.floor(index / windowPages)
    let first = windows.get(window)
    if (first === undefined) {
      first = this.takeWindow() * windowPages
      windows.set(window, first)
      // An object that was given up to make room for itself is entered again.
      this.windows.set(object, windows)
    }
    return first + (index % windowPages)
  }

  /** How many pages from this one on are numbered in one piece at least. */
  contiguousFrom(index: number): number {
    return windowPages - (index % windowPages)
  }

  /** Pages of an object keep their numbers, */
  pin(object: string, pages: number): void {
    this.pinned.set(object, (this.pinned.get(object) ?? 0) + pages)
  }

  /** until as many are let go of. */
  unpin(object: string, pages: number): void {
    const left = (this.pinned.get(object) ?? 0) - pages
    if (left > 0) this.pinned.set(object, left)
    else this.pinned.delete(object)
  }

  isPinned(object: string): boolean {
    return this.pinned.has(object)
  }

  private takeWindow(): number {
    if (this.freed.length === 0 && this.nextWindow === this.endWindow) this.reclaim()
    const freed = this.freed.pop()
    if (freed !== undefined) return freed
    if (this.nextWindow === this.endWindow) throw new RangeError('there are no physical addresses left')
    return this.nextWindow++
  }

  /** Pages that nobody has pinned may get other numbers: the kernel moves them too. */
  private reclaim(): void {
    for (const [object, windows] of this.windows) {
      if (this.pinned.has(object)) continue
      for (const first of windows.values()) this.freed.push(first / windowPages)
      this.windows.delete(object)
    }
  }
}
