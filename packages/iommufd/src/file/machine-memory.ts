/**
 * Memory of a machine whose programs run elsewhere: the driver's own, and behind it what programs have pinned.
 *
 * The chip walks a guest's tables where the program keeps them, and a device's DMA lands there.
 *
 * @packageDocumentation
 */
import type { OutsideMemory } from '@nestwalk/hardware'
import type { Pages } from '../io-pagetable/pages.js'
import type { Iommufd } from '../iommufd.js'
import { pageBytes } from '../process.js'

/** See the file's comment. */
export class MachineMemory implements OutsideMemory {
  readonly sizeBytes = 2 ** 52
  private readonly own = new Map<number, Uint8Array>()
  private iommufd: Iommufd | undefined
  /** Where the last page of a program was found: the next is mostly of the same mapping. */
  private last: Pages | undefined

  /** @param ownBytes - below that address all memory is the driver's */
  constructor(private readonly ownBytes: number) {}

  /** Whose programs' memory it is. */
  serve(iommufd: Iommufd): void {
    this.iommufd = iommufd
  }

  readPage(address: number, into: Uint8Array): boolean {
    if (address >= this.ownBytes) {
      const found = this.find(address)
      return found?.pages.source.read(found.page * pageBytes, into) === true
    }
    const page = this.own.get(address)
    if (page === undefined) into.fill(0)
    else into.set(page)
    return true
  }

  write(address: number, bytes: Uint8Array): boolean {
    const within = address % pageBytes
    const start = address - within
    if (address >= this.ownBytes) {
      const found = this.find(start)
      return found?.pages.source.write(found.page * pageBytes + within, bytes) === true
    }
    let page = this.own.get(start)
    if (page === undefined) this.own.set(start, (page = new Uint8Array(pageBytes)))
    page.set(bytes, within)
    return true
  }

  /** The pinned page at an address. */
  private find(address: number): { readonly pages: Pages; readonly page: number } | undefined {
    const physical = BigInt(address)
    const again = this.last?.pageAt(physical)
    if (this.last !== undefined && again !== undefined) return { pages: this.last, page: again }
    for (const pages of this.pinned()) {
      const page = pages.pageAt(physical)
      if (page === undefined) continue
      this.last = pages
      return { pages, page }
    }
    return undefined
  }

  private *pinned(): Generator<Pages> {
    for (const context of this.iommufd?.contexts ?? [])
      for (const [, { table }] of context.objects.all('ioas')) yield* table.pinnedPages()
  }
}
