/** The exclusion range: which addresses, which devices and which requests it lets through, and which it does not. */
import { describe, expect, it } from 'vitest'
import type { ChipOptions } from './chip.js'
import { Chip, controlBit, event, place, quietControl, register } from './chip.js'
import { guestPages, hostPages, mapHost, nestedChip, nestedDte, pagesFrom } from './tables.js'

const exclusionBase = 0x20
const exclusionLimit = 0x28
/** ExEn and Allow, in the base register. */
const enabled = 1n
const allow = 2n

const device = 0x600
const dte = {
  valid: 1n,
  translates: 2n,
  modeThree: 0x100000600n,
  read: 1n << 61n,
  write: 1n << 62n,
  iotlb: 1n << 32n,
  excluded: 1n << 39n,
} as const
const rights = dte.read | dte.write
const translating = dte.valid | dte.translates | dte.modeThree
const domain = 0x42n

/** A page in the range that the host table maps elsewhere, and the first one that it maps above the range. */
const first = 0x50000000n
const last = 0x50003000n
const spaOf = (iova: bigint): bigint => 0x300000000n + (iova & 0xffffffn)

interface Setting {
  readonly q0?: bigint
  /** Added to the DomainID. */
  readonly q1?: bigint
  readonly q2?: bigint
  readonly flags?: bigint
  readonly base?: bigint
  readonly limit?: bigint
  readonly options?: ChipOptions
}

/** A device whose host table maps the page below the range, all of it, and the page above to other addresses. */
function excluding(setting: Setting = {}): Chip {
  const { q0 = translating | rights, q1 = 0n, q2 = 0n, flags = enabled | allow } = setting
  const { base = first, limit = last, options = {} } = setting
  const chip = Chip.create(options)
  chip.setDte(device, [q0, domain | q1, q2, 0n])
  const tables = pagesFrom(0x100001000n)
  for (let iova = first - 0x1000n; iova <= last + 0x1000n; iova += 0x1000n) {
    mapHost(chip, { root: 0x100000000n, mode: 3 }, tables, iova, spaOf(iova))
  }
  chip.write(exclusionLimit, limit)
  chip.write(exclusionBase, base | flags)
  return chip
}

const passedAt = (address: bigint) => ({ kind: 'forwarded', address }) as const

type Bounds = readonly [name: string, base: bigint, limit: bigint, iova: bigint, isExcluded: boolean]
/** For V=1 TV=1 without rights, so that every address outside the range is refused. */
const bounds: readonly Bounds[] = [
  ['one page: its first byte', first, first, first, true],
  ['one page: its last byte', first, first, first + 0xfffn, true],
  ['one page: the byte after it', first, first, first + 0x1000n, false],
  ['limit below base', last, first, first, false],
  ['limit below base', last, first, last, false],
  ['limit below base', last, first, first + 0x1000n, false],
  ['limit a page below base', last, last - 0x1000n, last, false],
  ['the first page of all', 0n, 0n, 0xfffn, true],
  ['the first page of all', 0n, 0n, 0x1000n, false],
  ['around 2 GiB, below', 0x7ffff000n, 0x80000000n, 0x7fffefffn, false],
  ['around 2 GiB', 0x7ffff000n, 0x80000000n, 0x7ffff000n, true],
  ['around 2 GiB', 0x7ffff000n, 0x80000000n, 0x80000fffn, true],
  ['around 2 GiB, above', 0x7ffff000n, 0x80000000n, 0x80001000n, false],
  ['around 4 GiB, below', 0xfffff000n, 0x100000000n, 0xffffefffn, false],
  ['around 4 GiB', 0xfffff000n, 0x100000000n, 0xffffffffn, true],
  ['around 4 GiB', 0xfffff000n, 0x100000000n, 0x100000fffn, true],
  ['around 4 GiB, above', 0xfffff000n, 0x100000000n, 0x100001000n, false],
  // The low words alone would be in the range in each of these.
  ['4 GiB further up', first, last, first + 0x100000000n, false],
  ['4 GiB further down', first + 0x500000000n, last + 0x500000000n, first + 0x400000000n, false],
  ['far up', first + 0x500000000n, last + 0x500000000n, first + 0x500001000n, true],
  [
    'more than 4 GiB, the low word of the base above that of the limit',
    last,
    first + 2n ** 33n,
    2n ** 33n,
    true,
  ],
  ['up to the last page of 52 bits', 0x8000000000000n, 0xffffffffff000n, 0xfffffffffffffn, true],
  ['from bit 51 on, below', 0x8000000000000n, 0xffffffffff000n, 0x7ffffffffffffn, false],
  ['an address of more than 52 bits', first, last, first | (1n << 52n), false],
  ['an address with bit 63', first, last, first | (1n << 63n), false],
  ['an address with bit 63, up to the last page', 0n, 0xffffffffff000n, 1n << 63n, false],
]

