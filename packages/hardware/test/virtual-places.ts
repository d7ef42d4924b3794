/** Where things lie in tests of the hardware vIOMMU: registers, private memory, guests' rings, entries of the device table. */
import { wordOf } from '@nestwalk/bits'
import { nestingFeatures } from '../src/index.js'
import type { FeatureRegisters } from '../src/index.js'
import { quietControl } from './chip.js'
import type { Dte } from './chip.js'

export type Pair = readonly [lo: bigint, hi: bigint]

const bit = (n: number): bigint => 1n << BigInt(n)

/** Control bits of the hardware vIOMMU. */
export const virtualControl = { vCmdEn: bit(52), viommuEn: bit(53), guestBuffersNested: bit(60) } as const
export const virtualFeatures: FeatureRegisters = { ...nestingFeatures, efr: nestingFeatures.efr | bit(55) }
export const onControl = quietControl | bit(15) | virtualControl.vCmdEn | virtualControl.viommuEn

/** Registers that control a guest, and registers of its page: offsets. */
export const vfc = {
  device: 0,
  domain: 8,
  misc: 0x10,
  eventB: 0x18,
  command: 0x20,
  event: 0x28,
  ppr: 0x30,
  pprB: 0x38,
}
export const page = {
  ...{ commandHead: 0, commandTail: 8, eventHead: 0x10, eventTail: 0x18, status: 0x20 },
  ...{ pprHead: 0x30, pprTail: 0x38, pprBHead: 0x50, pprBTail: 0x58, eventBHead: 0x70, eventBTail: 0x78 },
  ...{ autoResponse: 0x80 },
}

/** Private address of a guest's piece of an area. */
export const privateAt = {
  devices: (guestId: number): bigint => 0x10_0000_0000n + BigInt(guestId) * 0x100000n,
  domains: (guestId: number): bigint => 0x20_0000_0000n + BigInt(guestId) * 0x80000n,
  commands: (guestId: number): bigint => 0x28_0000_0000n + BigInt(guestId) * 0x80000n,
  ppr: (guestId: number): bigint => 0x30_0000_0000n + BigInt(guestId) * 0x80000n,
  pprB: (guestId: number): bigint => 0x38_0000_0000n + BigInt(guestId) * 0x80000n,
  events: (guestId: number): bigint => 0x40_0000_0000n + BigInt(guestId) * 0x80000n,
  eventsB: (guestId: number): bigint => 0x48_0000_0000n + BigInt(guestId) * 0x80000n,
}

/** SPA behind a private address, and behind a GPA of a guest. */
export const behind = (address: bigint): bigint => address + 0x50_0000_0000n
export const guestSpa = (guestId: number, gpa: bigint): bigint =>
  0x3_0000_0000n + BigInt(guestId) * 0x1000_0000n + gpa

/** GPAs at which the guest believes its rings to be. */
export const ring = { commands: 0x10000n, events: 0x20000n, eventsB: 0x28000n, ppr: 0x30000n, pprB: 0x38000n }
/** Enabled, 256 entries. */
export const ringOn = 0x108n

export const ownDeviceId = 2
export const ownRoot = 0x8000000n
export const translateDevice = (guestId: number): number => 0x100 + guestId
export const guestRoot = (guestId: number): bigint => 0x9000000n + BigInt(guestId) * 0x10000n
const valid = 0x6000000000000003n
/** An entry that translates by three levels. */
export const hostDte = (root: bigint, domainId: number): Dte => [
  valid | root | (3n << 9n),
  BigInt(domainId),
  0n,
  0n,
]
/** The same for a device of a guest. */
export const guestDte = (guestId: number, guestDevice: number, domainId: number): Dte => [
  valid | guestRoot(guestId) | (3n << 9n),
  BigInt(domainId),
  0n,
  (BigInt(guestId) << 32n) | (BigInt(guestDevice) << 16n) | 0x8000n,
]

/** An event from its four 32-bit words as manuals print them. */
export function words(text: string): Pair {
  const [w0 = 0, w1 = 0, w2 = 0, w3 = 0] = text.split(' ').map((word) => parseInt(word, 16))
  return [wordOf(w0, w1), wordOf(w2, w3)]
}

export const int32s = (text: string): Int32Array =>
  Int32Array.from(text.split(' '), (word) => parseInt(word, 16))

/** Everything on but one bit of control. */
export const offControl = (off: bigint): bigint => onControl & ~off
