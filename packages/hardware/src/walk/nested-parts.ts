/**
 * Nested translations filed in two parts: from GVA to GPA, and from there to the SPA.
 *
 * AMD 48882 rev 3.10, caches and invalidation: silicon may keep either part. See `MicroArchitecture.nestedEntries`.
 *
 * @packageDocumentation
 */
import { withoutPasid } from '../cache/iotlb.js'
import type { Iotlb } from '../cache/iotlb.js'
import { lowMaskHi, lowMaskLo } from './address-bits.js'
import { ResultWord, Source } from './answer.js'
import { noFault } from './fault.js'
import type { Fault } from './fault.js'
import { allRights, dirtyKept, leafBitsKept, leafBitsShift, mayRead, mayWrite } from './rights.js'
import type { TableWalk } from './table-walk.js'

/** No {@link Fault}: a part of the translation is not cached. */
export const partMissing = -1

/** See the file's comment. */
export class NestedParts {
  constructor(
    private readonly guestToGpa: Iotlb,
    private readonly iotlb: Iotlb,
    private readonly tables: TableWalk,
    private readonly result: Int32Array,
  ) {}

  /**
   * A translation put together from an entry to the GPA and one from there, which a host walk may have to make.
   *
   * @param slot - the device's table entry
   * @returns {@link partMissing} where the tables have to be walked
   */
  find(
    slot: number,
    deviceId: number,
    domainId: number,
    pasid: number,
    lo: number,
    hi: number,
    needed: number,
  ): Fault {
    const { guestToGpa, iotlb, result } = this
    const kept = (needed & mayWrite) !== 0 ? dirtyKept : 0
    if (!guestToGpa.lookup(guestToGpa.domainRecord(domainId), domainId, pasid, lo, hi)) return partMissing
    const guestRights = guestToGpa.rights
    if ((guestRights & (needed | kept)) !== (needed | kept)) return partMissing
    const guestSize = guestToGpa.sizeLog2
    const gpaLo = guestToGpa.frameLo | (lo & lowMaskLo(guestSize))
    const gpaHi = guestToGpa.frameHi | (hi & lowMaskHi(guestSize))
    const ofHost = (needed & (mayRead | mayWrite)) | kept
    result[ResultWord.gpaLo] = gpaLo
    result[ResultWord.gpaHi] = gpaHi
    const isKnown = iotlb.lookup(iotlb.domainRecord(domainId), domainId, withoutPasid, gpaLo, gpaHi)
    if (!isKnown || (iotlb.rights & ofHost) !== ofHost) {
      return this.walkHost(slot, deviceId, domainId, gpaLo, gpaHi, needed, guestSize, guestRights)
    }
    const size = iotlb.sizeLog2
    result[ResultWord.spaLo] = iotlb.frameLo | (gpaLo & lowMaskLo(size))
    result[ResultWord.spaHi] = iotlb.frameHi | (gpaHi & lowMaskHi(size))
    result[ResultWord.sizeLog2] = size < guestSize ? size : guestSize
    result[ResultWord.rights] = guestRights & (iotlb.rights | ~(mayRead | mayWrite)) & allRights
    result[ResultWord.source] = Source.iotlb
    result[ResultWord.filler] = guestToGpa.filler
    result[ResultWord.leafBits] = (iotlb.rights & leafBitsKept) << leafBitsShift
    return noFault
  }

  /** Files the nested walk that was just made. */
  keep(deviceId: number, domainId: number, pasid: number, lo: number, hi: number): void {
    const { guestToGpa, tables } = this
    const { guest } = tables
    const { guestSizeLog2, gpaLo, gpaHi } = guest
    const rights = (guest.guestRights & allRights) | (tables.guestKeptDirty() ? dirtyKept : 0)
    const record = guestToGpa.domainRecord(domainId)
    guestToGpa.fill(record, domainId, pasid, lo, hi, guestSizeLog2, gpaLo, gpaHi, rights, deviceId)
    this.keepHost(deviceId, domainId, gpaLo, gpaHi)
  }

  private walkHost(
    slot: number,
    deviceId: number,
    domainId: number,
    gpaLo: number,
    gpaHi: number,
    needed: number,
    guestSize: number,
    guestRights: number,
  ): Fault {
    const { result, tables } = this
    const { host } = tables
    const fault = tables.walkHost(slot, gpaLo, gpaHi, needed)
    result[ResultWord.spaLo] = host.spaLo
    result[ResultWord.spaHi] = host.spaHi
    result[ResultWord.reads] = host.reads
    if (fault !== noFault) return fault
    result[ResultWord.sizeLog2] = host.sizeLog2 < guestSize ? host.sizeLog2 : guestSize
    result[ResultWord.rights] = guestRights & (host.rights | ~(mayRead | mayWrite)) & allRights
    result[ResultWord.leafBits] = host.leafBits
    this.keepHost(deviceId, domainId, gpaLo, gpaHi)
    return noFault
  }

  /** Files the host's last walk under the GPA that it was for. */
  private keepHost(deviceId: number, domainId: number, gpaLo: number, gpaHi: number): void {
    const { iotlb, tables } = this
    const { sizeLog2, spaLo, spaHi, rights, leafBits } = tables.host
    const kept = tables.hostKeptDirty() ? dirtyKept : 0
    const filed = (rights & (mayRead | mayWrite)) | kept | (leafBits >>> leafBitsShift)
    const record = iotlb.domainRecord(domainId)
    iotlb.fill(record, domainId, withoutPasid, gpaLo, gpaHi, sizeLog2, spaLo, spaHi, filed, deviceId)
  }
}
