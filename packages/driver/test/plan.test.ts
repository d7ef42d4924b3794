/** A plan: effects in order, and memory as it will be after them while it is still as it was. */
import { spa } from '@nestwalk/bits'
import { Iommu, load64, SparseMemory, store64 } from '@nestwalk/hardware'
import type { Memory } from '@nestwalk/hardware'
import { Driver } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { PageAllocator } from '../src/page-allocator.js'
import { Plan } from '../src/plan.js'
import { PlannedMemory } from '../src/planned-memory.js'

const memoryBytes = 1 << 20
const at = spa(0x10000n)

function planned(): { memory: Memory; plan: Plan; words: (count: number, from?: bigint) => bigint[] } {
  const memory = SparseMemory.create(memoryBytes)
  const plan = new Plan(memory)
  const words = (count: number, from = 0n): bigint[] =>
    Array.from({ length: count }, (_, i) => plan.load(spa(at + from + BigInt(i * 8))))
  return { memory, plan, words }
}

describe('a plan', () => {
  it('reads what it will have stored, and memory is as it was', () => {
    const { memory, plan, words } = planned()
    store64(memory, at, 1n)
    store64(memory, at + 8n, 2n)
    plan.store(at, 7n, 'one word')
    expect(words(2)).toEqual([7n, 2n])
    expect(load64(memory, at)).toBe(1n)
    plan.store(at, 8n, 'again')
    expect(words(2)).toEqual([8n, 2n])
    expect(plan.effects).toEqual([
      { kind: 'store', address: at, words: [7n], what: 'one word' },
      { kind: 'store', address: at, words: [8n], what: 'again' },
    ])
  })

  it('stores 128 bits in one effect', () => {
    const { plan, words } = planned()
    plan.storeHalf(at, 5n, 6n, 'half')
    expect(words(3)).toEqual([5n, 6n, 0n])
    expect(plan.effects).toEqual([{ kind: 'store', address: at, words: [5n, 6n], what: 'half' }])
  })

  it('stores a run in one effect; a run of one is a store', () => {
    const { plan, words } = planned()
    plan.storeRun(at, 3, 9n, 'three')
    expect(words(4)).toEqual([9n, 9n, 9n, 0n])
    plan.storeRun(at, 1, 4n, 'one')
    expect(words(2)).toEqual([4n, 9n])
    expect(plan.effects).toEqual([
      { kind: 'fill', address: at, count: 3, strideBytes: 8, word: 9n, what: 'three' },
      { kind: 'store', address: at, words: [4n], what: 'one' },
    ])
  })

  it('stores ascending words in one effect; one of them is a store', () => {
    const { plan, words } = planned()
    plan.storeAscending(at, { count: 3, word: 0x1001n, step: 0x1000n }, 'pages')
    expect(words(4)).toEqual([0x1001n, 0x2001n, 0x3001n, 0n])
    plan.storeAscending(at, { count: 1, word: 0x7001n, step: 0x1000n }, 'page')
    expect(words(2)).toEqual([0x7001n, 0x2001n])
    expect(plan.effects).toEqual([
      { kind: 'fill', address: at, count: 3, strideBytes: 8, word: 0x1001n, step: 0x1000n, what: 'pages' },
      { kind: 'store', address: at, words: [0x7001n], what: 'page' },
    ])
  })

  it('stores at places that are apart, and leaves what is between them', () => {
    const { plan, words } = planned()
    plan.fill(at, 3, 32, 3n, 'entries')
    expect(words(12)).toEqual([3n, 0n, 0n, 0n, 3n, 0n, 0n, 0n, 3n, 0n, 0n, 0n])
    expect(plan.effects).toEqual([
      { kind: 'fill', address: at, count: 3, strideBytes: 32, word: 3n, what: 'entries' },
    ])
  })

  it.each([0n, 0x7f8n, 0xff8n])('clears a page that is not clear, with a word at +%i', (offset) => {
    const { memory, plan, words } = planned()
    store64(memory, at + offset, 1n)
    store64(memory, at + 0x1000n, 2n)
    plan.clearPage(at, 'page')
    expect(words(512).every((word) => word === 0n)).toBe(true)
    expect(words(1, 0x1000n)).toEqual([2n])
    expect(plan.effects).toEqual([
      { kind: 'fill', address: at, count: 512, strideBytes: 8, word: 0n, what: 'page' },
    ])
  })

  it('does nothing to a page that is clear, whatever is behind it', () => {
    const { memory, plan } = planned()
    store64(memory, at + 0x1000n, 2n)
    store64(memory, at - 8n, 2n)
    plan.clearPage(at, 'page')
    expect(plan.effects).toEqual([])
  })

  it('has what it does to hardware and devices in order', () => {
    const { plan } = planned()
    plan.command(1, { kind: 'InvalidateIommuAll' }, 'why')
    plan.wait(1)
    plan.feature(0x18, 'ats', true)
    plan.register(0, 0x18, 5n, 'Control')
    plan.configuration(0, 0x44, 6n, 'base')
    expect(plan.effects).toEqual([
      { kind: 'command', iommu: 1, command: { kind: 'InvalidateIommuAll' }, why: 'why' },
      { kind: 'wait', iommu: 1 },
      { kind: 'feature', deviceId: 0x18, feature: 'ats', isOn: true },
      { kind: 'register', iommu: 0, offset: 0x18, value: 5n, what: 'Control' },
      { kind: 'configuration', iommu: 0, offset: 0x44, value: 6n, what: 'base' },
    ])
  })
})

