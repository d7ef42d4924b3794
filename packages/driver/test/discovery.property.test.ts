/** Discovery against a plain reading of the table, entry by entry and device by device; and against bytes that mean harm. */
import { encodeIvrs, Iommu, SparseMemory } from '@nestwalk/hardware'
import type { DeviceEntry, IommuPort, Ivmd } from '@nestwalk/hardware'
import { Driver } from '@nestwalk/driver'
import type { Effect } from '@nestwalk/driver'
import { spa } from '@nestwalk/bits'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { foundByFirmware } from '../src/discovery.js'
import { persistentBits, settingsFor, settingsRuns } from '../src/firmware-settings.js'
import { mapsForDevice, missingMaps, unityMapsOf } from '../src/unity-map.js'
import { bytesOf, ivhd, ivmd, table } from './firmware.js'
import { runs } from './runs.js'

/** Few DeviceIDs, so that entries meet. */
const lastDevice = 23
const deviceId = fc.nat({ max: lastDevice })
const settings = fc.oneof(fc.constant(0), fc.nat({ max: 0xff }))

const entry: fc.Arbitrary<DeviceEntry> = fc.oneof(
  fc.record({
    kind: fc.constantFrom('all' as const, 'select' as const, 'rangeStart' as const, 'rangeEnd' as const),
    deviceId,
    settings,
  }),
  fc.record({
    kind: fc.constantFrom('aliasSelect' as const, 'aliasStart' as const),
    ...{ deviceId, settings, alias: deviceId, reserved: fc.constant(0) },
  }),
  fc.record({
    kind: fc.constantFrom('extendedSelect' as const, 'extendedStart' as const),
    ...{ deviceId, settings, atsDisabled: fc.boolean(), reserved: fc.constant(0) },
  }),
  fc.record({
    kind: fc.constant('special' as const),
    ...{ handle: fc.nat({ max: 255 }), deviceId, variety: fc.constantFrom(1, 2), settings },
    reserved: fc.constant(0),
  }),
)

const entries = fc.array(entry, { maxLength: 10 })
const iommus = fc.array(entries, { minLength: 1, maxLength: 3 })

/** What is known of one device, as Linux keeps it in its tables. */
interface Known {
  iommu: number
  alias: number | undefined
  bits: number
  atsDisabled: boolean
}

/** Reads the entries of all IOMMUs one after the other, and writes down what each says of each device. */
function readPlainly(all: readonly (readonly DeviceEntry[])[]): Map<number, Known> {
  const known = new Map<number, Known>()
  const say = (iommu: number, device: number, bits: number, alias?: number, atsDisabled = false): void => {
    const old = known.get(device) ?? { iommu, alias: undefined, bits: 0, atsDisabled: false }
    known.set(device, {
      iommu,
      alias: alias ?? old.alias,
      bits: old.bits | bits,
      atsDisabled: old.atsDisabled || atsDisabled,
    })
  }
  all.forEach((list, iommu) => {
    let open: DeviceEntry | undefined
    for (const each of list) {
      let [first, last, what]: [number, number, DeviceEntry] = [1, 0, each]
      if (each.kind === 'rangeStart' || each.kind === 'aliasStart' || each.kind === 'extendedStart')
        open = each
      else if (each.kind === 'all') [first, last] = [0, 0xffff]
      else if (each.kind === 'rangeEnd') {
        if (open !== undefined && 'deviceId' in open)
          [first, last, what] = [open.deviceId, each.deviceId, open]
        open = undefined
      } else if ('deviceId' in each) [first, last] = [each.deviceId, each.deviceId]
      if (!('settings' in what) || first > last) continue
      for (let device = first; device <= Math.min(last, lastDevice); device++) {
        const alias = 'alias' in what ? what.alias : undefined
        say(iommu, device, what.settings, alias, 'atsDisabled' in what && what.atsDisabled)
      }
      if ('alias' in what) say(iommu, what.alias, what.settings)
    }
  })
  return known
}

