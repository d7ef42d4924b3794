/**
 * Requests and answers in readable form.
 *
 * @packageDocumentation
 */
import type { Spa } from '@nestwalk/bits'
import type { DeviceTableCache } from './cache/device-table-cache.js'
import { withoutPasid } from './cache/iotlb.js'
import { interruptOutcome, interruptWord } from './interrupt/interrupt-answer.js'
import type { Iommu } from './iommu.js'
import type { SparseMemory } from './memory/sparse-memory.js'
import { outcome, request, resultWord, source } from './walk/answer.js'
import { eventCode, eventFlag, faultCode } from './walk/fault.js'
import { mayExecute, mayRead, mayWrite } from './walk/rights.js'

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
  /** With `write`: one that waits for an answer, such as an atomic operation. Counts in special ranges only. */
  readonly nonPosted?: boolean
}

/** One interrupt of a device: a posted write of 32 bits. */
export interface InterruptRequest {
  /** 16 bits. */
  readonly deviceId: number
  /** FEE0_0000h to FEEF_FFFCh, or in the HyperTransport range. */
  readonly address: bigint
  /** 32 bits. */
  readonly data: number
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
  /** Not translated: the IOMMU is off, the entry has V=0, or the address is in the exclusion range. */
  | { readonly kind: 'forwarded'; readonly address: bigint }
  /** A posted write to the interrupt range: what becomes of it is for `requestInterrupt` to say. */
  | { readonly kind: 'interrupt'; readonly address: bigint }
  | {
      readonly kind: 'fault'
      /** The event log entry, two quad-words. */
      readonly event: readonly [bigint, bigint]
      /** Whether it reached the log. */
      readonly logged: boolean
      readonly reads: number
    }

/** The answer to a device that asked for a translation. */
export type AtsAnswer =
  | {
      readonly kind: 'completed'
      /** Where the page is; means nothing without a right. */
      readonly spa: Spa
      /** log2 of the bytes of the range; 64: all addresses are their own translations. */
      readonly sizeLog2: number
      readonly readable: boolean
      readonly writable: boolean
      readonly executable: boolean
      /** The device may use the page without snooping. */
      readonly noSnoop: boolean
      /** The device must not keep the translation, but go on using untranslated addresses. */
      readonly untranslatedOnly: boolean
      readonly from: 'walk' | 'iotlb' | 'identity'
      readonly reads: number
    }
  /** UR: the device may not ask. CA: the tables make no sense. */
  | {
      readonly kind: 'unsupported-request' | 'completer-abort'
      readonly event: readonly [bigint, bigint]
      readonly logged: boolean
    }

/** What became of an interrupt. */
export type InterruptAnswer =
  /** The message goes on as the device wrote it. */
  | { readonly kind: 'forwarded'; readonly address: bigint; readonly data: number }
  | {
      readonly kind: 'remapped'
      readonly address: bigint
      readonly data: number
      readonly vector: number
      readonly deliveryMode: number
      readonly logicalDestination: boolean
      readonly destination: number
    }
  /** It stands in a guest's virtual APIC. */
  | {
      readonly kind: 'posted'
      readonly vector: number
      /** The word of the backing page that holds the request bit. */
      readonly requestWord: bigint
      readonly notice: 'none' | 'doorbell' | 'ga-log'
      /** The APIC that gets the doorbell. */
      readonly destination: number
    }
  | {
      readonly kind: 'aborted'
      /** Undefined: no event tells of it. */
      readonly event: readonly [bigint, bigint] | undefined
      readonly logged: boolean
    }

/** Runs a request and puts the answer together. */
export function describe(iommu: Iommu, asked: Request, moreFlags: number): Translation {
  const { deviceId, iova } = asked
  const kind = ask(iommu, asked, moreFlags)
  const result = iommu.result
  if (kind === outcome.forwarded) return { kind: 'forwarded', address: iova }
  if (kind === outcome.interrupt) return { kind: 'interrupt', address: iova }
  const reads = result[resultWord.reads]!
  if (kind === outcome.faulted) {
    return { kind: 'fault', event: eventOf(result), logged: result[resultWord.logged] === 1, reads }
  }
  const tagPasid = result[resultWord.pasid]!
  const rights = result[resultWord.rights]!
  const from = sourceOf(result)
  return {
    kind: 'translated',
    // Not checked to have 52 bits: an entry that passes addresses through passes all 64.
    spa: pair(result, resultWord.spaLo) as Spa,
    sizeLog2: result[resultWord.sizeLog2]!,
    readable: (rights & mayRead) !== 0,
    writable: (rights & mayWrite) !== 0,
    from,
    tag:
      from === 'identity'
        ? undefined
        : { domainId: result[resultWord.domainId]!, pasid: tagPasid < 0 ? undefined : tagPasid },
    filler: from === 'iotlb' ? result[resultWord.filler]! : deviceId,
    reads,
  }
}

/** What {@link describeAts} needs besides the chip. */
interface SnoopControl {
  readonly memory: SparseMemory
  readonly deviceTableCache: DeviceTableCache
}

/** Runs a translation request and puts the answer together. */
export function describeAts(
  iommu: Iommu,
  { memory, deviceTableCache }: SnoopControl,
  asked: Request & { readonly noWrite?: boolean },
): AtsAnswer {
  const kind = ask(
    iommu,
    asked,
    request.translationRequest | (asked.noWrite === true ? request.nonPosted : 0),
  )
  const result = iommu.result
  if (kind === outcome.faulted) {
    return {
      kind: isAbort(result[resultWord.fault]!) ? 'completer-abort' : 'unsupported-request',
      event: eventOf(result),
      logged: result[resultWord.logged] === 1,
    }
  }
  // With the IOMMU off every address is its own translation.
  const isOff = kind === outcome.forwarded
  const rights = result[resultWord.rights]!
  const leafBits = isOff ? 0 : result[resultWord.leafBits]!
  const slot = deviceTableCache.slotOf(asked.deviceId)
  const disablesSnoop = slot !== 0 && (memory.words.array[slot + 3]! & snoopDisable) !== 0
  return {
    kind: 'completed',
    spa: pair(result, resultWord.spaLo) as Spa,
    sizeLog2: isOff ? 64 : result[resultWord.sizeLog2]!,
    readable: (rights & mayRead) !== 0,
    writable: (rights & mayWrite) !== 0,
    executable: asked.execute === true && asked.pasid !== undefined && (rights & mayExecute) !== 0,
    noSnoop: disablesSnoop && !isOff && (leafBits & leafForcesCoherent) === 0,
    untranslatedOnly: (leafBits & leafUntranslatedOnly) !== 0,
    from: isOff ? 'identity' : sourceOf(result),
    reads: result[resultWord.reads]!,
  }
}

/** Runs an interrupt and puts the answer together. */
export function describeInterrupt(
  iommu: Iommu,
  { deviceId, address, data }: InterruptRequest,
): InterruptAnswer {
  checkRange('deviceId', deviceId, 0xffff)
  checkRange('data', data, 0xffffffff)
  if (!isInterruptAddress(address)) {
    throw new RangeError(`address 0x${address.toString(16)} is not a multiple of 4 in an interrupt range`)
  }
  const lo = Number(BigInt.asIntN(32, address))
  const kind = iommu.interrupt(deviceId, lo, Number(address >> 32n), data | 0, 0)
  const result = iommu.interruptResult
  const vector = result[interruptWord.vector]!
  const destination = result[interruptWord.destination]! >>> 0
  switch (kind) {
    case interruptOutcome.forwarded:
      return { kind: 'forwarded', address, data }
    case interruptOutcome.remapped:
      return {
        kind: 'remapped',
        address: pair(result, interruptWord.addressLo),
        data: result[interruptWord.data]! >>> 0,
        vector,
        deliveryMode: result[interruptWord.deliveryMode]!,
        logicalDestination: result[interruptWord.destinationMode] === 1,
        destination,
      }
    case interruptOutcome.posted:
      return {
        kind: 'posted',
        vector,
        requestWord: pair(result, interruptWord.requestLo),
        notice: notices[result[interruptWord.notice]!]!,
        destination,
      }
    default: {
      const hasEvent = result[interruptWord.event + 1] !== 0
      return {
        kind: 'aborted',
        event: hasEvent ? eventAt(result, interruptWord.event) : undefined,
        logged: result[interruptWord.logged] === 1,
      }
    }
  }
}

const notices = ['none', 'doorbell', 'ga-log'] as const

/** Bits of a cached entry's second quad-word and of a leaf, in their high words. */
const snoopDisable = 0x40
const leafForcesCoherent = 0x10000000
const leafUntranslatedOnly = 0x08000000

function ask(iommu: Iommu, asked: Request, moreFlags: number): number {
  const { deviceId, pasid, iova } = asked
  checkRange('deviceId', deviceId, 0xffff)
  if (pasid !== undefined) checkRange('pasid', pasid, 0xfffff)
  if (iova < 0n || iova >= 1n << 64n) throw new RangeError(`iova ${iova} is not from 0 to 2^64 - 1`)
  const flags =
    moreFlags |
    (asked.write === true ? request.write : 0) |
    (asked.execute === true ? request.execute : 0) |
    (asked.supervisor === true ? request.supervisor : 0) |
    (asked.nonPosted === true ? request.nonPosted : 0)
  return iommu.translate(
    deviceId,
    pasid ?? withoutPasid,
    Number(BigInt.asIntN(32, iova)),
    Number(BigInt.asIntN(32, iova >> 32n)),
    flags,
  )
}

function sourceOf(result: Int32Array): 'walk' | 'iotlb' | 'identity' {
  const from = result[resultWord.source]
  if (from === source.iotlb) return 'iotlb'
  return from === source.walk ? 'walk' : 'identity'
}

/** Tables that make no sense are aborted; what the device may not do is not supported. */
function isAbort(fault: number): boolean {
  const code = faultCode(fault)
  if (code === eventCode.ioPageFault) return (fault & eventFlag.present) !== 0
  return code === 0 || code === eventCode.pageTabHardwareError || code === eventCode.devTabHardwareError
}

const isInterruptAddress = (address: bigint): boolean =>
  (address & 3n) === 0n &&
  ((address >= 0xfee00000n && address <= 0xfeefffffn) ||
    (address >= 0xfd00000000n && address <= 0xfdf8ffffffn))

function checkRange(name: string, value: number, max: number): void {
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw new RangeError(`${name} ${value} is not an integer from 0 to ${max}`)
  }
}

const eventOf = (result: Int32Array): readonly [bigint, bigint] => eventAt(result, resultWord.event)

const eventAt = (words: Int32Array, at: number): readonly [bigint, bigint] => [
  pair(words, at),
  pair(words, at + 2),
]

const pair = (words: Int32Array, at: number): bigint =>
  (BigInt(words[at + 1]! >>> 0) << 32n) | BigInt(words[at]! >>> 0)