describe('the bounds of the exclusion range', () => {
  it.each([
    ['just below the base', first - 1n, false],
    ['at the base', first, true],
    ['in the middle', first + 0x1abcn, true],
    ['at the first byte of the limit', last, true],
    ['at the last byte of the page of the limit', last + 0xfffn, true],
    ['just above', last + 0x1000n, false],
  ])('an address %s', (_, iova, isExcluded) => {
    for (const write of [false, true]) {
      const answer = excluding().iommu.request({ deviceId: device, iova, write })
      expect(answer).toEqual(
        isExcluded ? passedAt(iova) : expect.objectContaining({ kind: 'translated', spa: spaOf(iova) }),
      )
    }
  })

  it.each(bounds.map(([name, ...row]) => [`${name}: ${row[2].toString(16)}`, ...row] as const))(
    '%s',
    (_, base, limit, iova, isExcluded) => {
      const answer = excluding({ q0: translating, base, limit }).iommu.request({ deviceId: device, iova })
      expect(answer).toMatchObject(isExcluded ? passedAt(iova) : { kind: 'fault', logged: true })
    },
  )

  it('bits 11:0 of the limit count as ones, whatever software writes there', () => {
    for (const low of [0n, 1n, 0x800n, 0xfffn]) {
      const chip = excluding({ q0: translating, limit: last | low })
      expect(chip.iommu.request({ deviceId: device, iova: last + 0xfffn })).toEqual(passedAt(last + 0xfffn))
      expect(chip.iommu.request({ deviceId: device, iova: last + 0x1000n })).toMatchObject({ kind: 'fault' })
    }
  })

  it('bits 11:2 of the base do not move it', () => {
    const chip = excluding({ q0: translating, flags: 0xfffn })
    expect(chip.iommu.request({ deviceId: device, iova: first })).toEqual(passedAt(first))
    expect(chip.iommu.request({ deviceId: device, iova: first - 1n })).toMatchObject({ kind: 'fault' })
  })
})

