/** The masks of the fast model against the layout of the manual: every bit of 256 under every combination of gates. */
import { encode } from '@nestwalk/bits'
import type { Field, Span } from '@nestwalk/bits'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeDte, dteLayout, encodeDte } from '../layout/index.js'
import type { Dte } from '../layout/index.js'
import { switches } from '../switches.js'
import { gcr3RootHi, gcr3RootLo, levelFault, reservedBitFault } from './device-entry.js'
import type { EntryGates } from './device-entry.js'
import { badEncoding, illegalDeviceEntryBits, illegalDeviceEntryLevel, noFault } from './fault.js'

const open: EntryGates = {
  guestTables: true,
  guestIoProtection: true,
  pageRequests: true,
  secureAts: true,
  hostLevels: 6,
  guestLevels: 5,
  gcr3Levels: 3,
  viommu: true,
  modeZeroIllegal: false,
}
const flags = ['guestTables', 'guestIoProtection', 'pageRequests', 'secureAts'] as const
const everyGates = Array.from({ length: 16 }, (_, n): EntryGates => ({
  ...open,
  ...Object.fromEntries(flags.map((flag, bit) => [flag, (n >> bit) % 2 === 1])),
}))

/** The fields that a gate opens. */
const gated: Readonly<Record<(typeof flags)[number], readonly (keyof Dte)[]>> = {
  guestTables: ['guestValid', 'gcr3Levels', 'gcr3Root'],
  guestIoProtection: ['guestIoValid'],
  pageRequests: ['pageRequestsAllowed', 'pageResponseHasPasid'],
  secureAts: ['secureAts'],
}

const fields = Object.entries(dteLayout.fields) as [keyof Dte, Field<unknown>][]
const covers = ({ hi, lo }: Span, bit: number): boolean => lo <= bit && bit <= hi
const fieldAt = (bit: number): keyof Dte | undefined =>
  fields.find(([, { spans }]) => spans.some((span) => covers(span, bit)))?.[0]

/** Section 2.6 of the manual's rules, for one bit of an entry with V=1: only the lower half counts for requests. */
function isLegalBit(bit: number, gates: EntryGates): boolean {
  if (bit >= 128) return true
  const field = fieldAt(bit)
  if (field === undefined) return false
  return flags.every((flag) => gates[flag] || !gated[flag].includes(field))
}

const pool = (words: BigUint64Array): Int32Array => new Int32Array(words.buffer)
const entry = (values: Partial<Dte>): Int32Array => pool(encodeDte(values))

function entryWithBit(bit: number, valid: boolean): Int32Array {
  const words = encode(dteLayout, { valid })
  words[bit >> 6] = (words[bit >> 6] ?? 0n) | (1n << BigInt(bit & 63))
  return pool(words)
}

describe('a bit of a device table entry', { timeout: 120_000 }, () => {
  it('is reserved where the layout has no field or the gate of its field is shut, with V=1', () => {
    for (const gates of everyGates) {
      for (let bit = 1; bit < 256; bit++) {
        const expected = isLegalBit(bit, gates) ? noFault : illegalDeviceEntryBits
        expect(reservedBitFault(entryWithBit(bit, true), 0, gates, switches()), `bit ${bit}`).toBe(expected)
      }
    }
  })

  it('does not matter with V=0', () => {
    for (const gates of everyGates) {
      for (let bit = 1; bit < 256; bit++) {
        expect(reservedBitFault(entryWithBit(bit, false), 0, gates, switches())).toBe(noFault)
        expect(levelFault(entryWithBit(bit, false), 0, gates, switches())).toBe(noFault)
      }
    }
  })

  it('of HAD must not make 10, which counts only with TV=1', () => {
    for (const hostAccessDirty of [0, 1, 2, 3]) {
      const dte = { valid: true, hostAccessDirty }
      const expected = hostAccessDirty === 2 ? illegalDeviceEntryBits : noFault
      expect(reservedBitFault(entry(dte), 0, open, switches())).toBe(noFault)
      expect(reservedBitFault(entry({ ...dte, translationValid: true }), 0, open, switches())).toBe(expected)
    }
  })
})

describe('a level of a device table entry', () => {
  const valid = { valid: true, translationValid: true }
  const level = (values: Partial<Dte>, gates = open, chosen = switches()): number =>
    levelFault(entry({ ...valid, ...values }), 0, gates, chosen)

  it('is legal as far as the features reach: Mode', () => {
    for (const hostLevels of [0, 4, 5, 6]) {
      for (let mode = 0; mode < 8; mode++) {
        const expected = mode > hostLevels ? illegalDeviceEntryLevel : noFault
        expect(level({ mode }, { ...open, hostLevels })).toBe(expected)
      }
    }
    expect(level({ mode: 7 }, open, switches({ modeReserved: 'io-page-fault' }))).toBe(badEncoding)
  })

  it('does not matter with V=0 or TV=0, where no table is walked', () => {
    for (const unused of [{ valid: false }, { translationValid: false }]) {
      expect(level({ ...unused, mode: 7 })).toBe(noFault)
      expect(level({ ...unused, mode: 0 }, { ...open, modeZeroIllegal: true })).toBe(noFault)
      expect(level({ ...unused, guestValid: true, gcr3Levels: 3 })).toBe(noFault)
    }
  })

  it('is illegal as Mode 0 under SNP, where that does not allow it', () => {
    expect(level({ mode: 0 }, { ...open, modeZeroIllegal: true })).toBe(illegalDeviceEntryLevel)
    expect(level({ mode: 1 }, { ...open, modeZeroIllegal: true })).toBe(noFault)
    expect(level({ mode: 0 })).toBe(noFault)
  })

  it('is legal as far as the features reach: GLX and GuestPagingMode, with GV=1 only', () => {
    for (const most of [1, 2, 3]) {
      for (let gcr3Levels = 0; gcr3Levels < 4; gcr3Levels++) {
        const gates = { ...open, gcr3Levels: most }
        expect(level({ gcr3Levels }, gates)).toBe(noFault)
        const expected = gcr3Levels + 1 > most ? illegalDeviceEntryLevel : noFault
        expect(level({ guestValid: true, gcr3Levels }, gates)).toBe(expected)
      }
    }
    for (const guestLevels of [4, 5]) {
      for (let guestPagingMode = 0; guestPagingMode < 4; guestPagingMode++) {
        const gates = { ...open, guestLevels }
        expect(level({ guestPagingMode }, gates)).toBe(noFault)
        const expected = guestPagingMode + 4 > guestLevels ? illegalDeviceEntryLevel : noFault
        expect(level({ guestValid: true, guestPagingMode }, gates)).toBe(expected)
      }
    }
    const asBits = switches({ glxReserved: 'rz-1', guestPagingModeReserved: 'rz-1' })
    expect(level({ guestValid: true, gcr3Levels: 3 }, open, asBits)).toBe(illegalDeviceEntryBits)
    expect(level({ guestValid: true, guestPagingMode: 2 }, open, asBits)).toBe(illegalDeviceEntryBits)
  })
})

describe('the GCR3 root of a device table entry', () => {
  it('is put together from its three places', () => {
    const words = fc.bigUint64Array({ minLength: 4, maxLength: 4 })
    fc.assert(
      fc.property(words, (dte) => {
        const at = pool(dte)
        const root = (BigInt(gcr3RootHi(at, 0)) << 32n) | BigInt(gcr3RootLo(at, 0) >>> 0)
        expect(root).toBe(decodeDte(dte).gcr3Root)
      }),
    )
  })
})
