import { iova, spa, wordsFromHex } from '@nestwalk/bits'
import { decodeDte, encodeDte, load64, SparseMemory, store64 } from '@nestwalk/hardware'
import type { Dte } from '@nestwalk/hardware'
import type { Effect } from '@nestwalk/driver'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import vectors from '@nestwalk/hardware/vectors/dte.json' with { type: 'json' }
import { flushEntry, storeEntry } from '../src/dte-update.js'
import { Plan } from '../src/plan.js'
import { answer, Machine, readWrite, told } from './machine.js'

const deviceTable = spa(0x10000n)
const deviceId = 0x18
const at = spa(deviceTable + BigInt(deviceId * 32))

const vector = (name: string): BigUint64Array =>
  wordsFromHex(vectors.vectors.find((each) => each.name === name)!.words)

const passing = new BigUint64Array(4)
const host = vector('D3')
const otherHost = encodeDte({ hostRoot: spa(0x7000n) }, host)
const guestOnly = vector('D2')
const nested = vector('D4')
const nestedFive = vector('D5')
const blocked = vector('D7')

interface Update {
  readonly effects: readonly Effect[]
  readonly lines: readonly string[]
  /** The entry before the first effect, and after each. */
  readonly seen: readonly BigUint64Array[]
}

/** Updates an entry and reads all 256 bits of it before and after each effect. */
function update(old: BigUint64Array, next: BigUint64Array): Update {
  const memory = SparseMemory.create(1 << 20)
  const read = (): BigUint64Array =>
    BigUint64Array.from([0n, 8n, 16n, 24n], (offset) => load64(memory, at + offset)!)
  old.forEach((word, i) => store64(memory, at + BigInt(i * 8), word))
  const plan = new Plan(memory)
  const place = { deviceId, iommu: 0, address: at }
  storeEntry(plan, place, next, 'blocked')
  flushEntry(plan, place, 'no cached copy may stay')
  plan.wait(0)
  const seen = [read()]
  for (const effect of plan.effects) {
    if (effect.kind === 'store') {
      effect.words.forEach((word, i) => store64(memory, effect.address + BigInt(i * 8), word))
    }
    seen.push(read())
  }
  return { effects: plan.effects, lines: plan.effects.map((effect) => told(effect, deviceTable)), seen }
}

const [lower, upper, flush] = ['00:03.0 lower', '00:03.0 upper', ['DEVTAB 00:03.0', 'WAIT']]

describe('the update table: stores, then DEVTAB and wait', () => {
  const closing = [...flush, ...flush]
  const rows: readonly (readonly [
    row: string,
    old: BigUint64Array,
    next: BigUint64Array,
    lines: readonly string[],
  ])[] = [
    ['V=0 to any: upper, lower', passing, host, [upper, lower, ...closing]],
    ['V=0 to a guest entry: upper, lower', passing, nestedFive, [upper, lower, ...closing]],
    ['V=0 to V=0: upper, lower', passing, passing, [upper, lower, ...closing]],
    ['V=1 to V=0: lower, upper', host, passing, [lower, upper, ...closing]],
    ['V=1 GV=1 to V=0: lower, upper', nestedFive, passing, [lower, upper, ...closing]],
    ['V=1 TV=0 to V=1: upper, lower', blocked, host, [upper, lower, ...closing]],
    ['V=1 GV=0 to V=1 GV=0: upper, lower', host, otherHost, [upper, lower, ...closing]],
    ['V=1 GV=0 to V=1 GV=1: upper, lower', host, nestedFive, [upper, lower, ...closing]],
    ['V=1 GV=1 to V=1 GV=0: lower, upper', nestedFive, host, [lower, upper, ...closing]],
    ['V=1 GV=1 to blocked: lower, upper', nested, blocked, [lower, upper, ...closing]],
    [
      'both GV=1, guest level differs: lower blocked, upper, lower',
      nested,
      nestedFive,
      [lower, ...flush, upper, lower, ...closing],
    ],
    [
      'both GV=1, guest level differs the other way',
      nestedFive,
      guestOnly,
      [lower, ...flush, upper, lower, ...closing],
    ],
    ['both GV=1, same guest level: lower only', nested, guestOnly, [lower, ...flush]],
  ]
  it.each(rows)('%s', (_row, old, next, lines) => {
    const { seen, lines: told } = update(old, next)
    expect(told).toEqual(lines)
    expect(seen.at(-1)).toEqual(next)
  })

  it('blocks with V=1 TV=0 and nothing else between two guest levels (U19)', () => {
    const { seen } = update(nested, nestedFive)
    expect([...seen[1]!.slice(0, 2)]).toEqual([1n, 0n])
  })
})

/** What a valid entry does to a request: TV=0 refuses whatever the other fields are. */
function meaning(words: BigUint64Array): Partial<Dte> | 'refuses' {
  const dte = decodeDte(words)
  if (!dte.translationValid) return 'refuses'
  // Interrupt fields have their own valid bit, and without GV the guest fields mean nothing.
  const { mode, hostRoot, hostAccessDirty, readAllowed, writeAllowed, domainId, iotlbEnabled } = dte
  const { guestValid, guestIoValid, gcr3Levels, gcr3Root, guestPagingMode, pageRequestsAllowed } = dte
  return {
    ...{ mode, hostRoot, hostAccessDirty, readAllowed, writeAllowed, domainId, iotlbEnabled, guestValid },
    ...(guestValid ? { guestIoValid, gcr3Levels, gcr3Root, guestPagingMode, pageRequestsAllowed } : {}),
  }
}

const bits = (count: number): fc.Arbitrary<bigint> => fc.bigInt({ min: 0n, max: (1n << BigInt(count)) - 1n })