describe('who may use the exclusion range', () => {
  it.each([
    ['ExEn=0', 0n, 0n, false],
    ['ExEn=0, EX=1', 0n, dte.excluded, false],
    ['ExEn=0, Allow=1', allow, 0n, false],
    ['ExEn=0, Allow=1, EX=1', allow, dte.excluded, false],
    ['Allow=0, EX=0', enabled, 0n, false],
    ['Allow=0, EX=1', enabled, dte.excluded, true],
    ['Allow=1, EX=0', enabled | allow, 0n, true],
    ['Allow=1, EX=1', enabled | allow, dte.excluded, true],
    // The neighbours of EX: SD, Cache, SysMgt.
    ['Allow=0, every bit about it but EX', enabled, 0x36000000000n, false],
  ])('%s', (_, flags, q1, isExcluded) => {
    const chip = excluding({ flags, q1: q1 | dte.iotlb })
    for (const write of [false, true]) {
      const asked = { deviceId: device, iova: first + 8n, write }
      const answer = chip.iommu.request(asked)
      if (isExcluded) expect(answer).toEqual(passedAt(first + 8n))
      else expect(answer).toMatchObject({ kind: 'translated', spa: spaOf(first + 8n) })
      expect(chip.iommu.translationRequest(asked)).toMatchObject({
        ...{ kind: 'completed', readable: true, writable: true },
        spa: isExcluded ? first + 8n : spaOf(first + 8n),
      })
    }
    expect(chip.takeEvents()).toEqual([])
  })

  it('with Allow=0 each device by its own entry', () => {
    const chip = excluding({ flags: enabled, q1: dte.excluded })
    chip.setDte(device + 1, [translating | rights, domain, 0n, 0n])
    for (let times = 0; times < 2; times++) {
      expect(chip.iommu.request({ deviceId: device, iova: first })).toEqual(passedAt(first))
      expect(chip.iommu.request({ deviceId: device + 1, iova: first })).toMatchObject({
        ...{ kind: 'translated', spa: spaOf(first) },
      })
    }
  })

  it('EX is that of the cached entry until the entry is invalidated', () => {
    const chip = excluding({ flags: enabled })
    const asked = { deviceId: device, iova: first }
    const withEx = [translating | rights, domain | dte.excluded, 0n, 0n]
    expect(chip.iommu.request(asked)).toMatchObject({ kind: 'translated' })
    chip.setDte(device, withEx)
    expect(chip.iommu.request(asked)).toMatchObject({ kind: 'translated' })
    chip.command([0x2000000000000000n | BigInt(device), 0n])
    expect(chip.iommu.request(asked)).toEqual(passedAt(first))
  })

  it('the registers count as they are now: an IOTLB entry does not outlive them, nor comes of them', () => {
    const chip = excluding({ flags: 0n })
    const asked = { deviceId: device, iova: first }
    expect(chip.iommu.request(asked)).toMatchObject({ kind: 'translated', from: 'walk' })
    chip.write(exclusionBase, first | enabled | allow)
    expect(chip.iommu.request(asked)).toEqual(passedAt(first))
    expect(chip.iommu.request({ ...asked, iova: first + 0x1000n })).toEqual(passedAt(first + 0x1000n))
    chip.write(exclusionLimit, first - 0x1000n)
    expect(chip.iommu.request(asked)).toMatchObject({ kind: 'translated', from: 'iotlb', spa: spaOf(first) })
    expect(chip.iommu.request({ ...asked, iova: first + 0x1000n })).toMatchObject({ from: 'walk' })
  })

  it('is nobody while SNP is on: the registers are a window of stores', () => {
    const chip = excluding({ q1: dte.excluded | dte.iotlb, options: { snp: true } })
    const asked = { deviceId: device, iova: first }
    expect(chip.iommu.request(asked)).toMatchObject({ kind: 'translated', spa: spaOf(first) })
    expect(chip.iommu.translationRequest(asked)).toMatchObject({ kind: 'completed', spa: spaOf(first) })
  })
})

describe('a request in the exclusion range', () => {
  it.each([
    ['a read', {}],
    ['a posted write', { write: true }],
    ['an atomic operation', { write: true, nonPosted: true }],
    ['a read with PASID', { pasid: 5 }],
    ['a write with PASID 0', { pasid: 0, write: true }],
    ['an instruction fetch with PASID', { pasid: 5, execute: true }],
    ['a supervisor write with the last PASID', { pasid: 0xfffff, write: true, supervisor: true }],
  ])('is not asked for rights, tables or levels: %s', (_, kind) => {
    for (const q0 of [
      translating,
      // Mode 0, Mode 7, and a root where there is no memory.
      dte.valid | dte.translates,
      dte.valid | dte.translates | 0xe00n,
      dte.valid | dte.translates | rights | 0xffff000000600n,
    ]) {
      const chip = excluding({ q0 })
      const answer = chip.iommu.request({ deviceId: device, iova: last + 0xabcn, ...kind })
      expect(answer, q0.toString(16)).toEqual(passedAt(last + 0xabcn))
      expect(chip.takeEvents()).toEqual([])
      expect(chip.iommu.iotlbEntries()).toEqual([])
    }
  })

  it('leaves A and D alone', () => {
    const options = { control: quietControl | controlBit.hostDirty }
    const chip = excluding({ q0: translating | rights | (3n << 7n), options })
    // The page below the range has the first table of level 1.
    const entryAt = 0x100003000n
    expect(chip.load(entryAt)).toBe(rights | spaOf(first) | 1n)
    chip.iommu.request({ deviceId: device, iova: first, write: true })
    expect(chip.load(entryAt)).toBe(rights | spaOf(first) | 1n)
    // The same request sets them where it is translated.
    chip.write(exclusionBase, 0n)
    chip.iommu.request({ deviceId: device, iova: first, write: true })
    expect(chip.load(entryAt)).toBe(rights | spaOf(first) | 0x61n)
  })

  it.each([
    ['without PASID', undefined, hostPages],
    ['with PASID', 5, guestPages],
  ])('is spared nested translation: %s', (_, pasid, page) => {
    const chip = nestedChip([5])
    const asked = { deviceId: 5, pasid, iova: page }
    chip.write(exclusionBase, page | enabled | allow)
    chip.write(exclusionLimit, page)
    expect(chip.iommu.request(asked)).toEqual(passedAt(page))
    expect(chip.iommu.request({ ...asked, iova: page + 0x1000n })).toMatchObject({ kind: 'translated' })
  })

  it('is not a matter of the GPA that a guest table leads to', () => {
    const chip = nestedChip([5])
    chip.write(exclusionBase, hostPages | enabled | allow)
    chip.write(exclusionLimit, hostPages)
    expect(chip.iommu.request({ deviceId: 5, pasid: 5, iova: guestPages })).toMatchObject({
      ...{ kind: 'translated', spa: 0x200000000n + hostPages },
    })
  })

  it('with PASID is translated by choice, one without PASID never', () => {
    const chip = nestedChip([5], { switches: { exclusionWithPasid: 'ignored' } })
    const [q0 = 0n, q1 = 0n] = nestedDte(5)
    chip.setDte(5, [q0, q1 | dte.iotlb, 0n, 0n])
    chip.write(exclusionBase, guestPages | enabled | allow)
    chip.write(exclusionLimit, guestPages)
    const spa = 0x200000000n + hostPages
    for (const pasid of [0, 5]) {
      const asked = { deviceId: 5, pasid, iova: guestPages }
      expect(chip.iommu.request(asked)).toMatchObject({ kind: 'translated', spa })
      expect(chip.iommu.translationRequest(asked)).toMatchObject({ kind: 'completed', spa })
    }
    expect(chip.iommu.request({ deviceId: 5, iova: guestPages })).toEqual(passedAt(guestPages))
  })
})

