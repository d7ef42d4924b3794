import { nestingFeatures } from '@nestwalk/hardware'
import { describe, expect, it } from 'vitest'
import { negotiate } from '../src/feature-negotiation.js'
import type { Abilities, OfferedFeatures } from '../src/feature-negotiation.js'

/** Of the hardware reference: bits of EFR. */
const bit = { ppr: 1n << 1n, gt: 1n << 4n, gIo: 1n << 48n, ha: 1n << 49n, eph: 1n << 50n, hd: 1n << 52n }

interface Offer {
  readonly without?: bigint
  readonly hats?: bigint
  readonly gats?: bigint
  readonly glx?: bigint
  readonly pasMax?: bigint
  readonly efr2?: bigint
  readonly hostTablesOff?: boolean
  readonly npCache?: boolean
}

function offer(of: Offer = {}): OfferedFeatures {
  const put = (efr: bigint, value: bigint | undefined, at: bigint, width: bigint): bigint =>
    value === undefined ? efr : (efr & ~(((1n << width) - 1n) << at)) | (value << at)
  let efr = nestingFeatures.efr & ~(of.without ?? 0n)
  efr = put(efr, of.hats, 10n, 2n)
  efr = put(efr, of.gats, 12n, 2n)
  efr = put(efr, of.glx, 14n, 2n)
  efr = put(efr, of.pasMax, 32n, 5n)
  return {
    features: { efr, efr2: of.efr2 ?? 8n },
    hostTablesOff: of.hostTablesOff ?? false,
    npCache: of.npCache ?? false,
  }
}

const all: Abilities = {
  hostLevels: 6,
  guestTables: true,
  guestLevels: 5,
  gcr3Levels: 2,
  maxPasids: 0xffff,
  nesting: true,
  npCache: false,
  dirtyIommus: new Set([0]),
}

const noGuestTables = { guestTables: false, gcr3Levels: 0, maxPasids: 0, nesting: false }

describe('the gates', () => {
  it.each<[string, Offer, Partial<Abilities>]>([
    ['everything', {}, {}],
    ['no GTSup', { without: bit.gt }, noGuestTables],
    ['no GIoSup', { without: bit.gIo }, noGuestTables],
    ['no PPRSup: no processes', { without: bit.ppr }, { maxPasids: 0 }],
    ['no EPHSup: no processes', { without: bit.eph }, { maxPasids: 0 }],
    ['no GCR3TRPModeSup: no nesting', { efr2: ~8n & 0xffn }, { nesting: false }],
    ['HATS 3: no host tables', { hats: 3n }, { hostLevels: 0 }],
    ['HATDis: no host tables', { hostTablesOff: true }, { hostLevels: 0 }],
    ['HATS 0', { hats: 0n }, { hostLevels: 4 }],
    ['GATS 0', { gats: 0n }, { guestLevels: 4 }],
    ['GATS 2, reserved', { gats: 2n }, { guestLevels: 4 }],
    ['GLX 0', { glx: 0n }, { gcr3Levels: 1 }],
    ['GLX 2', { glx: 2n }, { gcr3Levels: 3 }],
    ['PASmax 8', { pasMax: 8n }, { maxPasids: 511 }],
    ['PASmax 19: Linux uses 16 bits', { pasMax: 19n }, { maxPasids: 0xffff }],
    ['NpCache', { npCache: true }, { npCache: true }],
    ['no HDSup: no dirty tracking', { without: bit.hd }, { dirtyIommus: new Set() }],
    ['no HASup: no dirty tracking', { without: bit.ha }, { dirtyIommus: new Set() }],
  ])('%s', (_name, offered, less) => {
    expect(negotiate([offer(offered)])).toEqual({ ...all, ...less })
  })
})

describe('several IOMMUs have in common', () => {
  it.each<[string, Offer, Offer, Partial<Abilities>]>([
    ['the fewest levels of host tables', { hats: 1n }, { hats: 2n }, { hostLevels: 5 }],
    ['no host tables if one has none', { hats: 3n }, {}, { hostLevels: 0 }],
    ['the fewest levels of guest tables', { gats: 0n }, { gats: 1n }, { guestLevels: 4 }],
    ['the fewest levels of GCR3 tables', { glx: 2n }, { glx: 1n }, {}],
    ['the fewest PASIDs', { pasMax: 3n }, { pasMax: 15n }, { maxPasids: 15 }],
    ['guest tables if all have them', {}, { without: bit.gt }, noGuestTables],
    ['nesting if all can', {}, { efr2: 0n }, { nesting: false }],
    ['NpCache if one has it', { npCache: true }, {}, { npCache: true }],
  ])('%s', (_name, one, other, less) => {
    const both = { ...all, ...less, dirtyIommus: new Set([0, 1]) }
    expect(negotiate([offer(one), offer(other)])).toEqual(both)
    expect(negotiate([offer(other), offer(one)])).toEqual(both)
  })
})

it('what writes are marked by is a matter of each IOMMU: a domain that needs it is not for devices behind others', () => {
  expect(negotiate([offer({ without: bit.hd }), offer()]).dirtyIommus).toEqual(new Set([1]))
})

it('no IOMMU can do nothing', () => {
  expect(negotiate([])).toMatchObject({ ...noGuestTables, hostLevels: 0 })
})