/** Interrupt fields: all of quad-word 2 but GuestPagingMode. */
const interruptFields = bits(64).map((word) => word & ~(3n << 54n))

/** Entries with V=1 of every kind that the driver makes, with interrupt fields. */
const validEntry = fc
  .record({
    translationValid: fc.boolean(),
    guestValid: fc.boolean(),
    guestIoValid: fc.boolean(),
    pageRequestsAllowed: fc.boolean(),
    mode: fc.nat({ max: 6 }),
    frame: bits(40),
    gcr3Frame: bits(40),
    gcr3Levels: fc.nat({ max: 2 }),
    guestPagingMode: fc.nat({ max: 1 }),
    word1: bits(16),
    interrupts: interruptFields,
  })
  .map(({ frame, gcr3Frame, word1, interrupts, ...fields }) =>
    encodeDte(
      {
        ...fields,
        ...{ valid: true, readAllowed: true, writeAllowed: true },
        hostRoot: spa(frame << 12n),
        gcr3Root: gcr3Frame << 12n,
      },
      BigUint64Array.of(0n, word1, interrupts, 0n),
    ),
  )

describe('an update from one valid entry to another', () => {
  it('never shows V=0 to a 256-bit read between any two effects (I22)', () => {
    fc.assert(
      fc.property(validEntry, validEntry, (old, next) => {
        for (const words of update(old, next).seen) expect(words[0]! & 1n).toBe(1n)
      }),
    )
  })

  it('never shows a mixture that translates: what is read means the old entry, the new one, or refuses (I15)', () => {
    fc.assert(
      fc.property(validEntry, validEntry, (old, next) => {
        for (const words of update(old, next).seen) {
          expect([meaning(old), meaning(next), 'refuses']).toContainEqual(meaning(words))
        }
      }),
    )
  })

  it('ends with the new entry, whose interrupt fields are those of the old one', () => {
    fc.assert(
      fc.property(validEntry, validEntry, (old, next) => {
        const last = update(old, next).seen.at(-1)!
        expect([...last.slice(0, 2)]).toEqual([...next.slice(0, 2)])
        const owned = 0xfn << 52n
        expect(last[2]! & ~owned).toBe(old[2]! & ~owned)
        if (decodeDte(next).guestValid) {
          expect(decodeDte(last).guestPagingMode).toBe(decodeDte(next).guestPagingMode)
        }
      }),
    )
  })

  it('ends with every DEVTAB behind the last store, and waited for', () => {
    fc.assert(
      fc.property(validEntry, validEntry, (old, next) => {
        const { lines } = update(old, next)
        expect(lines.slice(-2)).toEqual(flush)
        expect(lines.lastIndexOf('DEVTAB 00:03.0')).toBeGreaterThan(lines.lastIndexOf(lower))
      }),
    )
  })
})

it('takes bits 53:52 and the last quad-word from the new entry when it stores the upper half', () => {
  const old = BigUint64Array.of(host[0]!, host[1]!, 0xe730_0007_e0d6_a011n, 0x0000_0003_0008_8000n)
  expect([...update(old, otherHost).seen.at(-1)!.slice(2)]).toEqual([0xe700_0007_e0d6_a011n, 0n])
})

it('leaves the upper half alone where both entries have guest tables of one depth', () => {
  const old = BigUint64Array.of(nested[0]!, nested[1]!, 0xe700_0007_e0d6_a011n, 0x0000_0003_0008_8000n)
  expect([...update(old, guestOnly).seen.at(-1)!.slice(2)]).toEqual([...old.slice(2)])
})

describe('a chip that caches the entry at any moment of an update', () => {
  /** A device on a domain, whose request is answered before and after each effect of a move. */
  function watched(move: (machine: Machine) => [number, number]): string[] {
    const machine = Machine.create()
    machine.run(machine.driver.probe(deviceId, 1))
    const [from, to] = move(machine)
    machine.run(machine.driver.attach(deviceId, from))
    const moved = machine.driver.replace(deviceId, to)
    if (!moved.ok) throw new Error(moved.why)
    const ask = (): string => answer(machine.iommu.request({ deviceId, iova: 0x5abcn }))
    const answers = [ask()]
    for (const effect of moved.effects) {
      while (!machine.driver.apply(effect)) {
        expect(machine.iommu.step()).toBe(true)
        answers.push(ask())
      }
      answers.push(ask())
    }
    expect(ask()).toBe(answer(machine.iommu.walkFresh({ deviceId, iova: 0x5abcn })))
    return [...new Set(answers)]
  }

  const page = (machine: Machine, domain: number, target: bigint): number => {
    machine.run(machine.driver.map(domain, iova(0x5000n), spa(target), 0x1000n, readWrite))
    return domain
  }

  it('answers with the old host table, then with the new one', () => {
    const answers = watched((machine) => {
      const [one, other] = [0, 1].map(() => machine.run(machine.driver.allocateHostTable()))
      return [page(machine, one!, 0x111000n), page(machine, other!, 0x222000n)]
    })
    expect(answers).toEqual(['translated 111abc', 'translated 222abc'])
  })

  it('refuses between guest tables of four and five levels, and never forwards (S35)', () => {
    const answers = watched((machine) => {
      const four = machine.run(machine.driver.allocateGuestTable({ levels: 4 }))
      const five = machine.run(machine.driver.allocateGuestTable({ levels: 5 }))
      return [page(machine, four, 0x111000n), page(machine, five, 0x222000n)]
    })
    expect(answers).toEqual(['translated 111abc', 'fault', 'translated 222abc'])
  })
})
