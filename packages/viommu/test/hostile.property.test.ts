/** A guest that writes anything anywhere: no exception, an end to every command, nothing left over, nobody else reached. */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { GroupRule } from '@nestwalk/iommufd'
import type { ViommuStep } from '../src/index.js'
import { command, controlBit, identity, nestedEntry, on, place, register, v1, v2, Vm } from './vm.js'

type Act =
  | { readonly do: 'register'; readonly offset: number; readonly bytes: 4 | 8; readonly value: bigint }
  | { readonly do: 'store'; readonly address: bigint; readonly value: bigint }
  | { readonly do: 'entry'; readonly virtualId: number; readonly words: readonly bigint[] }
  | { readonly do: 'commands'; readonly words: readonly (readonly bigint[])[] }
  | { readonly do: 'restart' }
  | { readonly do: 'steps'; readonly count: number }

const word = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })
const virtualId = fc.constantFrom(v1, v2)

const offset = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom(...Object.values(register)) },
  { weight: 1, arbitrary: fc.nat({ max: 0x2100 }) },
)
const value = fc.oneof(
  word,
  fc.constantFrom(0n, on, on & ~controlBit.gtEn, on & ~controlBit.cmdBufEn, (1n << 64n) - 1n),
  fc.constantFrom(...[8n, 9n, 15n].map((length) => place.commandRing | (length << 56n))),
  fc.constantFrom(place.deviceTable | 1n, 0xf_ffff_ffff_f1ffn, 0xff_f000n | (8n << 56n)),
  fc.nat({ max: 0x800 }).map((slot) => BigInt(slot) * 16n),
)

/** Entries that mostly mean something, with a bit or two turned round. */
const entry = fc
  .record({
    base: fc.constantFrom(nestedEntry(7), nestedEntry(8, place.gcr3[1]), nestedEntry(9), identity, [
      0n,
      0n,
      0n,
      0n,
    ]),
    domainId: fc.nat({ max: 0xffff }),
    flips: fc.array(fc.nat({ max: 255 }), { maxLength: 2 }),
    noise: fc.oneof(
      { weight: 7, arbitrary: fc.constant(null) },
      { weight: 1, arbitrary: fc.tuple(word, word, word, word) },
    ),
  })
  .map(({ base, domainId, flips, noise }) => {
    const words = [...(noise ?? base)]
    words[1]! ^= BigInt(domainId & 3)
    for (const bit of flips) words[bit >> 6]! ^= 1n << BigInt(bit & 63)
    return words
  })

const aCommand = fc.oneof(
  { weight: 6, arbitrary: virtualId.map(command.devtab) },
  { weight: 2, arbitrary: fc.nat({ max: 12 }).map((id) => command.pages(id)) },
  { weight: 2, arbitrary: fc.constant(command.wait(1n)) },
  { weight: 1, arbitrary: fc.constant(command.all) },
  { weight: 1, arbitrary: fc.tuple(word, word).map((words): readonly bigint[] => words) },
  {
    weight: 1,
    arbitrary: word.map((address): readonly bigint[] => [(1n << 60n) | (address >> 12n) | 1n, address]),
  },
)

const act: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.record(
      {
        do: fc.constant('register' as const),
        offset,
        bytes: fc.constantFrom(4 as const, 8 as const),
        value,
      },
      { noNullPrototype: true },
    ),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.nat({ max: 0x9fff }), word)
      .map(([slot, stored]): Act => ({ do: 'store', address: 0x10000n + BigInt(slot) * 8n, value: stored })),
  },
  {
    weight: 5,
    arbitrary: fc.tuple(virtualId, entry).map(([id, words]): Act => ({ do: 'entry', virtualId: id, words })),
  },
  {
    weight: 6,
    arbitrary: fc.array(aCommand, { maxLength: 6 }).map((words): Act => ({ do: 'commands', words })),
  },
  { weight: 3, arbitrary: fc.constant<Act>({ do: 'restart' }) },
  { weight: 4, arbitrary: fc.nat({ max: 6 }).map((count): Act => ({ do: 'steps', count })) },
)

/** Calls that one command may lead to, with two devices: INVALIDATE_IOMMU_ALL reads both entries and flushes two IDs. */
const stepsPerCommand = 16
/** Configurations that a write to the control register may have left to do. */
const stepsOfControl = 16

/** Commands that the VMM may still take, the one in work among them. */
function queued(vm: Vm): number {
  const bytes = 16n << ((vm.read(register.commandBase) >> 56n) & 15n)
  const [head, tail] = [vm.read(register.commandHead) % bytes, vm.read(register.commandTail) % bytes]
  // A guest that takes the tail back while a command is in work has a full ring as soon as that is done.
  const isTakenBack = head === tail && !vm.viommu.isIdle
  return Number(isTakenBack ? bytes : (tail - head + bytes) % bytes) / 16
}

function perform(vm: Vm, what: Act, seen: ViommuStep[]): void {
  switch (what.do) {
    case 'register':
      vm.viommu.writeMmio(what.offset, what.bytes, what.value)
      break
    case 'store':
      vm.store(what.address, what.value)
      break
    case 'entry':
      vm.setEntry(what.virtualId, what.words)
      break
    case 'commands':
      vm.enqueue(...what.words)
      break
    case 'restart':
      // As a driver after an error: everything pointed to its place again.
      vm.write(register.control, 0n)
      vm.turnOn()
      break
    case 'steps':
      seen.push(...vm.someSteps(what.count))
  }
}

/** Only IDs of the VM's own tables are ever invalidated. */
function check({ effects }: ViommuStep): void {
  for (const effect of effects) {
    if (effect.kind !== 'command' || effect.command.kind !== 'InvalidateIommuPages') continue
    expect(effect.command.domainId).toBeGreaterThan(tablesBefore)
  }
}

const tablesBefore = 3
const toNested = 'attach to the nested HWPT'
const probes = [0n, 0x5000n, 0x6008n, 0xff_f000n, 0x100_0000n, 0xffff_ffff_f000n]

it.each<GroupRule>(['per-member', 'whole-group'])('by the rule %s', (groupRule) => {
  const fresh = Vm.create({ groupRule, tablesBefore })
  const objectsWithoutNested = fresh.context.objectCount
  const tagsWithoutNested = fresh.driver.tags.length
  let attached = 0
  fc.assert(
    fc.property(fc.array(act, { minLength: 5, maxLength: 40, size: 'max' }), (acts) => {
      const vm = fresh.fork()
      const steps: ViommuStep[] = []
      for (const each of [{ do: 'restart' } as const, ...acts]) perform(vm, each, steps)
      steps.push(...vm.settle(queued(vm) * stepsPerCommand + stepsOfControl))
      steps.forEach(check)
      expect(vm.nestedCount()).toBeLessThanOrEqual(2)
      expect(vm.context.objectCount).toBe(objectsWithoutNested + vm.nestedCount())
      expect(vm.driver.tags.length).toBeLessThanOrEqual(tagsWithoutNested + vm.nestedCount())
      attached += steps.filter(({ what, errno }) => what === toNested && errno === undefined).length
      for (const virtualId of [v1, v2]) {
        for (const probe of probes) {
          const leads = vm.request(virtualId, probe)
          expect(leads).not.toBe('outside the VM')
          expect(leads).not.toBe('forwarded')
        }
      }
      vm.stop()
      expect(vm.context.objectCount).toBe(0)
      expect(vm.driver.tags).toHaveLength(tablesBefore)
    }),
    { numRuns: 150 },
  )
  // The guest got somewhere.
  expect(attached).toBeGreaterThan(60)
})
