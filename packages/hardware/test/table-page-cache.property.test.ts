/**
 * The model's own caches cannot be seen: a chip with them and one without, put through the same, answer the same, count
 * the same reads, log the same events, and leave the same memory.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { store64, SparseMemory, switchChoices } from '../src/index.js'
import type { Iommu, MicroArchitecture, SwitchChoices } from '../src/index.js'
import { Chip, controlBit, register } from './chip.js'
import { runs } from './runs.js'
import { randomCase } from './slow/random-machine.js'
import type { RandomCase } from './slow/random-machine.js'
import { deviceEntryAt, guestPages, hostPages, nestedDte, nestedChip } from './tables.js'
import { watching } from './watch.js'

/** Far more than it takes: these run beside other tests. */
const timeout = 300_000

type Asked = Parameters<Iommu['request']>[0]

/** A machine: how to make its chip, what may be asked of it, and the words of its tables. */
interface World {
  readonly make: (options: { tablePageCache: boolean }) => Chip
  readonly requests: readonly Asked[]
  readonly words: readonly (readonly [address: bigint, value: bigint])[]
  readonly deviceIds: readonly number[]
}

interface Operation {
  readonly kind: 'ask' | 'watch' | 'look' | 'prefetch' | 'store' | 'command' | 'control' | 'fork' | 'back'
  /** What they choose depends on the kind; each is taken modulo what there is. */
  readonly a: number
  readonly b: number
  readonly c: number
}

/** IOTLBs that keep next to nothing make for many walks. */
const designs: readonly Partial<MicroArchitecture>[] = [
  { iotlb: { kind: 'set-associative', setsLog2: 0, ways: 1, replacement: 'lru' } },
  {},
  {
    iotlb: { kind: 'set-associative', setsLog2: 0, ways: 1, replacement: 'lru' },
    pageWalkCache: { kind: 'set-associative', setsLog2: 0, ways: 2, replacement: 'lru' },
  },
]

/** The switches that walks know. */
const walkSwitches = [
  'rightsOrder',
  'guestMarkRights',
  'gcr3NextPointer',
  'hostDirectoryAccessed',
  'impliedDteRights',
  'supervisorWrite',
  'leafLowBits',
  'pasid0Tagged',
  'pasidBeyondGlx',
] as const

function switchesOf(lots: readonly number[]): Partial<SwitchChoices> {
  const chosen: Record<string, string> = {}
  walkSwitches.forEach((name, n) => {
    const list: readonly string[] = switchChoices[name]
    const lot = lots[n] ?? 0
    // Most often the default.
    chosen[name] = list[lot < list.length ? lot : 0] ?? ''
  })
  return chosen
}

/** The bits of entries that mean something in one format or another. */
const meaningful = [0, 1, 2, 5, 6, 7, 9, 10, 11, 12, 13, 20, 21, 24, 52, 55, 56, 58, 59, 61, 62, 63]

const controls = [
  controlBit.guestAccessedOff,
  controlBit.guestDirtyOff,
  controlBit.hostAccessed,
  controlBit.hostDirty,
  controlBit.gcr3TrpMode,
  // Page migration: leaves have other reserved bits.
  1n << 56n,
]

const at = <Item>(list: readonly Item[], n: number): Item => list[n % list.length]!

/** A word of a table, changed in one bit, replaced by another word, or as it was in the beginning. */
function storeOf(chip: Chip, { words }: World, { a, b, c }: Operation): readonly [bigint, bigint] {
  const [address, original] = at(words, a)
  if (c % 3 === 0) return [address, original]
  if (c % 3 === 1) return [address, (chip.load(address) ?? 0n) ^ (1n << BigInt(at(meaningful, b)))]
  return [address, at(words, b)[1]]
}

function commandOf({ deviceIds }: World, { a, b }: Operation): readonly [bigint, bigint] {
  switch (a % 3) {
    case 0:
      return [0x8000000000000000n, 0n]
    case 1:
      return [0x2000000000000000n | BigInt(at(deviceIds, b)), 0n]
    default:
      // All pages of a domain, GN=0 PDE=1.
      return [0x3000000000000000n | (BigInt(b % 4) << 32n), 0x7ffffffffffff003n]
  }
}

const shown = (value: unknown): string =>
  JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? `0x${each.toString(16)}` : each))

/** Carries out an operation on the chip, and tells all that can be seen of it. */
function perform(chip: Chip, world: World, operation: Operation): string {
  const { kind, a, b, c } = operation
  const { iommu } = chip
  const asked = at(world.requests, a)
  // Neighbours share tables with what was asked before.
  const varied = { ...asked, iova: asked.iova ^ (BigInt(b % 4) << 12n), write: (c & 1) === 0 }
  switch (kind) {
    case 'ask':
      return shown(iommu.request(varied))
    case 'watch':
      return shown(watching(iommu, () => iommu.request(varied)))
    case 'look':
      return shown(iommu.walkFresh(varied))
    case 'prefetch':
      return shown(iommu.prefetch(varied))
    case 'store':
      store64(chip.memory, ...storeOf(chip, world, operation))
      return ''
    case 'command':
      return shown(chip.command(commandOf(world, operation)))
    default:
      chip.write(register.control, chip.read(register.control) ^ at(controls, a))
      return shown(chip.takeEvents())
  }
}

