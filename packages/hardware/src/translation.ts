/**
 * Requests and answers in readable form.
 *
 * @packageDocumentation
 */
import type { Spa } from '@nestwalk/bits'
import { withoutPasid } from './cache/iotlb.js'
import type { Iommu } from './iommu.js'
import { mayRead, mayWrite } from './walk/rights.js'
import { outcome, request, resultWord, source } from './walk/answer.js'

/** One memory request of a device. */
export interface Request {
  /** 16 bits. */
  readonly deviceId: number
  /** 20 bits; absent: a request without PASID. */
  readonly pasid?: number | undefined
  /** 64 bits. */
  readonly iova: bigint
  readonly write?: boolean
  /** Execute requested; counts with a PASID only. */
  readonly execute?: boolean
  /** Supervisor privilege; counts with a PASID only. */
  readonly supervisor?: boolean
}

/** What a translation is filed under in the IOTLB. */
export interface Tag {
  readonly domainId: number
  /** `undefined` for the host table alone. A request without PASID under GIoV has PASID 0 here. */
  readonly pasid: number | undefined
}

/** What became of a request. */
export type Translation =
  | {
      readonly kind: 'translated'
      /** Up to 64 bits where addresses pass through: then no memory need answer to it. */
      readonly spa: Spa
      /** log2 of the bytes of the page; 64 for an entry that passes addresses through. */
      readonly sizeLog2: number
      readonly readable: boolean
      readonly writable: boolean
      readonly from: 'walk' | 'iotlb' | 'identity'
      /** Absent for an entry that passes addresses through. */
      readonly tag: Tag | undefined
      /** DeviceID whose request filled the IOTLB entry: this one's, unless the answer came from there. */
      readonly filler: number
      /** 64-bit table entries read, the device table entry apart. */
      readonly reads: number
    }
  /** Not translated: the IOMMU is off, or the entry has V=0. */
  | { readonly kind: 'forwarded'; readonly address: bigint }
  | {
      readonly kind: 'fault'
      /** The event log entry, two quad-words. */
      readonly event: readonly [bigint, bigint]
      /** Whether it reached the log. */
      readonly logged: boolean
      readonly reads: number
    }

/** Runs a request and puts the answer together. */
export function describe(iommu: Iommu, asked: Request, moreFlags: number): Translation {
  const { deviceId, pasid, iova } = asked
  checkRange('deviceId', deviceId, 0xffff)
  if (pasid !== undefined) checkRange('pasid', pasid, 0xfffff)
  if (iova < 0n || iova >= 1n << 64n) throw new RangeError(`iova ${iova} is not from 0 to 2^64 - 1`)
  const flags =
    moreFlags |
    (asked.write === true ? request.write : 0) |
    (asked.execute === true ? request.execute : 0) |
    (asked.supervisor === true ? request.supervisor : 0)
  const kind = iommu.translate(
    deviceId,
    pasid ?? withoutPasid,
    Number(BigInt.asIntN(32, iova)),
    Number(BigInt.asIntN(32, iova >> 32n)),
    flags,
  )
  const result = iommu.result
  if (kind === outcome.forwarded) return { kind: 'forwarded', address: iova }
  const reads = result[resultWord.reads]!
  if (kind === outcome.faulted) {
    const event = [pair(result, resultWord.event), pair(result, resultWord.event + 2)] as const
    return { kind: 'fault', event, logged: result[resultWord.logged] === 1, reads }
  }
  const from = result[resultWord.source]
  const tagPasid = result[resultWord.pasid]!
  const rights = result[resultWord.rights]!
  return {
    kind: 'translated',
    // Not checked to have 52 bits: an entry that passes addresses through passes all 64.
    spa: pair(result, resultWord.spaLo) as Spa,
    sizeLog2: result[resultWord.sizeLog2]!,
    readable: (rights & mayRead) !== 0,
    writable: (rights & mayWrite) !== 0,
    from: from === source.iotlb ? 'iotlb' : from === source.identity ? 'identity' : 'walk',
    tag:
      from === source.identity
        ? undefined
        : { domainId: result[resultWord.domainId]!, pasid: tagPasid < 0 ? undefined : tagPasid },
    filler: from === source.iotlb ? result[resultWord.filler]! : deviceId,
    reads,
  }
}

function checkRange(name: string, value: number, max: number): void {
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw new RangeError(`${name} ${value} is not an integer from 0 to ${max}`)
  }
}

const pair = (words: Int32Array, at: number): bigint =>
  (BigInt(words[at + 1]! >>> 0) << 32n) | BigInt(words[at]! >>> 0)
