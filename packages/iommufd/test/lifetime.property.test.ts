/** Random programs of calls: numbers, errnos and lifetimes are those of the kernel's counters. */
import fc from 'fast-check'
import { findPolicy } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { amdViommuType, hwptFlags } from '../src/index.js'
import type { Context, GroupRule, ObjectId, Outcome } from '../src/index.js'
import { Counts, reservedSlot } from './counts.js'
import type { Call, Kind } from './counts.js'
import { d1, d2, d3, guestEntry, Host, mapping } from './host.js'

const groups = new Map([
  [d1, 1],
  [d2, 1],
  [d3, 2],
])
const devices = [...groups].map(([deviceId, group]) => [deviceId, group] as const)

/** Where the slots lie: in one table, in another, above the first three levels, in the MSI window. */
const slots = [0x1000n, 0x4000_0000n, 0x100_0000_0000n, 0xfee0_0000n]
const slotOf = (slot: number): bigint => slots[slot]!
expect(slotOf(reservedSlot)).toBe(0xfee0_0000n)

function make(context: Context, call: Call): Outcome<unknown> {
  switch (call.do) {
    case 'bind':
      return context.bind(call.deviceId)
    case 'ioasAlloc':
      return context.ioasAlloc()
    case 'map':
      return context.ioasMap(mapping(call.ioas, slotOf(call.slot), 0x1000000n, 0x1000n))
    case 'unmap':
      return context.ioasUnmap(call.ioas, slotOf(call.slot), 0x1000n)
    case 'hwptAlloc': {
      const { device, pageTable, nestParent, guest } = call
      const data = guest === undefined ? {} : { data: guestEntry(guest) }
      const flags = nestParent ? hwptFlags.nestParent : 0
      return context.hwptAlloc({ device, pageTable, flags, ...data })
    }
    case 'viommuAlloc':
      return context.viommuAlloc({ device: call.device, parent: call.parent, type: amdViommuType })
    case 'vdeviceAlloc':
      return context.vdeviceAlloc(call.viommu, call.device, BigInt(call.virtualId))
    case 'attach':
    case 'replace':
      return context[call.do](call.device, call.to)
    case 'detach':
    case 'unbind':
    case 'destroy':
      return context[call.do](call.id)
  }
}

const id: fc.Arbitrary<ObjectId> = fc.nat({ max: 11 })
const slot = fc.nat({ max: 3 })
const deviceId = fc.constantFrom(d1, d2, d3)
const guest = fc.option(fc.constantFrom(5, 6), { nil: undefined })
const virtualId = fc.nat({ max: 2 })

const call: fc.Arbitrary<Call> = fc.oneof(
  { weight: 4, arbitrary: deviceId.map((each): Call => ({ do: 'bind', deviceId: each })) },
  { weight: 3, arbitrary: fc.constant<Call>({ do: 'ioasAlloc' }) },
  { weight: 2, arbitrary: fc.tuple(id, slot).map(([ioas, nth]): Call => ({ do: 'map', ioas, slot: nth })) },
  { weight: 1, arbitrary: fc.tuple(id, slot).map(([ioas, nth]): Call => ({ do: 'unmap', ioas, slot: nth })) },
  {
    weight: 6,
    arbitrary: fc.tuple(id, id, fc.boolean(), guest).map(([device, pageTable, nestParent, entry]): Call => {
      return { do: 'hwptAlloc', device, pageTable, nestParent, guest: entry }
    }),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(id, id).map(([device, parent]): Call => ({ do: 'viommuAlloc', device, parent })),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(id, id, virtualId)
      .map(([viommu, device, number]): Call => ({ do: 'vdeviceAlloc', viommu, device, virtualId: number })),
  },
  { weight: 5, arbitrary: fc.tuple(id, id).map(([device, to]): Call => ({ do: 'attach', device, to })) },
  { weight: 5, arbitrary: fc.tuple(id, id).map(([device, to]): Call => ({ do: 'replace', device, to })) },
  { weight: 2, arbitrary: id.map((each): Call => ({ do: 'detach', id: each })) },
  { weight: 1, arbitrary: id.map((each): Call => ({ do: 'unbind', id: each })) },
  { weight: 3, arbitrary: id.map((each): Call => ({ do: 'destroy', id: each })) },
)

/** A VM with nesting, and a second member of its group: what most calls are about. */
const beginning: readonly Call[] = [
  { do: 'bind', deviceId: d1 },
  { do: 'ioasAlloc' },
  { do: 'hwptAlloc', device: 1, pageTable: 2, nestParent: true, guest: undefined },
  { do: 'viommuAlloc', device: 1, parent: 3 },
  { do: 'bind', deviceId: d2 },
  { do: 'hwptAlloc', device: 1, pageTable: 4, nestParent: false, guest: 5 },
  { do: 'attach', device: 1, to: 2 },
]