/** Both chips through one program; forks of both are kept and come back to. */
function compare(world: World, program: readonly Operation[]): void {
  let pair = [world.make({ tablePageCache: true }), world.make({ tablePageCache: false })]
  const points = [pair]
  for (const operation of program) {
    if (operation.kind === 'fork') points.push(pair.map((chip) => chip.fork()))
    else if (operation.kind === 'back') pair = at(points, operation.a)
    else {
      const [withCaches, without] = pair.map((chip) => perform(chip, world, operation))
      expect(withCaches).toBe(without)
    }
    const [withCaches, without] = pair.map((chip) => chip.fingerprint())
    expect(withCaches).toBe(without)
  }
  for (const [withCaches, without] of points) {
    expect(withCaches?.takeEvents()).toEqual(without?.takeEvents())
    for (const [address] of world.words) expect(withCaches?.load(address)).toBe(without?.load(address))
  }
}

const operationOf = (...kinds: Operation['kind'][]): fc.Arbitrary<Operation> =>
  fc.record({
    kind: fc.constantFrom(...kinds),
    a: fc.nat(0xffff),
    b: fc.nat(0xffff),
    c: fc.nat(0xffff),
  })

/** Few stores to many requests, or nothing is ever found. */
const program = fc.array(
  fc.oneof(
    { weight: 30, arbitrary: operationOf('ask') },
    { weight: 3, arbitrary: operationOf('look', 'watch', 'prefetch') },
    { weight: 6, arbitrary: operationOf('store') },
    { weight: 3, arbitrary: operationOf('command') },
    { weight: 1, arbitrary: operationOf('control') },
    { weight: 3, arbitrary: operationOf('fork', 'back') },
  ),
  { minLength: 10, maxLength: 80 },
)
const design = fc.constantFrom(...designs)
const lots = fc.array(fc.nat(9), { minLength: walkSwitches.length, maxLength: walkSwitches.length })

/** A machine like those that walks are compared on with the reference. */
function randomWorld(each: RandomCase, options: Parameters<typeof Chip.create>[0]): World {
  const make = ({ tablePageCache }: { tablePageCache: boolean }): Chip => {
    const memory = SparseMemory.create(Number(each.memorySize))
    const { features, registers } = each
    const chip = Chip.create({ ...options, memory, features, tablePageCache, control: 0n })
    chip.put(...each.words)
    registers.deviceTableBases.forEach((base, n) => {
      chip.write(n === 0 ? register.deviceTableBase : register.segment1Base + (n - 1) * 8, base)
    })
    chip.write(register.control, registers.control | controlBit.eventLogEn | controlBit.cmdBufEn)
    return chip
  }
  const requests = each.requests.map(({ user = true, ...asked }) => ({ ...asked, supervisor: !user }))
  return { make, requests, words: [...each.words], deviceIds: requests.map(({ deviceId }) => deviceId) }
}

/** A quiet machine in which nearly everything translates; A and D are set. */
function nestedWorld(options: Parameters<typeof Chip.create>[0]): World {
  const deviceIds = [1, 2, 3]
  const seen = new Map<bigint, bigint>()
  const make = ({ tablePageCache }: { tablePageCache: boolean }): Chip => {
    const chip = nestedChip(deviceIds, { ...options, tablePageCache })
    // HAD=11 for the second device.
    chip.put([deviceEntryAt(2), nestedDte(2)[0]! | (3n << 7n)])
    chip.write(register.control, controlsOn)
    return chip
  }
  const chip = make({ tablePageCache: false })
  const tablePages = [
    ...[0n, 0x1000n, 0x2000n].map((offset) => 0x100000000n + offset),
    ...[0x10000n, 0x11000n, 0x12000n].map((gpa) => 0x200000000n + gpa),
    ...Array.from({ length: 12 }, (_, n) => 0x200020000n + BigInt(n) * 0x1000n),
  ]
  for (const page of tablePages) {
    for (let offset = 0n; offset < 0x1000n; offset += 8n) {
      const value = chip.load(page + offset) ?? 0n
      // A word of most tables, and a few of those with many.
      if (value !== 0n && offset % 0x800n < 0x140n) seen.set(page + offset, value)
    }
  }
  for (const deviceId of deviceIds) {
    for (const offset of [0n, 8n]) {
      const address = deviceEntryAt(deviceId) + offset
      seen.set(address, chip.load(address) ?? 0n)
    }
  }
  const requests = deviceIds.flatMap((deviceId) =>
    [undefined, 0, 5, 0x200].flatMap((pasid) =>
      [0n, 0x5000n].map((page) => ({
        deviceId,
        pasid,
        iova: page + (pasid === undefined ? hostPages : guestPages),
        supervisor: page === 0n,
      })),
    ),
  )
  return { make, requests, words: [...seen], deviceIds }
}

const controlsOn =
  controlBit.iommuEn |
  controlBit.eventLogEn |
  controlBit.cmdBufEn |
  controlBit.gtEn |
  controlBit.hostDirty |
  controlBit.gcr3TrpMode

describe("the model's own caches", () => {
  it('are invisible on a machine on which most requests are translated', { timeout }, () => {
    fc.assert(
      fc.property(design, lots, program, (microArchitecture, chosen, operations) => {
        compare(nestedWorld({ microArchitecture, switches: switchesOf(chosen) }), operations)
      }),
      { numRuns: runs(120) },
    )
  })

  it('are invisible on machines of all kinds', { timeout }, () => {
    fc.assert(
      fc.property(fc.nat(1_000_000), design, lots, program, (seed, microArchitecture, chosen, operations) => {
        const world = randomWorld(randomCase(seed), { microArchitecture, switches: switchesOf(chosen) })
        if (world.requests.length > 0) compare(world, operations)
      }),
      { numRuns: runs(150) },
    )
  })
})
