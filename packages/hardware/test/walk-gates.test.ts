/** Bits of a device table entry that a feature and its control open: without them they count as reserved. */
import { describe, expect, it } from 'vitest'
import { nestingFeatures } from '../src/index.js'
import { Chip, controlBit, event, quietControl, register } from './chip.js'
import type { ChipOptions } from './chip.js'

const device = 0x600
const passing = 0x6000000000000003n
const bit = (n: number): bigint => 1n << BigInt(n)
const open = quietControl | controlBit.ephEn | bit(53)

interface Gate {
  readonly name: string
  /** Bit of EFR. */
  readonly feature: number
  /** Bit of the control register, if there is one. */
  readonly control?: number
  /** Bits of the entry, 0 to 255. */
  readonly bits: readonly number[]
  readonly switches?: ChipOptions['switches']
}

const gates: readonly Gate[] = [
  { name: 'PPR and GPRP', feature: 50, control: 45, bits: [52, 53] },
  // Of GLX and the GCR3 root, with GV=0: the first and the last bit of each part.
  { name: 'GV, GLX and the GCR3 root', feature: 4, control: 16, bits: [56, 58, 60, 80, 95, 107, 127] },
  { name: 'GIoV', feature: 48, bits: [54] },
  { name: 'SATS', feature: 31, bits: [106] },
  {
    name: 'vImuEn, where the upper half counts',
    ...{ feature: 55, control: 53, bits: [207] },
    switches: { upperHalfOnMemory: 'illegal-dev-table-entry' },
  },
]

const all = gates.reduce((efr, { feature }) => efr | bit(feature), nestingFeatures.efr)

/** A request's answer: is the entry with one bit more legal? */
function isLegal(chip: Chip): boolean {
  const answer = chip.iommu.request({ deviceId: device, iova: 0x1000n })
  if (answer.kind === 'translated') return true
  expect(answer).toMatchObject({ kind: 'fault', event: event('00000600 10800000 00001000 00000000') })
  return false
}

function chipOf({ switches = {} }: Gate, efr: bigint, control: bigint, entryBit: number): Chip {
  const chip = Chip.create({ features: { ...nestingFeatures, efr }, switches, control })
  const words = [passing, 0n, 0n, 0n]
  const at = entryBit >> 6
  words[at] = (words[at] ?? 0n) | bit(entryBit & 63)
  chip.setDte(device, words)
  return chip
}

describe.each(gates)('$name', (gate) => {
  const { feature, control } = gate

  it('is legal with the feature, and where that has a control, with both', () => {
    for (const entryBit of gate.bits) {
      expect(isLegal(chipOf(gate, all, open, entryBit)), `bit ${entryBit}`).toBe(true)
      expect(isLegal(chipOf(gate, all & ~bit(feature), open, entryBit)), `bit ${entryBit}`).toBe(false)
      if (control === undefined) continue
      const shut = open & ~bit(control)
      expect(isLegal(chipOf(gate, all, shut, entryBit)), `bit ${entryBit}`).toBe(false)
      expect(isLegal(chipOf(gate, all & ~bit(feature), shut, entryBit)), `bit ${entryBit}`).toBe(false)
    }
  })

  it('follows the control at once, for cached entries too', () => {
    if (control === undefined) return
    for (const entryBit of gate.bits) {
      const chip = chipOf(gate, all, open, entryBit)
      expect(isLegal(chip)).toBe(true)
      chip.write(register.control, open & ~bit(control))
      expect(isLegal(chip)).toBe(false)
      chip.write(register.control, open)
      expect(isLegal(chip)).toBe(true)
    }
  })
})

describe('the device table in segments', () => {
  it.each([
    [0, [0]],
    [1, [0, 0x8000]],
    [2, [0, 0x4000, 0x8000, 0xc000]],
    [3, [0, 0x2000, 0x4000, 0x6000, 0x8000, 0xa000, 0xc000, 0xe000]],
    // Reserved: as the largest that is listed.
    [5, [0, 0x2000, 0x4000, 0x6000, 0x8000, 0xa000, 0xc000, 0xe000]],
  ])(
    'by DevTblSegEn %d has one for each of %j, and its entries are found by the other bits',
    (code, firsts) => {
      const chip = Chip.create({ control: quietControl | (BigInt(code) << 34n) })
      const tableOf = (segment: number): bigint => 0x6000000n + BigInt(segment) * 0x200000n
      // Two pages of entries each.
      firsts.forEach((_, n) => {
        chip.write(n === 0 ? register.deviceTableBase : register.segment1Base + (n - 1) * 8, tableOf(n) | 1n)
      })
      firsts.forEach((first, n) => {
        for (const index of [0, 1, 0xff]) {
          chip.put([tableOf(n) + BigInt(index * 32), passing])
          const answer = chip.iommu.request({ deviceId: first + index, iova: 0x1000n })
          expect(answer).toMatchObject({ kind: 'translated', spa: 0x1000n })
        }
        // One that no other segment has.
        chip.put([tableOf(n) + BigInt((16 + n) * 32), passing])
        const own = chip.iommu.request({ deviceId: first + 16 + n, iova: 0x1000n })
        expect(own).toMatchObject({ kind: 'translated', spa: 0x1000n })
        chip.put([tableOf(n) + 0x2000n, passing])
        const beyond = chip.iommu.request({ deviceId: first + 0x100, iova: 0x1000n })
        expect(beyond).toMatchObject({ kind: 'fault', logged: true })
      })
    },
  )

  it('may lie across a 4 GiB border', () => {
    const chip = Chip.create()
    chip.write(register.deviceTableBase, 0xfffff000n | 1n)
    for (const deviceId of [0x7f, 0x80, 0xff]) {
      chip.put([0xfffff000n + BigInt(deviceId * 32), passing])
      expect(chip.iommu.request({ deviceId, iova: 0x1000n })).toMatchObject({ kind: 'translated' })
      expect(chip.iommu.request({ deviceId: deviceId - 0x40, iova: 0x1000n })).toEqual({
        kind: 'forwarded',
        address: 0x1000n,
      })
    }
  })
})
