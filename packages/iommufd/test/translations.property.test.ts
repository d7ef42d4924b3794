/** One IOAS under several HWPTs: they all translate alike, whenever they were made. */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { d1, d2, d3, d4, Host, mapping } from './host.js'

interface Area {
  readonly from: bigint
  readonly to: bigint
  readonly length: bigint
  readonly rights: 'rw' | 'r' | 'w'
}

const page = 0x1000n

/** Areas of up to 8 MiB whose addresses agree in a random number of low bits, so that every page size comes up. */
const area: fc.Arbitrary<Area> = fc
  .record({
    slot: fc.nat({ max: 7 }),
    offset: fc.nat({ max: 0x3ff }),
    target: fc.nat({ max: 0x3fff }),
    pages: fc.oneof(fc.integer({ min: 1, max: 16 }), fc.constantFrom(256, 512, 1024, 1536)),
    alignLog2: fc.constantFrom(0, 3, 9),
    rights: fc.constantFrom('rw', 'r', 'w'),
  })
  .map(({ slot, offset, target, pages, alignLog2, rights }): Area => {
    const align = (frame: number): bigint => BigInt((frame >> alignLog2) << alignLog2)
    // Slots of 16 MiB; the last four are above what three levels reach.
    const base = BigInt(slot % 4) * 0x1000n + (slot < 4 ? 0n : 0x1_0000_0000n)
    return {
      from: (base + align(offset)) * page,
      to: (0x10_0000n + align(target)) * page,
      length: BigInt(pages) * page,
      rights,
    }
  })

type Step =
  | { readonly do: 'map'; readonly area: Area }
  | { readonly do: 'unmap'; readonly nth: number }
  | { readonly do: 'hwpt' }

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: area.map((each) => ({ do: 'map', area: each }) as const) },
  { weight: 3, arbitrary: fc.nat({ max: 7 }).map((nth) => ({ do: 'unmap', nth }) as const) },
  { weight: 2, arbitrary: fc.constant({ do: 'hwpt' } as const) },
)

const devices = [d1, d2, d3, d4]

/** Where an address leads by the areas alone. */
function expected(areas: readonly Area[], address: bigint): string {
  const area = areas.find(({ from, length }) => address >= from && address < from + length)
  if (area === undefined || area.rights === 'w') return 'fault'
  const spa = (area.to + (address - area.from)).toString(16)
  return area.rights === 'rw' ? spa : `${spa} r`
}

it('a mapping made before HWPT_ALLOC and one made after it translate alike, and an unmap reaches every HWPT', () => {
  const fresh = Host.create({ groupRule: 'per-member' })
  fc.assert(
    fc.property(fc.array(step, { minLength: 3, maxLength: 14 }), (steps) => {
      const host = fresh.fork()
      const context = host.iommufd.open()
      const bound = devices.map((deviceId) => host.run(context.bind(deviceId)))
      const ioas = host.run(context.ioasAlloc())
      let attached = 0
      let areas: Area[] = []
      const addHwpt = (): void => {
        const device = bound[attached]
        if (device === undefined) return
        host.run(context.attach(device, host.run(context.hwptAlloc({ device, pageTable: ioas }))))
        attached += 1
      }
      const probed = new Set<bigint>()
      addHwpt()
      for (const each of [...steps, { do: 'hwpt' } as const]) {
        if (each.do === 'hwpt') {
          addHwpt()
        } else if (each.do === 'map') {
          const { from, to, length, rights } = each.area
          const more = { readable: rights !== 'w', writeable: rights !== 'r' }
          const mapped = context.ioasMap(mapping(ioas, from, to, length, more))
          const isFree = !areas.some(
            (other) => from < other.from + other.length && other.from < from + length,
          )
          expect(mapped.ok).toBe(isFree)
          if (!mapped.ok) continue
          host.run(mapped)
          areas.push(each.area)
        } else {
          const victim = areas[each.nth % Math.max(1, areas.length)]
          if (victim === undefined) continue
          expect(host.run(context.ioasUnmap(ioas, victim.from, victim.length))).toEqual({
            bytes: victim.length,
          })
          areas = areas.filter((other) => other !== victim)
        }
        for (const { from, length } of areas) {
          for (const probe of [from, from + 0x18n, from + length / 2n, from + length - 8n, from + length]) {
            probed.add(probe)
          }
        }
        const wrong: unknown[] = []
        for (const deviceId of devices.slice(0, attached)) {
          for (const probe of probed) {
            const answers = [
              expected(areas, probe),
              host.leads(deviceId, probe),
              host.request(deviceId, probe),
            ]
            if (new Set(answers).size > 1) wrong.push([deviceId, probe, ...answers])
          }
        }
        expect(wrong).toEqual([])
      }
    }),
    { numRuns: 30 },
  )
})
