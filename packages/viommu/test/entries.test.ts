/** What a guest's entry makes of its device: S30, and the same entry on bare metal. */
import { SparseMemory, Iommu, nestingFeatures, store64 } from '@nestwalk/hardware'
import type { FeatureRegisters } from '@nestwalk/hardware'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { guestFeatures } from '../src/index.js'
import {
  blocked,
  command,
  controlBit,
  flags,
  identity,
  nestedEntry,
  on,
  passing,
  place,
  register,
  rootBits,
  v1,
  v2,
  Vm,
} from './vm.js'

const nested = nestedEntry(7)
/** The usual entry with other bits in one quad-word. */
const withBits = (word: number, clear: bigint, set: bigint): readonly bigint[] =>
  nested.map((old, i) => (i === word ? (old & ~clear) | set : old))

/** Page 5000 of the guest's first table; the guest-physical address itself; nothing. */
const byGuestTables = '105000'
const untranslated = '5000'
const fault = 'fault'

const rows: readonly (readonly [
  what: string,
  entry: readonly bigint[],
  leads: string,
  attached: 'parent' | 'nested' | 'blocked',
])[] = [
  ['V=0: an address is a guest-physical one', passing, untranslated, 'parent'],
  [
    'V=0 with every other bit set',
    [~1n & ((1n << 64n) - 1n), (1n << 64n) - 1n, 0n, 0n],
    untranslated,
    'parent',
  ],
  ['V=1, TV=0: aborted', blocked, fault, 'blocked'],
  ['V=1, TV=0 with guest tables', withBits(0, flags.tv, 0n), fault, 'blocked'],
  ['TV=1 without rights: aborted', withBits(0, flags.ir | flags.iw, 0n), fault, 'blocked'],
  ['GV=0 without rights: aborted', [flags.v | flags.tv, 0n, 0n, 0n], fault, 'blocked'],
  ['GV=0: an address is a guest-physical one', identity, untranslated, 'parent'],
  ['GV=1: the guest’s tables', nested, byGuestTables, 'nested'],
  [
    'GV=1, GIoV=0: requests without PASID are guest-physical',
    withBits(0, flags.gIoV, 0n),
    untranslated,
    'nested',
  ],
  ['Mode 1: the guest has no host tables', withBits(0, 0n, 1n << 9n), fault, 'blocked'],
  ['Mode 4 without guest tables', [identity[0]! | (4n << 9n) | 0x60000n, 9n, 0n, 0n], fault, 'blocked'],
  ['Mode 7', withBits(0, 0n, 7n << 9n), fault, 'blocked'],
  ['reserved bit 2', withBits(0, 0n, 1n << 2n), fault, 'blocked'],
  ['reserved bit 63', withBits(0, 0n, 1n << 63n), fault, 'blocked'],
  ['reserved bit 63 without guest tables', [identity[0]! | (1n << 63n), 9n, 0n, 0n], fault, 'blocked'],
  [
    'reserved bits of the upper half: they count for interrupts only',
    withBits(3, 0n, 1n),
    byGuestTables,
    'nested',
  ],
  ['HAD 2', withBits(0, 0n, 2n << 7n), fault, 'blocked'],
  ['PPR without EPHSup', withBits(0, 0n, 1n << 52n), fault, 'blocked'],
  ['SATS without SATSSup', withBits(1, 0n, 1n << 42n), fault, 'blocked'],
  ['GLX 3: refused by the kernel', withBits(0, 0n, 3n << 56n), fault, 'blocked'],
  ['GuestPagingMode 2: refused by the kernel', withBits(2, 0n, 2n << 54n), fault, 'blocked'],
  ['a GCR3 root of 0: refused by the kernel', [nested[0]! & ~(7n << 58n), 7n, 0n, 0n], fault, 'blocked'],
  ['a GCR3 root outside the guest’s memory', nestedEntry(7, 1n << 40n), fault, 'nested'],
]

const kindOf = (vm: Vm): string => {
  const to = vm.attachedTo(v1)
  return to === undefined ? 'blocked' : to === 'parent' ? to : 'nested'
}