describe('planned memory', () => {
  it('keeps stores to many pages apart, however often it goes to and fro', () => {
    const memory = SparseMemory.create(memoryBytes)
    for (let i = 0n; i < 8n; i++) store64(memory, i * 0x1000n + 8n, 100n + i)
    const plan = new PlannedMemory(memory)
    for (let i = 7n; i >= 0n; i--) plan.store(i * 0x1000n, i)
    for (let i = 0n; i < 8n; i++) {
      plan.store(i * 0x1000n + 0xff8n, 50n + i)
      const words = [0n, 8n, 16n, 0xff8n].map((offset) => plan.load(i * 0x1000n + offset))
      expect(words).toEqual([i, 100n + i, 0n, 50n + i])
    }
    expect(load64(memory, 0x1000n)).toBe(0n)
  })

  it('has nothing where there is no memory', () => {
    const plan = new PlannedMemory(SparseMemory.create(memoryBytes))
    expect(plan.load(BigInt(memoryBytes))).toBeUndefined()
    expect(plan.load(BigInt(memoryBytes) - 8n)).toBe(0n)
  })
})

describe('pages', () => {
  it('ascend while they are fresh; the one that was freed last is the next', () => {
    const pages = PageAllocator.create({ first: spa(0x5000n), pages: 4 })
    expect([pages.take(), pages.takeRun(2)]).toEqual([0x5000n, 0x6000n])
    pages.free(spa(0x5000n))
    pages.free(spa(0x7000n))
    const fork = pages.fork()
    expect([1, 2, 3, 4].map(() => pages.take())).toEqual([0x7000n, 0x5000n, 0x8000n, undefined])
    // A run is of fresh pages alone.
    expect([fork.takeRun(2), fork.takeRun(1), fork.takeRun(1)]).toEqual([undefined, 0x8000n, undefined])
    expect(fork.take()).toBe(0x7000n)
  })

  it.each([
    [0x5800n, 4, 'no page range: 4 pages from 0x5800'],
    [0x5000n, 0, 'no page range: 0 pages from 0x5000'],
    [0x5000n, 1.5, 'no page range: 1.5 pages from 0x5000'],
  ])('are whole and at least one: from 0x%i, %d pages', (first, count, message) => {
    const create = (): unknown => PageAllocator.create({ first: spa(first), pages: count })
    expect(create).toThrow(new RangeError(message))
  })

  it('that are no memory are the mistake of whoever gave them to the driver', () => {
    const memory = SparseMemory.create(memoryBytes)
    const ports = [Iommu.create({ memory })]
    const create = (first: bigint): unknown =>
      Driver.create({ ports, memory, lastDeviceId: 0x1f, pages: { first: spa(first), pages: 64 } })
    expect(() => create(BigInt(memoryBytes))).toThrow(
      new RangeError('the driver was given pages without memory, at 0x100000'),
    )
    expect(() => create(0x10000n)).not.toThrow()
  })

  it('that cannot be written are noticed at the first store', () => {
    const memory = SparseMemory.create(memoryBytes)
    const readOnly: Memory = {
      load32: (lo, hi) => memory.load32(lo, hi),
      store32: () => false,
      store64: () => false,
    }
    const ports = [Iommu.create({ memory })]
    const made = Driver.create({
      ...{ ports, memory: readOnly, lastDeviceId: 0x1f, pages: { first: at, pages: 64 } },
    })
    if (!made.ok) throw new Error(made.why)
    const stores = made.effects.filter(({ kind }) => kind === 'store' || kind === 'fill')
    expect(() => made.value.apply(stores[0]!)).toThrow(
      new RangeError('the driver was given pages without memory, at 0x10000'),
    )
  })
})