interface ProgramStep {
  /** The second context has nothing at first. */
  readonly context: number
  /** Whether the numbers in the call are meant as they are, rather than as the nth object of a fitting kind. */
  readonly isWild: boolean
  readonly call: Call
}

const program: fc.Arbitrary<ProgramStep[]> = fc.array(
  fc.record({
    context: fc.constantFrom(0, 0, 0, 0, 0, 1),
    isWild: fc.constantFrom(false, false, false, false, true),
    call,
  }),
  { minLength: 15, maxLength: 50, size: 'max' },
)

/** The kinds that a field of a call usually names. */
const fitting: Readonly<Record<string, readonly Kind[]>> = {
  ioas: ['ioas'],
  device: ['device'],
  pageTable: ['ioas', 'viommu'],
  parent: ['paging'],
  viommu: ['viommu'],
  to: ['ioas', 'paging', 'nested'],
  id: ['device', 'ioas', 'paging', 'nested', 'viommu', 'vdevice'],
}

/** The call about objects that exist. */
function aimed(counts: Counts, { context, isWild, call: raw }: ProgramStep): Call {
  if (isWild) return raw
  const fields = Object.entries(raw).map(([name, value]): [string, unknown] => {
    const kinds = raw.do === 'detach' || raw.do === 'unbind' ? ['device' as const] : fitting[name]
    const objects = name === 'do' || kinds === undefined ? [] : counts.objects(context, ...kinds)
    return [name, objects.length === 0 ? value : objects[Number(value) % objects.length]]
  })
  return Object.fromEntries(fields) as unknown as Call
}

/** Runs a program next to the counters. */
function run(host: Host, counts: Counts, steps: readonly ProgramStep[]): void {
  const contexts = [host.iommufd.open(), host.iommufd.open()]
  for (const step of [...beginning.map((each) => ({ context: 0, isWild: true, call: each })), ...steps]) {
    const context = contexts[step.context]!
    const made = aimed(counts, step)
    const expected = counts.answer(step.context, made)
    if (typeof expected === 'string') {
      expect([made, host.errno(() => make(context, made))]).toEqual([made, expected])
    } else {
      const value = host.run(make(context, made))
      // Unmapping returns bytes.
      if (expected > 0) expect([made, value]).toEqual([made, expected])
    }
    expect(context.objectCount).toBe(counts.objects(step.context).length)
  }
}

/** Unbinds every device, then destroys what can be destroyed until nothing is left. */
function tearDown(host: Host, counts: Counts): void {
  for (const number of [0, 1]) {
    const context = host.iommufd.context(number)!
    for (const each of counts.objects(number)) {
      if (context.object(each)?.kind === 'device') host.run(context.unbind(each))
    }
    while (context.objectCount > 0) {
      const before = context.objectCount
      for (let each = 1; each < 64; each++) {
        const destroyed = context.destroy(each)
        if (destroyed.ok) host.run(destroyed)
      }
      expect(context.objectCount).toBeLessThan(before)
    }
  }
}

const rules: readonly GroupRule[] = ['whole-group', 'per-member']
describe.each(rules)('by the rule %s', (groupRule) => {
  it.each(['M', 'S', 'D', 'G'])('a program under policy %s ends with every ID and page free', (letter) => {
    const fresh = Host.create({
      groupRule,
      policy: findPolicy(letter)!,
      devices,
      pages: 60,
      lastDomainId: 80,
    })
    const freePages = fresh.freePages()
    fc.assert(
      fc.property(program, (steps) => {
        const host = fresh.fork()
        const counts = new Counts(groupRule, groups, 2)
        run(host, counts, steps)
        tearDown(host, counts)
        expect(host.driver.tags).toEqual([])
        expect(host.freePages()).toBe(freePages)
        for (const device of [d1, d2, d3]) expect(host.entry(device)).toEqual([1n, 0n])
        expect(host.iommus[0]!.iotlbEntries()).toEqual([])
        // Every group is free for another context.
        const other = host.iommufd.open()
        const [first] = [d1, d2, d3].map((device) => host.run(other.bind(device)))
        // IDs are the lowest free ones.
        host.run(other.attach(first!, host.run(other.ioasAlloc())))
        expect(host.entry(d1)[1]).toBe(1n)
      }),
      { numRuns: 10 },
    )
  })
})
