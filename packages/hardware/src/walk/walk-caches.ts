/**
 * The modelled caches as walks use them: where a walk may start, and what it leaves for later ones.
 *
 * AMD 48882 rev 3.10, caches and invalidation; which of them a chip has is `MicroArchitecture`. Most chips have none, and
 * their walks never come here.
 *
 * @packageDocumentation
 */
import { noGpas } from '../cache/entry.js'
import { withoutPasid } from '../cache/iotlb.js'
import type { TaggedCache } from '../cache/tagged-cache.js'
import type { TranslationCaches } from '../translation-caches.js'
import { frameMask, levelShift, lowMaskHi, lowMaskLo } from './address-bits.js'
import { allRights, mayRead, mayWrite } from './rights.js'

/** The page's own GPA, and those of three GCR3 and five guest tables. */
const maxGpas = 9

/** See the file's comment. */
export class WalkCaches {
  /** Under what a walk's finds are filed. */
  domainId = 0
  filler = 0
  /** GPAs that the last guest walk came by, for entries that remember them: the page's own first. */
  readonly gpas = new Int32Array(2 * maxGpas)
  gpaCount = 0
  /** Walks that cached directories shortened, and those that they did not, since the owner set them to zero. */
  directoryHits = 0
  directoryMisses = 0
  /** The table found last: where it lies, its level, and what the entries above it grant. */
  tableLo = 0
  tableHi = 0
  level = 0
  rights = 0
  /** Where the address found last lies. */
  spaLo = 0
  spaHi = 0

  constructor(private readonly caches: TranslationCaches) {}

  /**
   * Whether a table on the way to an address is known.
   *
   * @param pasid - {@link withoutPasid} for the host table
   */
  findDirectory(pasid: number, lo: number, hi: number): boolean {
    const { directories } = this.caches
    if (directories === null) return false
    const isHit = this.findTable(directories, pasid, lo, hi)
    if (isHit) this.directoryHits += 1
    else this.directoryMisses += 1
    return isHit
  }

  /** Files the table of `level` on the way to an address. */
  keepDirectory(
    pasid: number,
    lo: number,
    hi: number,
    level: number,
    tableLo: number,
    tableHi: number,
    rights: number,
  ): void {
    const { directories } = this.caches
    if (directories === null) return
    this.keepTable(directories, pasid, lo, hi, levelShift(level + 1), tableLo, tableHi, rights, level)
  }

  /** Whether the guest's top table is known. */
  findGuestRoot(pasid: number): boolean {
    const { guestRoots } = this.caches
    return guestRoots !== null && this.findTable(guestRoots, pasid, 0, 0)
  }

  keepGuestRoot(pasid: number, tableLo: number, tableHi: number): void {
    const { guestRoots } = this.caches
    if (guestRoots !== null) this.keepTable(guestRoots, pasid, 0, 0, 12, tableLo, tableHi, allRights, 0)
  }

  /** A guest walk begins: it has come by no GPA yet. */
  forgetGpas(): void {
    this.gpas.fill(0)
    this.gpaCount = 1
  }

  /** The walk's page lies at this GPA. */
  notePage(lo: number, hi: number): void {
    this.gpas[0] = lo & frameMask
    this.gpas[1] = hi
  }

  /** The walk comes by a table at this GPA. */
  noteTable(lo: number, hi: number): void {
    if (!this.caches.design.remembersGpas || this.gpaCount >= maxGpas) return
    this.gpas[2 * this.gpaCount] = lo & frameMask
    this.gpas[2 * this.gpaCount + 1] = hi
    this.gpaCount += 1
  }

  /** Whether it is known where a GPA lies, with these rights: with split entries, tables are found by them too. */
  findGpa(lo: number, hi: number, needed: number): boolean {
    const { iotlb, guestToGpa } = this.caches
    if (guestToGpa === null) return false
    const { domainId } = this
    if (!iotlb.lookup(iotlb.domainRecord(domainId), domainId, withoutPasid, lo, hi)) return false
    if ((iotlb.rights & needed) !== needed) return false
    this.spaLo = iotlb.frameLo | (lo & lowMaskLo(iotlb.sizeLog2))
    this.spaHi = iotlb.frameHi | (hi & lowMaskHi(iotlb.sizeLog2))
    this.rights = iotlb.rights
    return true
  }

  /** Files where a GPA lies, if that is filed apart. */
  keepGpa(lo: number, hi: number, sizeLog2: number, spaLo: number, spaHi: number, rights: number): void {
    const { iotlb, guestToGpa } = this.caches
    if (guestToGpa === null) return
    const { domainId, filler } = this
    const record = iotlb.domainRecord(domainId)
    iotlb.fill(record, domainId, withoutPasid, lo, hi, sizeLog2, spaLo, spaHi, rights, filler)
  }

  private findTable(cache: TaggedCache, pasid: number, lo: number, hi: number): boolean {
    if (!cache.lookup(cache.domainRecord(this.domainId), this.domainId, pasid, lo, hi)) return false
    this.tableLo = cache.frameLo
    this.tableHi = cache.frameHi
    this.level = cache.level
    this.rights = cache.rights
    // The walk goes on from there, so it came by what the cached one came by.
    if (pasid !== withoutPasid) this.gpaCount += cache.copyGpas(this.gpas, this.gpaCount)
    return true
  }

  /** Files a table under the 2^`size` bytes of addresses that it serves. */
  private keepTable(
    cache: TaggedCache,
    pasid: number,
    lo: number,
    hi: number,
    size: number,
    tableLo: number,
    tableHi: number,
    rights: number,
    level: number,
  ): void {
    const { domainId, filler } = this
    const record = cache.domainRecord(domainId)
    const kept = pasid === withoutPasid ? rights & (mayRead | mayWrite) : rights
    const tables = pasid === withoutPasid ? 0 : this.gpaCount - 1
    const gpas = tables === 0 ? noGpas : this.gpas.subarray(2)
    cache.fillTable(
      record,
      domainId,
      pasid,
      lo,
      hi,
      size,
      tableLo,
      tableHi,
      kept,
      filler,
      level,
      0,
      gpas,
      tables,
    )
  }
}