const memory = SparseMemory.create(1 << 24)
const chips = [1, 2, 3].map((iommuDeviceId) => Iommu.create({ memory, pci: { iommuDeviceId } }))

const bytesFor = (all: readonly (readonly DeviceEntry[])[], maps: readonly Ivmd[] = []): Uint8Array =>
  bytesOf(
    ...all.map((list, i) => ivhd(list, { deviceId: 0x100 + i, mmioBase: 0xfeb80000n + BigInt(i << 19) })),
    ...maps,
  )

const often = { numRuns: runs(300) }

describe('random tables', () => {
  it('mean of each device what reading entry by entry gives', () => {
    fc.assert(
      fc.property(iommus, (all) => {
        const discovery = foundByFirmware(bytesFor(all), 0, chips.slice(0, all.length))
        if ('ok' in discovery) throw new Error(discovery.why)
        const known = readPlainly(all)
        for (let device = 0; device <= lastDevice; device++) {
          const expected = known.get(device)
          const found = settingsFor(discovery.ranges ?? [], device)
          if (expected === undefined) {
            expect(found).toBeUndefined()
            continue
          }
          const { iommu, alias, bits, atsDisabled } = expected
          expect(found).toEqual({
            iommu,
            aliases: alias === undefined || alias === device ? [] : [alias],
            persistentBits: persistentBits(bits),
            atsAllowed: !atsDisabled,
          })
        }
      }),
      often,
    )
  })

  it('give each device the bits in the first device table that reading entry by entry gives', () => {
    fc.assert(
      fc.property(iommus, (all) => {
        const discovery = foundByFirmware(bytesFor(all), 0, chips.slice(0, all.length))
        if ('ok' in discovery) throw new Error(discovery.why)
        const found = settingsRuns(discovery.ranges ?? [])
        const known = readPlainly(all)
        for (let device = 0; device <= lastDevice; device++) {
          const its = found.filter(({ first, last }) => first <= device && device <= last)
          expect(its.length).toBeLessThanOrEqual(1)
          expect(its[0]?.settings ?? 0).toBe(known.get(device)?.bits ?? 0)
        }
        // Ascending and apart.
        for (const [i, { first }] of found.entries()) expect(first).toBeGreaterThan(found[i - 1]?.last ?? -1)
      }),
      often,
    )
  })
})

/** Maps of a few pages around each other. */
const map = fc
  .record({
    start: fc.bigInt({ min: 0n, max: 0x9fffn }),
    byteLength: fc.bigInt({ min: 0n, max: 0x5000n }),
    ...{ deviceId, auxiliary: deviceId, type: fc.constantFrom(0x20 as const, 0x21 as const, 0x22 as const) },
    flags: fc.record({
      ...{ unity: fc.boolean(), ir: fc.boolean(), iw: fc.boolean(), exclusion: fc.boolean() },
      reserved: fc.constant(0),
    }),
  })
  .map((changes) => ivmd(changes))
const maps = fc.array(map, { maxLength: 8 })

describe('random unity maps', () => {
  it('give each device each page once, with the rights of the first map that has it', () => {
    fc.assert(
      fc.property(maps, deviceId, (blocks, device) => {
        const found = missingMaps(mapsForDevice(unityMapsOf(table(blocks), 0), device), [])
        for (let page = 0n; page < 0x10n; page++) {
          const first = blocks.find(({ type, flags, start, byteLength, ...block }) => {
            const isFor =
              type === 0x20 ||
              (type === 0x21 && block.deviceId === device) ||
              (type === 0x22 && block.deviceId <= device && device <= block.auxiliary)
            const touches =
              byteLength > 0n && start >> 12n <= page && page <= (start + byteLength - 1n) >> 12n
            return isFor && touches && (flags.unity || flags.exclusion)
          })
          const has = found.filter(
            ({ start, byteLength }) => start <= page << 12n && page << 12n < start + byteLength,
          )
          expect(has.map(({ rights }) => rights)).toEqual(
            first === undefined
              ? []
              : [
                  {
                    read: first.flags.exclusion || first.flags.ir,
                    write: first.flags.exclusion || first.flags.iw,
                  },
                ],
          )
        }
      }),
      often,
    )
  })
})

