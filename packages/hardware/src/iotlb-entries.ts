/**
 * What the IOTLB holds, in readable form: for tests, visualisers, the oracle.
 *
 * @packageDocumentation
 */
import { wordOf } from '@nestwalk/bits'
import { withoutPasid } from './cache/iotlb.js'
import type { Iotlb } from './cache/iotlb.js'

/** One cached translation. Numbers as they are tagged. */
export interface IotlbEntry {
  readonly domainId: number
  /** `undefined` for translations of the host table alone. */
  readonly pasid: number | undefined
  /** First address of the page, guest-virtual or guest-physical. */
  readonly page: bigint
  readonly sizeLog2: number
  /** System-physical address of the page. */
  readonly frame: bigint
  readonly rights: number
  /** DeviceID of the request that filled the entry. */
  readonly filler: number
}

/** The live entries, in no particular order. The machine must be active. */
export function entriesOf(iotlb: Iotlb): IotlbEntry[] {
  const found: IotlbEntry[] = []
  iotlb.eachLive(() => {
    const { domainId, pasid, sizeLog2, rights, filler } = iotlb
    found.push({
      domainId,
      pasid: pasid === withoutPasid ? undefined : pasid,
      page: wordOf(iotlb.pageLo, iotlb.pageHi) << 12n,
      sizeLog2,
      frame: wordOf(iotlb.frameLo, iotlb.frameHi),
      rights,
      filler,
    })
  })
  return found
}