describe('what comes before the exclusion range', () => {
  const asked = { deviceId: device, iova: first, write: true }

  it('V=0: the request passes, in the range and outside', () => {
    const chip = excluding({ q0: 0n, flags: enabled })
    for (const iova of [first - 1n, first]) {
      expect(chip.iommu.request({ ...asked, iova })).toEqual(passedAt(iova))
    }
  })

  it('V=0 and its EX bit, which does not count: no ATS in the range', () => {
    const chip = excluding({ q0: 0n, q1: dte.excluded | dte.iotlb, flags: enabled })
    expect(chip.iommu.translationRequest(asked)).toMatchObject({
      ...{ kind: 'unsupported-request', event: event('00000600 81000000 50000000 00000000') },
    })
  })

  it('a reserved bit of the entry', () => {
    const chip = excluding({ q0: translating | rights | (1n << 63n), q1: dte.excluded })
    const illegal = event('00000600 10a00000 50000000 00000000')
    expect(chip.iommu.request(asked)).toMatchObject({ kind: 'fault', event: illegal })
    expect(chip.takeEvents()).toEqual([illegal])
  })

  it('TV=0 blocks the device, in the range as well', () => {
    const chip = excluding({ q0: dte.valid, q1: dte.excluded })
    const absent = event('00000600 20200042 50000000 00000000')
    expect(chip.iommu.request(asked)).toMatchObject({ kind: 'fault', event: absent })
    expect(chip.takeEvents()).toEqual([absent])
  })

  it('TV=0 comes after it by choice', () => {
    const options = { switches: { exclusionBeforeTv: 'yes' } } as const
    const chip = excluding({ q0: dte.valid, options })
    expect(chip.iommu.request(asked)).toEqual(passedAt(first))
    expect(chip.iommu.request({ ...asked, iova: last + 0x1000n })).toMatchObject({ kind: 'fault' })
    // EX is asked for all the same.
    const withoutEx = excluding({ q0: dte.valid, flags: enabled, options })
    expect(withoutEx.iommu.request(asked)).toMatchObject({ kind: 'fault' })
  })

  it('a DeviceID beyond the device table', () => {
    const chip = excluding()
    chip.write(register.deviceTableBase, place.deviceTable)
    const absent = event('00000600 20200000 50000000 00000000')
    expect(chip.iommu.request(asked)).toMatchObject({ kind: 'fault', event: absent })
  })

  it('an entry that no memory answers for', () => {
    const chip = excluding()
    chip.write(register.deviceTableBase, 0x200000001ffn)
    const unreadable = event('00000600 32200000 0000c000 00000200')
    expect(chip.iommu.request(asked)).toMatchObject({ kind: 'fault', event: unreadable })
  })

  it('a request by a translated address: I, IR and IW decide as everywhere', () => {
    const without = excluding({ q1: dte.excluded })
    expect(without.iommu.translatedRequest(asked)).toMatchObject({
      ...{ kind: 'fault', event: event('00000600 82000000 50000000 00000000') },
    })
    const readOnly = excluding({ q0: translating | dte.read, q1: dte.excluded | dte.iotlb })
    expect(readOnly.iommu.translatedRequest(asked)).toMatchObject({
      ...{ kind: 'fault', event: event('00000600 20700042 50000000 00000000') },
    })
    expect(readOnly.iommu.translatedRequest({ ...asked, write: false })).toEqual(passedAt(first))
  })
})

