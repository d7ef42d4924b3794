/** Random programs for a whole chip: stores into its tables, commands legal and not, requests, register writes. */
import fc from 'fast-check'
import { deviceEntryAt, guestEntryAt, guestPages, hostEntryAt, hostPages, nestedDte } from './tables.js'
import { controlBit, quietControl, register } from './chip.js'
import type { Chip } from './chip.js'

export type Operation =
  | {
      readonly kind: 'request'
      readonly deviceId: number
      readonly pasid: number | undefined
      readonly iova: bigint
      readonly write: boolean
    }
  | { readonly kind: 'store'; readonly at: bigint; readonly value: bigint }
  | { readonly kind: 'command'; readonly lo: bigint; readonly hi: bigint }
  | { readonly kind: 'write'; readonly offset: number; readonly value: bigint }
  | { readonly kind: 'step' | 'drain' | 'interrupt' }

export const programDomains = [1, 2, 3] as const

const granted = 3n << 61n
const device = fc.constantFrom(...programDomains)
const page = fc.nat(15).map((n) => BigInt(n) << 12n)
const pasid = fc.constantFrom(undefined, 0, 5, 0x200, 6)
const frame = fc.nat(0xff).map((n) => BigInt(n) << 12n)

const request = fc
  .record({ deviceId: device, pasid, offset: fc.tuple(page, fc.nat(4095)), write: fc.boolean() })
  .map(({ offset, ...rest }) => {
    const base = rest.pasid === undefined ? hostPages : guestPages
    return { kind: 'request' as const, ...rest, iova: base + offset[0] + BigInt(offset[1]) }
  })

const entryOfHost = fc.tuple(
  frame,
  fc.constantFrom(granted | 1n, granted | 1n, granted, (1n << 61n) | 1n, granted | (1n << 52n) | 1n),
)
const entryOfGuest = fc.tuple(frame, fc.constantFrom(7n, 7n, 0x67n, 3n, 5n, 0n))
const dteBits = fc.constantFrom(0n, 3n << 7n, 1n << 7n, 1n << 54n, 1n << 63n, 3n << 61n)
const store = fc
  .oneof(
    fc
      .tuple(page, entryOfHost)
      .map(([at, [to, bits]]) => ({ at: hostEntryAt(hostPages + at), value: (0x300000000n + to) | bits })),
    fc.tuple(fc.nat(2), page, entryOfGuest).map(([n, at, [to, bits]]) => ({
      at: guestEntryAt(n, at),
      value: (hostPages + (to & 0xffffn)) | bits,
    })),
    fc.tuple(device, dteBits, device).map(([deviceId, bits, domainId]) => ({
      at: deviceEntryAt(deviceId),
      value: (nestedDte(domainId)[0] ?? 0n) ^ bits,
    })),
    fc.tuple(device, device, fc.constantFrom(0n, 1n << 33n, 1n << 34n)).map(([deviceId, domainId, bits]) => ({
      at: deviceEntryAt(deviceId) + 8n,
      value: (nestedDte(domainId)[1] ?? 0n) | bits,
    })),
  )
  .map((each) => ({ kind: 'store' as const, ...each }))

const pagesCommand = fc
  .record({
    domain: device,
    pasid: fc.constantFrom(undefined, 0, 5),
    at: page,
    size: fc.constantFrom(0n, 1n, 0x3001n, 0x7ffffffffffff003n),
  })
  .map(({ domain, pasid: of, at, size }) => {
    const base = of === undefined ? hostPages : guestPages | 4n
    const hi = size > 0xffffn ? size | (base & 4n) : base | at | size
    return { lo: 0x3000000000000000n | (BigInt(domain) << 32n) | BigInt(of ?? 0), hi }
  })
const command = fc
  .oneof(
    { weight: 4, arbitrary: pagesCommand },
    {
      weight: 3,
      arbitrary: device.map((deviceId) => ({ lo: 0x2000000000000000n | BigInt(deviceId), hi: 0n })),
    },
    {
      weight: 2,
      arbitrary: fc.nat(7).map((n) => ({ lo: 0x1000000006000003n + BigInt(n * 8), hi: BigInt(n + 1) })),
    },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        { lo: 0x8000000000000000n, hi: 0n },
        { lo: 0n, hi: 0n },
        { lo: 0x10fffffffffffff9n, hi: 0n },
      ),
    },
  )
  .map((each) => ({ kind: 'command' as const, ...each }))

/** A, D and interrupts in all combinations; the queues mostly on. */
const control = fc
  .subarray([
    controlBit.guestAccessedOff,
    controlBit.guestDirtyOff,
    controlBit.hostAccessed,
    controlBit.hostDirty,
    controlBit.eventIntEn,
    controlBit.comWaitIntEn,
  ])
  .chain((bits) =>
    fc
      .constantFrom(0n, 0n, 0n, controlBit.cmdBufEn, controlBit.eventLogEn, controlBit.gtEn)
      .map(
        (off) =>
          bits.reduce(
            (sum, bit) => sum | bit,
            quietControl & ~(controlBit.guestAccessedOff | controlBit.guestDirtyOff),
          ) & ~off,
      ),
  )
const write = fc
  .oneof(
    control.map((value) => ({ offset: register.control, value })),
    fc.constant({ offset: register.status, value: 0xffffffffn }),
    fc.nat(255).map((slot) => ({ offset: register.eventHead, value: BigInt(slot) << 4n })),
  )
  .map((each) => ({ kind: 'write' as const, ...each }))

export const operation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 10, arbitrary: request },
  { weight: 5, arbitrary: store },
  { weight: 5, arbitrary: command },
  { weight: 1, arbitrary: write },
  { weight: 2, arbitrary: fc.constantFrom('step', 'drain', 'interrupt').map((kind) => ({ kind })) },
)

const shown = (value: unknown): string =>
  JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? `0x${each.toString(16)}` : each))

/** Carries out an operation and tells all that can be seen of it. */
export function perform(chip: Chip, each: Operation): string {
  switch (each.kind) {
    case 'request': {
      const { kind: _, ...asked } = each
      return shown(chip.iommu.request(asked))
    }
    case 'store':
      chip.put([each.at, each.value])
      return ''
    case 'command':
      return shown(chip.command([each.lo, each.hi]))
    case 'write':
      chip.write(each.offset, each.value)
      return shown(chip.read(register.status))
    case 'step':
      return shown(chip.iommu.step())
    case 'drain':
      return shown(chip.takeEvents())
    case 'interrupt':
      return shown(chip.iommu.takeInterrupt())
  }
}

/** What stands in a chip's caches and registers, in a canonical order. */
export function visible(chip: Chip): string {
  const registers = Object.values(register).map((offset) => chip.read(offset))
  const entries = chip.iommu.iotlbEntries().map(shown).sort()
  return shown({ registers, entries, devices: chip.iommu.cachedDeviceIds() })
}
