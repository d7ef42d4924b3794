/** One device, its interrupt table and what can be expected of a message, for tests of remapping. */
import { encode } from '@nestwalk/bits'
import { expect } from 'vitest'
import { irte128Layout, irte32Layout, irteGuestLayout } from '../src/layout/index.js'
import type { Irte128, Irte32, IrteGuest } from '../src/layout/index.js'
import { event } from './chip.js'
import { InterruptRig, on } from './interrupt-rig.js'
import type { Answer, RigOptions } from './interrupt-rig.js'

export const device = 0x600
export const tableAt = 0x117840000n
export const backingPage = 0x123456000n
export const long = on.iommu | on.guestApic
export const guest = long | on.guestMode

/** IV, 512 entries, remap; words besides are ORed in. */
export const dte = (q2 = 0n, q3 = 0n, q0 = 0n): bigint[] => [q0, 0x42n, 0x2000000117840013n | q2, q3]
export const irte32 = (values: Partial<Irte32>): bigint =>
  encode(irte32Layout, { remapEnabled: true, ...values })[0]!
export const irte128 = (values: Partial<Irte128>): bigint[] => [
  ...encode(irte128Layout, { remapEnabled: true, ...values }),
]
export const irteGuest = (values: Partial<IrteGuest>): bigint[] => [
  ...encode(irteGuestLayout, { remapEnabled: true, guestMode: true, ...values }),
]

export interface Place extends RigOptions {
  readonly dte?: readonly bigint[]
  /** 128 bits, or 32 without GAEn, at index 0. */
  readonly irte?: readonly bigint[]
}

export function rigWith({ dte: words = dte(), irte = [], ...options }: Place = {}): InterruptRig {
  const rig = InterruptRig.create(options)
  rig.setDte(device, words)
  rig.put(tableAt, ...irte)
  return rig
}

export const ask = (place: Place, data = 0, address?: bigint): Answer =>
  rigWith(place).interrupt(device, data, address)

export const zeros = {
  vector: 0,
  deliveryMode: 0,
  destinationMode: 0,
  destination: 0,
  requestEoi: 0,
  notice: 0,
}
export const silence = { event: [0n, 0n], logged: false }

/** The message goes on unchanged, nothing else happens. */
export function expectForwarded(answer: Answer, data: number, address = 0xfee00000n): void {
  expect(answer).toEqual({
    ...zeros,
    ...silence,
    outcome: 'forwarded',
    address,
    data,
    index: 0,
    entry: 0n,
    source: 0,
    requestAt: 0n,
  })
}

/** The message ends here, with the event of four 32-bit words, or without one. */
export function expectAborted(rig: InterruptRig, answer: Answer, words?: string): void {
  const logged = words === undefined ? silence : { event: event(words), logged: true }
  expect(answer).toMatchObject({
    ...zeros,
    ...logged,
    outcome: 'aborted',
    address: 0n,
    data: 0,
    requestAt: 0n,
  })
  expect(rig.events).toEqual(words === undefined ? [] : [event(words)])
  expect(rig.gaLog).toEqual([])
}

export function expectRefused(place: Place, words: string | undefined, data = 0, address?: bigint): void {
  const rig = rigWith(place)
  expectAborted(rig, rig.interrupt(device, data, address), words)
}

export function spaOf(address: bigint): IrteGuest['backingPage'] {
  return address as IrteGuest['backingPage']
}

/** Events of {@link device} that say no more than their kind. */
export const illegalBits = '00000600 10880000 fee00000 00000000'
export const illegalLevel = '00000600 10080000 fee00000 00000000'
export const notPresent = '00000600 20080042 fee00000 00000000'
export const malformed = '00000600 20980042 fee00000 00000000'