/** A port that does nothing, with a configuration space of given bytes. */
const portWith = (bytes: Uint8Array): IommuPort => {
  const view = new DataView(bytes.buffer)
  const port = {
    readMmio: () => 0xffff_ffff_ffff_ffffn,
    writeMmio: () => undefined,
    takeInterrupt: () => undefined,
    readConfig: (offset: number) =>
      offset % 4 === 0 && offset < bytes.length ? view.getInt32(offset, true) : 0,
    writeConfig: () => undefined,
  }
  return port
}

const pages = { first: spa(0x100000n), pages: 64 }

/** Whether an effect writes memory that is not the driver's. */
function isOutside(effect: Effect): boolean {
  if (effect.kind !== 'store' && effect.kind !== 'fill') return false
  const bytes =
    effect.kind === 'store' ? effect.words.length * 8 : (effect.count - 1) * effect.strideBytes + 8
  const end = pages.first + BigInt(pages.pages) * 4096n
  return effect.address < pages.first || effect.address + BigInt(bytes) > end
}

/** Creates a driver from a table: it is made, or refused with a reason; nothing else may happen. Whether it was made. */
function tryBoot(ivrs: Uint8Array, ports: readonly IommuPort[]): boolean {
  const made = Driver.create({
    ...{ ivrs, ports, memory, pages, lastDeviceId: 0x7f, lastDomainId: 7, systemDefault: 'dma' },
  })
  if (!made.ok) {
    expect(made.why).not.toBe('')
    return false
  }
  expect(made.effects.filter(isOutside)).toEqual([])
  for (const device of [0, 0x10, 0x7f, 0x80]) {
    const probed = made.value.probe(device, device)
    expect(probed.ok ? probed.effects.filter(isOutside) : []).toEqual([])
  }
  return true
}

describe('hostile firmware', () => {
  const whole = fc
    .tuple(iommus, maps)
    .map(([all, blocks]) => [bytesFor(all, blocks), chips.slice(0, all.length)] as const)

  it('that changes or cuts bytes is refused with a reason, or makes a driver', () => {
    const damage = fc.array(fc.tuple(fc.nat(1 << 16), fc.nat({ max: 0xff })), { minLength: 1, maxLength: 6 })
    fc.assert(
      fc.property(whole, damage, fc.nat(400), ([bytes, ports], changes, length) => {
        expect(tryBoot(bytes, ports)).toBe(true)
        for (const [at, byte] of changes) bytes[at % bytes.length] = byte
        tryBoot(bytes, ports)
        tryBoot(bytes.subarray(0, length), ports)
      }),
      often,
    )
  })

  it('that gives any bytes at all, as table or as configuration space, too', () => {
    const header = encodeIvrs(table([])).subarray(0, 48)
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 300 }),
        fc.uint8Array({ minLength: 256, maxLength: 256 }),
        (any, space) => {
          tryBoot(any, chips)
          const sealed = Uint8Array.of(...header, ...any)
          new DataView(sealed.buffer).setUint32(4, sealed.length, true)
          tryBoot(sealed, chips)
          tryBoot(bytesFor([[]]), [portWith(space)])
          // The capability itself is right, but for what else it says.
          new DataView(space.buffer).setUint32(0x40, 0xb000f, true)
          tryBoot(bytesFor([[]]), [portWith(space)])
        },
      ),
      often,
    )
  })

  it('that wants the whole of memory mapped, again and again, is done with in bounded time', () => {
    const wide = Array.from({ length: 300 }, (_, i) =>
      ivmd({ type: 0x20, deviceId: 0, start: BigInt(i) << 13n, byteLength: 1n << 51n }),
    )
    const bytes = bytesFor([[{ kind: 'all', deviceId: 0, settings: 0xff }]], wide)
    expect(tryBoot(bytes, chips.slice(0, 1))).toBe(true)
  })
})
