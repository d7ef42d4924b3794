/** A guest's command ring that is read without its VMM. */
import { gva, iova, spa } from '@nestwalk/bits'
import { deviceId as asDeviceId, domainId, SparseMemory, store64 } from '@nestwalk/hardware'
import type { CommandFields } from '@nestwalk/hardware'
import type { GuestQueue } from '@nestwalk/driver'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { guestEntry, invalidation, words } from './guest-entry.js'
import { Machine, readWrite, withoutTables } from './machine.js'
import type { MachineOptions } from './machine.js'

const [device, virtualId] = [0x18, 0x08]
/** Where guest physical 0 is; the ring is at guest physical 0x2000, its page for answers at 0x8000. */
const guestMemory = 0x4000_0000n
const base = spa(guestMemory + 0x2000n)
const answers = 0x8000n
const byteLength = 4096

function guest({ dirtyTracking = false, ...options }: MachineOptions & { dirtyTracking?: boolean } = {}) {
  const machine = Machine.create(options)
  const { driver } = machine
  machine.run(driver.probe(device, 1, 0, { atsQueueDepth: 8 }))
  const parent = machine.run(driver.allocateHostTable({ nestParent: true, dirtyTracking }))
  machine.run(driver.map(parent, iova(0n), spa(guestMemory), 0x10000n, { ...readWrite, largestLog2: 12 }))
  machine.run(
    driver.map(parent, iova(0x2_0000n), spa(guestMemory + 0x2_0000n), 0x1000n, { read: true, write: false }),
  )
  const viommu = machine.run(driver.createViommu(parent))
  machine.run(driver.nameDevice(viommu, virtualId, device))
  machine.run(driver.attach(device, machine.run(driver.allocateNested(viommu, guestEntry(5)))))
  const put = (index: number, [low, high]: readonly [bigint, bigint]): void => {
    store64(machine.memory, base + BigInt(index * 16), low)
    store64(machine.memory, base + BigInt(index * 16 + 8), high)
  }
  /** Puts commands into the ring from a place on. */
  const queue = (commands: readonly (readonly [bigint, bigint])[], first = 0): GuestQueue => {
    commands.forEach((command, i) => {
      put((first + i) % 256, command)
    })
    const tail = ((first + commands.length) % 256) * 16
    return { base, byteLength, head: first * 16, tail }
  }
  return { machine, driver, parent, viommu, queue }
}

const wait = (fields: Partial<CommandFields<'CompletionWait'>> = {}): readonly [bigint, bigint] =>
  words({ kind: 'CompletionWait', ...fields })
const stored = (value: bigint, address = answers): readonly [bigint, bigint] =>
  wait({ store: true, storeAddress: spa(address), storeData: value })
const inDevice = (id = virtualId): readonly [bigint, bigint] =>
  words({ kind: 'InvalidateIotlbPages', deviceId: asDeviceId(id), address: iova(0x5000n) })
const devtab = words({ kind: 'InvalidateDevtabEntry', deviceId: asDeviceId(virtualId) })

describe('a ring', () => {
  it('is carried out in order, and a wait is answered when all before it is done', () => {
    const { machine, driver, viommu, queue } = guest()
    const outcome = driver.runGuestQueue(
      viommu,
      queue([invalidation(5), inDevice(), stored(7n), invalidation(5)]),
    )
    expect(outcome).toMatchObject({ value: { head: 64, interrupts: false, stop: undefined } })
    expect(withoutTables(machine.tell(outcome).map((line) => (line === 'tables' ? 'answer' : line)))).toEqual(
      [
        ...[
          'PAGES 2 5000+1000 GN 0',
          'IOTLB 00:03.0 5000+1000',
          'WAIT',
          'answer',
          'PAGES 2 5000+1000 GN 0',
          'WAIT',
        ],
      ],
    )
    expect(machine.load(guestMemory + answers)).toBe(7n)
  })

  it('that is empty has nothing to do', () => {
    const { driver, viommu, queue } = guest()
    const empty = driver.runGuestQueue(viommu, queue([], 9))
    expect(empty).toEqual({ ok: true, value: { head: 144, interrupts: false, stop: undefined }, effects: [] })
  })

  it('goes around its end', () => {
    const { machine, driver, viommu, queue } = guest()
    const done = machine.run(driver.runGuestQueue(viommu, queue([stored(1n), stored(2n), stored(3n)], 254)))
    expect(done.head).toBe(16)
    expect(machine.load(guestMemory + answers)).toBe(3n)
  })

  it('may ask for an interrupt', () => {
    const { machine, driver, viommu, queue } = guest()
    const run = (...commands: (readonly [bigint, bigint])[]) =>
      machine.run(driver.runGuestQueue(viommu, queue(commands)))
    expect(run(wait({ interrupt: true }), wait()).interrupts).toBe(true)
    expect(run(wait()).interrupts).toBe(false)
  })

  it('passes over interrupt tables and prefetches, which have nothing to do', () => {
    const { driver, viommu, queue } = guest()
    const tables = words({ kind: 'InvalidateInterruptTable', deviceId: asDeviceId(virtualId) })
    const prefetch = words({ kind: 'PrefetchIommuPages', deviceId: asDeviceId(virtualId) })
    const done = driver.runGuestQueue(viommu, queue([tables, prefetch]))
    expect(done).toMatchObject({ value: { head: 32, stop: undefined }, effects: [] })
  })

  it('belongs to a vIOMMU', () => {
    const { machine, driver, queue } = guest()
    expect(machine.refusal(() => driver.runGuestQueue(9, queue([])))).toBe('ENOENT no-such-viommu')
  })
})

