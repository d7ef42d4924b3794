/** Two guests of a hardware vIOMMU with devices and domains of their own, and what tests ask of them. */
import { expect } from 'vitest'
import { guestDte, onControl, page, virtualControl, VirtualRig } from './virtual-rig.js'
import type { Pair, RigOptions } from './virtual-rig.js'

export const everything = 0x7ffffffffffff003n
export const waitInterrupt: Pair = [0x1000000000000002n, 0n]
export const store = (gpa: bigint, data: bigint): Pair => [0x1000000000000001n | gpa, data]
export const nested = onControl | virtualControl.guestBuffersNested

/** Devices of the host with their domains: 10h and 11h are guest 3's, 12h is guest 4's, 13h nobody's. */
const hostDevices = [
  [0x10, 7],
  [0x11, 8],
  [0x12, 9],
  [0x13, 10],
] as const

/** Guests 3 and 4; guest 3 has domains 5 and 6 for 7 and 8, and devices 20h and 21h for 10h and 11h. */
export function rigWithGuests(options: RigOptions = {}): VirtualRig {
  const rig = VirtualRig.create(options)
  rig.addGuest(3)
  rig.addGuest(4)
  hostDevices.forEach(([deviceId, domainId], n) => {
    rig.setDte(deviceId, guestDte(n < 2 ? 3 : 4, 0x20 + n, domainId))
  })
  rig.mapDomain(3, 5, 7)
  rig.mapDomain(3, 6, 8)
  rig.mapDevice(3, 0x20, 0x10)
  rig.mapDevice(3, 0x21, 0x11)
  rig.mapDomain(4, 5, 9)
  rig.mapDevice(4, 0x20, 0x12)
  return rig
}

/** Fills caches for all of the host's devices. */
export function warm(rig: VirtualRig): void {
  for (const [deviceId] of hostDevices) rig.touch(deviceId, 0x1000n)
  expect(rig.cachedDomains()).toEqual([7, 8, 9, 10])
}

/** What a guest's command becomes: the words that the host's commands get. */
export function rewritten(rig: VirtualRig, guestId: number, command: Pair): string[] {
  const seen: string[] = []
  const hex = (word: number): string => (word >>> 0).toString(16).padStart(8, '0')
  rig.enqueue(guestId, command)
  rig.virtual.stepGuest(guestId, {
    asker: -1,
    carryOut: (...given) => {
      seen.push(given.slice(0, 4).map(hex).join(' '))
      return 0
    },
  })
  return seen
}

/** What tells guest 3 that its nth command stopped its queue. */
export function expectHalt(rig: VirtualRig, event: Pair, head = 0n): void {
  expect(rig.page(3, page.status) & 0x10n).toBe(0n)
  expect(rig.page(3, page.commandHead)).toBe(head)
  expect(rig.guestEvents(3)).toEqual([event])
  expect(rig.step(3)).toBe(false)
}

export const illegalAt = (gpa: bigint): Pair => [0x5000000000000000n, gpa]
export const hardwareErrorAt = (gpa: bigint): Pair => [0x6200000000000000n, gpa]