describe('interrupts and the exclusion range', () => {
  const interruptRange = { base: 0xfee00000n, limit: 0xfeeff000n, q1: dte.excluded }

  it('a posted write to the interrupt range is an interrupt', () => {
    const answer = excluding(interruptRange).iommu.request({
      deviceId: device,
      iova: 0xfee01000n,
      write: true,
    })
    expect(answer).toEqual({ kind: 'interrupt', address: 0xfee01000n })
  })

  it.each([
    ['a read', {}],
    ['an atomic operation', { write: true, nonPosted: true }],
  ])('%s there is refused', (_, kind) => {
    const answer = excluding(interruptRange).iommu.request({ deviceId: device, iova: 0xfee01000n, ...kind })
    expect(answer).toMatchObject({
      ...{ kind: 'fault', event: event('00000600 80000000 fee01000 00000000') },
    })
  })

  it('a translation request for it is refused', () => {
    const chip = excluding({ ...interruptRange, q1: dte.excluded | dte.iotlb })
    expect(chip.iommu.translationRequest({ deviceId: device, iova: 0xfee01000n })).toMatchObject({
      ...{ kind: 'unsupported-request', event: event('00000600 83000000 fee01000 00000000') },
    })
  })

  it('an interrupt is remapped', () => {
    // IV, two entries, table at 70000000, IntCtl 10; the entry has vector 51 for APIC 3.
    const chip = excluding({ ...interruptRange, q2: 0x2000000070000003n })
    chip.put([0x70000000n, 0x00510301n])
    const asked = { deviceId: device, address: 0xfee00000n, data: 0 }
    expect(chip.iommu.requestInterrupt(asked)).toMatchObject({
      kind: 'remapped',
      vector: 0x51,
      destination: 3,
    })
  })
})

describe('translation requests and the exclusion range', () => {
  const granted = (spa: bigint) => ({ kind: 'completed', spa, readable: true, writable: true })

  it.each([
    ['the last byte of the range', last + 0xfffn, true],
    ['the byte after it', last + 0x1000n, false],
    ['the byte before it', first - 1n, false],
    ['the range 4 GiB further up', first + 0x100000000n, false],
  ])('%s', (_, iova, isExcluded) => {
    const chip = excluding({ q0: translating, q1: dte.iotlb })
    const answer = chip.iommu.translationRequest({ deviceId: device, iova })
    expect(answer).toMatchObject(
      isExcluded ? granted(iova) : { kind: 'completed', readable: false, writable: false },
    )
    expect(chip.takeEvents()).toEqual([])
  })

  it('the answer is for the pages of the range alone', () => {
    const chip = excluding({ q0: translating, q1: dte.iotlb, limit: first })
    const answer = chip.iommu.translationRequest({ deviceId: device, iova: first })
    expect(answer).toMatchObject({ ...granted(first), sizeLog2: 12 })
  })

  it('a device without I gets none', () => {
    const chip = excluding({ q1: dte.excluded })
    expect(chip.iommu.translationRequest({ deviceId: device, iova: first })).toMatchObject({
      ...{ kind: 'unsupported-request', event: event('00000600 81000000 50000000 00000000') },
    })
  })

  it.each([
    ['with PASID, and without guest tables', { pasid: 5 }],
    ['to write', { write: true }],
  ])('%s: the page itself, to read and to write', (_, kind) => {
    const chip = excluding({ q0: translating, q1: dte.iotlb })
    const asked = { deviceId: device, iova: first + 0x123n, ...kind }
    expect(chip.iommu.translationRequest(asked)).toMatchObject(granted(first + 0x123n))
    expect(chip.iommu.iotlbEntries()).toEqual([])
  })
})