describe('a ring stops before', () => {
  const reserved: readonly [bigint, bigint] = [wait()[0] | (1n << 56n), 0n]
  const strayPasid = words({ kind: 'InvalidateIommuPages', domainId: domainId(5), address: gva(0n) })
  it.each([
    ['a change of a device table entry', devtab],
    ['everything', words({ kind: 'InvalidateIommuAll' })],
    ['an answer to a page request', words({ kind: 'CompletePprRequest', deviceId: asDeviceId(virtualId) })],
    ['a command of a kind that there is not', [0xf000_0000_0000_0000n, 0n] as const],
    ['an empty place', [0n, 0n] as const],
    ['reserved bits of a wait', reserved],
    ['a PASID without GN', [strayPasid[0] | 3n, strayPasid[1]] as const],
    ['a device that the guest does not have', inDevice(0x77)],
  ])('%s, after the commands before it', (_what, command) => {
    const { machine, driver, viommu, queue } = guest()
    const outcome = driver.runGuestQueue(viommu, queue([invalidation(5), command, stored(7n)]))
    expect(outcome).toMatchObject({ value: { head: 16, stop: { kind: 'not-carried-out' } } })
    expect(machine.tell(outcome)).toEqual(['PAGES 2 5000+1000 GN 0', 'WAIT'])
    expect(machine.load(guestMemory + answers)).toBe(0n)
  })

  it.each([
    ['leads nowhere', 0x3_0000n],
    ['may only be read', 0x2_0000n],
  ])('an answer to where the guest memory %s', (_what, address) => {
    const { machine, driver, viommu, queue } = guest()
    const done = machine.run(driver.runGuestQueue(viommu, queue([stored(7n, address)])))
    expect(done).toMatchObject({ head: 0, stop: { kind: 'no-memory', guestAddress: address } })
    expect(machine.load(guestMemory + address)).toBe(0n)
  })

  it('where memory ends', () => {
    const { machine, driver, parent, viommu, queue } = guest({ memory: SparseMemory.create(2 ** 40) })
    const end = spa((1n << 40n) - 4096n)
    const ring = { base: end, byteLength: 8192, head: 4096, tail: 4112 }
    expect(machine.run(driver.runGuestQueue(viommu, ring))).toMatchObject({
      ...{ head: 4096, stop: { kind: 'no-memory', guestAddress: undefined } },
    })
    machine.run(driver.map(parent, iova(0x10_0000n), spa(1n << 41n), 0x1000n, readWrite))
    expect(machine.run(driver.runGuestQueue(viommu, queue([stored(7n, 0x10_0000n)])))).toMatchObject({
      ...{ head: 0, stop: { kind: 'no-memory', guestAddress: 0x10_0000n } },
    })
  })
})

it('an answer counts as written, where dirty pages are tracked', () => {
  const { machine, driver, parent, viommu, queue } = guest({ dirtyTracking: true })
  const dirty = () => machine.run(driver.readDirty(parent, { first: 0n, last: 0xffffn }))
  machine.run(driver.runGuestQueue(viommu, queue([stored(1n)])))
  expect(dirty()).toEqual([])
  machine.run(driver.setDirtyTracking(parent, true))
  machine.run(driver.runGuestQueue(viommu, queue([stored(2n)])))
  expect(dirty()).toEqual([{ first: answers, last: answers + 0xfffn }])
  expect(dirty()).toEqual([])
})

describe('whatever a guest queues', () => {
  const word = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })
  const address = fc.bigInt({ min: 0n, max: 0x1_0fffn })
  const command = fc.oneof(
    { weight: 4, arbitrary: fc.tuple(word, address).map(([value, at]) => stored(value, at & ~7n)) },
    {
      weight: 4,
      arbitrary: fc
        .tuple(fc.integer({ min: 4, max: 6 }), fc.nat({ max: 7 }), address)
        .map(([id, pasid, at]) => invalidation(id, pasid, at & ~0xfffn)),
    },
    { weight: 4, arbitrary: fc.constant(virtualId).map(inDevice) },
    { weight: 1, arbitrary: fc.tuple(word, word) },
    { weight: 1, arbitrary: fc.constant(devtab) },
  )

  it('the host invalidates what is that guest’s, and writes where the guest may', () => {
    const fresh = guest()
    const { tags } = fresh.driver
    fc.assert(
      fc.property(
        fc.array(command, { minLength: 1, maxLength: 24 }),
        fc.nat({ max: 255 }),
        (commands, first) => {
          const machine = fresh.machine.fork()
          const tail = ((first + commands.length) % 256) * 16
          const ring = { base, byteLength, head: first * 16, tail }
          commands.forEach((words, i) => {
            const at = base + BigInt(((first + i) % 256) * 16)
            words.forEach((each, half) => store64(machine.memory, at + BigInt(half * 8), each))
          })
          const outcome = machine.driver.runGuestQueue(fresh.viommu, ring)
          if (!outcome.ok) throw new Error(outcome.why)
          const { head } = outcome.value
          expect(head % 16).toBe(0)
          expect((head - ring.head + 4096) % 4096).toBeLessThanOrEqual(commands.length * 16)
          for (const effect of outcome.effects) {
            if (effect.kind === 'store') {
              expect(effect.address).toBeGreaterThanOrEqual(guestMemory)
              expect(effect.address).toBeLessThan(guestMemory + 0x1_0000n)
            } else if (effect.kind === 'command') {
              const { kind } = effect.command
              expect(['InvalidateIommuPages', 'InvalidateIotlbPages']).toContain(kind)
              if ('domainId' in effect.command) expect(effect.command.domainId).toBe(tags[1]!.domainId)
              if ('deviceId' in effect.command) expect(effect.command.deviceId).toBe(device)
            } else {
              expect(effect.kind).toBe('wait')
            }
          }
          machine.carryOut(outcome.effects)
        },
      ),
      { numRuns: 200 },
    )
  })
})
