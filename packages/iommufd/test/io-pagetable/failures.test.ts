/** A refusal at any point leaves everything as it was: each point of each call is made to fail once. */
import { expect, it } from 'vitest'
import { Access } from '../../src/io-pagetable/access.js'
import { IoPagetable } from '../../src/io-pagetable/io-pagetable.js'
import type { Outcome, Refusal } from '../../src/outcome.js'
import { SimulatedProcess } from '../../src/simulated-process.js'
import { World } from './world.js'

/** Everything that a call could change. */
const stateOf = (world: World, tables: readonly IoPagetable[]): unknown => {
  const numbers = new Map<object, number>()
  return {
    tables: tables.map((table) => [table.snapshot(numbers), table.ranges(), table.domains]),
    accounts: world.accounts.snapshot(),
    pinned: world.host.pinned,
    mapped: structuredClone(world.fake.mapped),
  }
}

interface Scene {
  readonly world: World
  readonly table: IoPagetable
  readonly other: IoPagetable
  readonly access: Access
}

/** A table with two domains, one without, memory in odd pieces, and an access. */
function scene(): Scene {
  const world = new World()
  const [table, other] = [IoPagetable.create(), IoPagetable.create()]
  const access = Access.create({ needsPages: true })
  access.attach(world, other)
  for (const number of [1, 2]) table.addDomain(world, world.fake.domain(number), number)
  // Scattered: each page is a run of its own.
  for (let page = 0n; page < 4n; page++)
    world.process.memory.map(0x1000, { address: world.buffer + 0x4000n + page * 0x1000n })
  const charge = { ...world.chargeOf(), limitPages: 100n }
  world.map(table, world.buffer, 0x3000n, 0x10000n, { charge })
  world.mapFile(other, world.host.createFile(0x8000), 0n, 0x5000n, 0x10000n, charge)
  world.mapFile(other, world.host.createFile(0x8000), 0x1000n, 0x3000n, 0x15000n, charge)
  access.pin(world, 0x11000n, 0x1000n, true)
  return { world, table, other, access }
}

const rights = { readable: true, writeable: true }

const calls: Record<string, (at: Scene) => Outcome<unknown> | Refusal | undefined> = {
  'MAP of scattered pages': ({ world, table }) => {
    const address = world.buffer + 0x3800n
    return table.mapSource(world, {
      ...{ source: world.process.memory.source(address, 6), startInPage: 0x800, startAddress: address },
      ...{ length: 0x5000n, iova: undefined, ...rights, isFile: false },
      charge: { ...world.chargeOf(), mode: 'mm', limitPages: 6n },
    })
  },
  'COPY over two areas': ({ world, table, other }) =>
    other.copyTo(world, table, { from: 0x10000n, length: 0x8000n, to: undefined, ...rights }),
  'adding the first domain': ({ world, other }) => other.addDomain(world, world.fake.domain(3), 3),
  'adding one more domain': ({ world, table }) =>
    table.addDomain(world, world.fake.domain(4, { first: 0x1000n, last: 0xf_ffffn }), 4),
  'pinning by an access': ({ world, access }) => access.pin(world, 0x10000n, 0x8000n, false),
  CHANGE_PROCESS: ({ world, other }) => {
    const { memory, uid } = SimulatedProcess.create(world.host, { uid: 9 })
    return IoPagetable.changeProcess(world, [other], { mm: memory.key, uid, limitPages: 10n })
  },
}

/** Fails the first point, then the second, ... until a call gets through. Returns how many failed. */
function sweep(
  call: (at: Scene) => Outcome<unknown> | Refusal | undefined,
  arm: (world: World, good: number) => void,
): number {
  for (let good = 0; ; good++) {
    const at = scene()
    // Domains are made before: what is in them counts.
    for (const number of [3, 4]) at.world.fake.domain(number)
    const before = stateOf(at.world, [at.table, at.other])
    arm(at.world, good)
    const answer = call(at)
    arm(at.world, Infinity)
    if (answer === undefined || answer.ok) return good
    expect(stateOf(at.world, [at.table, at.other])).toEqual(before)
  }
}

it.each(Object.entries(calls))('%s: pins and charges', (name, call) => {
  const failed = sweep(call, (world, good) => (world.goodPoints = good))
  // One more domain needs pages that are pinned.
  expect(failed > 0).toBe(name !== 'adding one more domain')
})

it.each(Object.entries(calls))('%s: the driver', (name, call) => {
  const failed = sweep(call, (world, good) => (world.fake.goodMaps = good))
  expect(failed > 0).toBe(!name.startsWith('pinning') && name !== 'CHANGE_PROCESS')
})

it('what is held by the time all is undone goes, and nothing more', () => {
  const { world, table, other, access } = scene()
  for (const call of Object.values(calls)) expect(call({ world, table, other, access })?.ok).not.toBe(false)
  access.unpin(world, 0x10000n, 0x8000n)
  access.unpin(world, 0x11000n, 0x1000n)
  table.unmapAll(world)
  other.unmapAll(world)
  expect(world.host.pinned).toBe(0)
  expect(world.accounts.snapshot()).toEqual([[], [], []])
})
