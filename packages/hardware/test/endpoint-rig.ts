/** A device with a translation cache beside a nesting chip, and the way of messages between the two. */
import { deliver, Endpoint } from '../src/endpoint/index.js'
import type { DmaRequest, EndpointOptions } from '../src/endpoint/index.js'
import { Chip, quietControl, register } from './chip.js'
import type { ChipOptions } from './chip.js'
import { guestEntryAt, guestPages, hostPages, nestedChip, nestedDte } from './tables.js'

export const device = 5
export const iotlb = 1n << 32n
export const guestSpa = 0x200000000n + hostPages
export const control = quietControl | (1n << 13n) | (1n << 15n)
export const standard: EndpointOptions = {
  ...{ deviceId: device, pasids: 0x1000, atc: { capacity: 8 } },
  ...{ ats: true, pri: true, outstandingPageRequests: 4 },
}

export interface Rig {
  readonly chip: Chip
  readonly endpoint: Endpoint
  dma(asked: DmaRequest): ReturnType<Endpoint['dma']>
  /** Carries out commands and carries the messages that come of them. */
  command(...commands: readonly (readonly [bigint, bigint])[]): void
}

export function around(chip: Chip, endpoint: Endpoint): Rig {
  return {
    chip,
    endpoint,
    dma: (asked) => endpoint.dma(chip.iommu, asked),
    command: (...commands) => {
      chip.command(...commands)
      deliver(chip.iommu, [endpoint])
    },
  }
}

/** A nested device with ATS, PRI and PASIDs 0, 5 and 0x200. */
export function rig(more: Partial<EndpointOptions> = {}, options: ChipOptions = {}): Rig {
  const chip = nestedChip([device], { control: 0n, ...options })
  const [q0 = 0n, q1 = 0n] = nestedDte(device)
  chip.setDte(device, [q0, q1 | iotlb, 0n, 0n])
  chip.write(0x38, 0x5200000n | (8n << 56n))
  chip.write(register.control, options.control ?? control)
  return around(chip, Endpoint.create(chip.memory.words, { ...standard, ...more }))
}

/** A device whose addresses are their own translations. */
export function identityRig(more: Partial<EndpointOptions> = {}): Rig {
  const chip = Chip.create()
  chip.setDte(device, [0x6000000000000003n, iotlb, 0n, 0n])
  return around(chip, Endpoint.create(chip.memory.words, { ...standard, ...more }))
}

/** The entries of the PPR log: group, whether last, page, and bits 63:48. */
export function pageRequests(chip: Chip): { group: number; last: boolean; page: bigint; flags: number }[] {
  const found = []
  for (let at = 0x5200000n; at < 0x5200000n + chip.read(0x2038); at += 16n) {
    const [lo, hi] = [chip.load(at)!, chip.load(at + 8n)!]
    const [group, flags] = [Number((lo >> 32n) & 0x1ffn), Number(lo >> 48n)]
    found.push({ group, last: ((lo >> 41n) & 1n) === 1n, page: hi, flags })
  }
  return found
}

export const respond = (group: number, code = 0, pasid = 5): readonly [bigint, bigint] => [
  0x7000000000000000n | (BigInt(pasid) << 32n) | BigInt(device),
  (BigInt(group | (code << 12)) << 32n) | 4n,
]
export const flush = (
  pasid: number | undefined,
  address = 0x7ffffffffffff001n,
): readonly [bigint, bigint] => {
  const tagged = BigInt(pasid ?? 0)
  const pieces = ((tagged & 0xffn) << 48n) | (((tagged >> 8n) & 0xffn) << 16n)
  return [0x4000000000000000n | BigInt(device) | pieces, address | (pasid === undefined ? 0n : 4n)]
}
export const page = { pasid: 5, iova: guestPages }
export const absent = { pasid: 5, iova: guestPages + 0x10000n }
export const map = (chip: Chip, iova: bigint, spa: bigint, flags = 7n): void =>
  chip.put([guestEntryAt(1, iova & 0x1fffffn), (spa - 0x200000000n) | flags])