describe('an entry of the guest (S30)', () => {
  it.each(rows)('%s', (_what, entry, leads, attached) => {
    const vm = Vm.boot([[v1, entry]])
    expect([vm.leads(v1), kindOf(vm)]).toEqual([leads, attached])
  })

  const before = [
    ['nested', nestedEntry(9, place.gcr3[1])],
    ['passing', passing],
    ['blocked', blocked],
  ] as const
  describe.each(before)('that was %s before INVALIDATE_DEVTAB_ENTRY', (_what, old) => {
    it.each(rows)('%s', (_row, entry, leads, attached) => {
      const vm = Vm.boot([[v1, old]])
      vm.setEntry(v1, entry)
      vm.enqueue(command.devtab(v1), command.wait(1n))
      vm.settle()
      expect([vm.request(v1), kindOf(vm)]).toEqual([leads, attached])
      expect(vm.load(place.completion)).toBe(1n)
      expect(vm.nestedCount()).toBe(attached === 'nested' ? 1 : 0)
    })
  })

  it('with five levels of guest tables reads one table more', () => {
    const top = 0x50000n
    const vm = Vm.create()
    // GCR3 table, level 5, and from there the usual four.
    vm.store(top, (top + 0x1000n) | 1n)
    vm.store(top + 0x1000n, (place.gcr3[0] + 0x1000n) | 7n)
    vm.setEntry(
      v1,
      nestedEntry(7, top).map((word, i) => (i === 2 ? 1n << 54n : word)),
    )
    vm.turnOn()
    vm.settle()
    expect(vm.leads(v1)).toBe(byGuestTables)
  })

  it('lets writes pass under IW=0, as the kernel takes the rights from the parent alone', () => {
    const vm = Vm.boot([[v1, withBits(0, flags.iw, 0n)]])
    expect(vm.leads(v1, 0x5000n, true)).toBe(byGuestTables)
  })

  it('beyond the size of the device table blocks the device', () => {
    const vm = Vm.boot([])
    expect([vm.leads(v1), vm.leads(v2)]).toEqual([untranslated, untranslated])
    vm.write(register.deviceTableBase, place.deviceTable)
    vm.enqueue(command.devtab(v1), command.devtab(v2))
    vm.settle()
    expect([vm.leads(v1), vm.leads(v2)]).toEqual([untranslated, fault])
  })

  it('without GTEn makes guest fields reserved', () => {
    const vm = Vm.create()
    vm.setEntry(v1, nested)
    vm.setEntry(v2, identity)
    vm.turnOn(on & ~controlBit.gtEn)
    vm.settle()
    expect([vm.leads(v1), vm.leads(v2)]).toEqual([fault, untranslated])
  })

  it('blocks where the device table lies outside the guest’s memory, or is the last page there could be', () => {
    for (const base of [1n << 40n, 0xf_ffff_ffff_f000n, 0xf_ffff_ffff_f1ffn]) {
      const vm = Vm.create()
      vm.turnOn()
      vm.write(register.deviceTableBase, base)
      vm.enqueue(command.devtab(v1), command.devtab(v2), command.wait(1n))
      vm.settle()
      expect([vm.leads(v1), vm.leads(v2)]).toEqual([fault, fault])
      expect(vm.load(place.completion)).toBe(1n)
    }
  })
})

/** A bare-metal IOMMU with the guest's features over the guest's memory. */
function bareMetal(vm: Vm, features: FeatureRegisters): Iommu {
  const memory = SparseMemory.create(0x100_0000)
  const iommu = Iommu.create({ memory, features })
  for (let address = 0x10000n; address < 0x50000n; address += 8n) {
    const word = vm.load(address)
    if (word !== 0n) store64(memory, address, word)
  }
  iommu.writeMmio(register.deviceTableBase, 8, vm.read(register.deviceTableBase))
  iommu.writeMmio(register.control, 8, vm.read(register.control) & ~controlBit.cmdBufEn)
  return iommu
}

/** Entries near legal ones: every field of the lower half comes up, mostly one at a time. */
const nearEntry = fc
  .record({
    base: fc.constantFrom(nested, identity, blocked, nestedEntry(9, place.gcr3[1])),
    flips: fc.uniqueArray(fc.nat({ max: 127 }), { maxLength: 2 }),
    paging: fc.constantFrom(0n, 0n, 0n, 1n, 2n, 3n),
  })
  .map(({ base, flips, paging }) => {
    const words = [...base]
    for (const bit of flips) words[bit >> 6]! ^= 1n << BigInt(bit & 63)
    words[2]! |= paging << 54n
    return words
  })

/** Where the kernel is known to differ from bare metal. */
function isKernelsOwn([low = 0n, high = 0n]: readonly bigint[]): boolean {
  const rights = low & (flags.ir | flags.iw)
  const hasOneRight = rights !== 0n && rights !== (flags.ir | flags.iw)
  const [lowRoot, highRoot] = rootBits((1n << 52n) - 1n)
  const hasNoRoot = (low & lowRoot) === 0n && (high & highRoot) === 0n
  const hasHostRoot = (low & 0xf_ffff_ffff_f000n) !== 0n
  return hasOneRight || ((low & flags.gv) !== 0n && (hasNoRoot || hasHostRoot))
}

it('leads a device where bare metal would, but for what the kernel decides', () => {
  const fresh = Vm.create()
  fc.assert(
    fc.property(nearEntry, fc.boolean(), fc.boolean(), (entry, hasGtEn, write) => {
      fc.pre(!isKernelsOwn(entry))
      const vm = fresh.fork()
      vm.setEntry(v1, entry)
      vm.turnOn(hasGtEn ? on : on & ~controlBit.gtEn)
      vm.settle()
      const metal = bareMetal(vm, guestFeatures(nestingFeatures))
      for (const iova of [0x5008n, 0x6000n]) {
        const there = metal.walkFresh({ deviceId: v1, iova, write })
        const expected =
          there.kind === 'fault'
            ? fault
            : (there.kind === 'translated' ? there.spa : there.address).toString(16)
        expect([iova, vm.leads(v1, iova, write)]).toEqual([iova, expected])
      }
    }),
    { numRuns: 150 },
  )
})
