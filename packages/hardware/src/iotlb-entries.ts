/**
 * What the IOTLB or a cache beside it holds, in readable form: for tests, visualisers, the oracle.
 *
 * @packageDocumentation
 */
import { wordOf } from '@nestwalk/bits'
import { withoutPasid } from './cache/iotlb.js'
import type { Iotlb } from './cache/iotlb.js'

/** One cached translation, or table page. Numbers as they are tagged. */
export interface IotlbEntry {
  readonly domainId: number
  /** `undefined` for translations of the host table alone. */
  readonly pasid: number | undefined
  /** First address of the page, guest-virtual or guest-physical. */
  readonly page: bigint
  readonly sizeLog2: number
  /** System-physical address of the page; or address of the table page. */
  readonly frame: bigint
  readonly rights: number
  /** DeviceID of the request that filled the entry. */
  readonly filler: number
  /** Level of the table that the frame is, 1 to 7; 0 for a translation. */
  readonly level: number
  /** Nine bits of whoever filled the entry. */
  readonly flags: number
}

/** The live entries, in the order of `eachLive`. The machine must be active. */
export function entriesOf(iotlb: Iotlb): IotlbEntry[] {
  const found: IotlbEntry[] = []
  iotlb.eachLive(() => {
    const { domainId, pasid, sizeLog2, rights, filler, level, flags } = iotlb
    found.push({
      domainId,
      pasid: pasid === withoutPasid ? undefined : pasid,
      page: wordOf(iotlb.pageLo, iotlb.pageHi) << 12n,
      sizeLog2,
      frame: wordOf(iotlb.frameLo, iotlb.frameHi),
      rights,
      filler,
      level,
      flags,
    })
  })
  return found
}
