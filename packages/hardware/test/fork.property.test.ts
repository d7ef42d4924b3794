/** A machine is a value that can be forked: what a fork does is what a machine made anew would do. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Iommu, SparseMemory } from '../src/index.js'
import { Chip, register } from './chip.js'
import { operation, perform, programDomains, visible } from './random-program.js'
import type { Operation } from './random-program.js'
import { nestedChip } from './tables.js'

/** Far more than it takes: these run beside other tests. */
const timeout = 120_000

const program = fc.array(operation, { maxLength: 60 })

interface Run {
  readonly chip: Chip
  readonly seen: string[]
}

const newRun = (): Run => ({ chip: nestedChip(programDomains), seen: [] })
const go = (run: Run, operations: readonly Operation[]): void => {
  for (const each of operations) run.seen.push(perform(run.chip, each))
}

function replay(...parts: readonly (readonly Operation[])[]): Run {
  const run = newRun()
  for (const part of parts) go(run, part)
  return run
}

function expectEqual(actual: Run, expected: Run): void {
  expect(actual.seen).toEqual(expected.seen)
  expect(actual.chip.fingerprint()).toBe(expected.chip.fingerprint())
  expect(visible(actual.chip)).toBe(visible(expected.chip))
}

describe('a fork of a chip', () => {
  it(
    'goes its own way, and so does the chip, each as if it had been alone from the start',
    { timeout },
    () => {
      fc.assert(
        fc.property(program, program, program, (before, ofChip, ofFork) => {
          const run = replay(before)
          const fork: Run = { chip: run.chip.fork(), seen: [...run.seen] }
          // In turns, so that the words go from one to the other and back all the time.
          for (let n = 0; n < Math.max(ofChip.length, ofFork.length); n++) {
            go(run, ofChip.slice(n, n + 1))
            go(fork, ofFork.slice(n, n + 1))
          }
          expectEqual(run, replay(before, ofChip))
          expectEqual(fork, replay(before, ofFork))
        }),
        { numRuns: 120 },
      )
    },
  )

  it('made before a step keeps what was there: going back is using it', { timeout }, () => {
    fc.assert(
      fc.property(fc.array(operation, { minLength: 5, maxLength: 40 }), (operations) => {
        const run = newRun()
        const points = operations.map((each) => {
          const kept = { chip: run.chip.fork(), fingerprint: run.chip.fingerprint() }
          go(run, [each])
          return kept
        })
        points.reverse().forEach(({ chip, fingerprint }, n) => {
          expect(chip.fingerprint()).toBe(fingerprint)
          if (n % 7 === 0)
            expect(visible(chip)).toBe(visible(replay(operations.slice(0, operations.length - 1 - n)).chip))
        })
      }),
      { numRuns: 60 },
    )
  })
})

describe('a look that changes nothing', () => {
  it(
    'leaves the fingerprint as it is and tells what a cold chip would do, but for what it would log',
    { timeout },
    () => {
      fc.assert(
        fc.property(program, fc.array(operation, { maxLength: 20 }), (before, asked) => {
          const { chip } = replay(before)
          const fingerprint = chip.fingerprint()
          for (const each of asked) {
            if (each.kind !== 'request') continue
            const { kind: _, ...request } = each
            const looked = chip.iommu.walkFresh(request)
            expect(chip.fingerprint()).toBe(fingerprint)
            const cold = chip.fork()
            const control = cold.read(register.control)
            cold.write(register.control, (control | (1n << 12n)) ^ (1n << 12n))
            cold.write(register.commandHead, 0n)
            cold.write(register.commandTail, 0n)
            cold.write(register.control, control | (1n << 12n))
            if ((control & 1n) === 1n) expect(cold.command([0x8000000000000000n, 0n])).toBe(1)
            const walked = cold.iommu.request(request)
            const unlogged = walked.kind === 'fault' ? { ...walked, logged: false } : walked
            expect(looked).toEqual(unlogged)
          }
        }),
        { numRuns: 100 },
      )
    },
  )
})

describe('the fingerprint of a machine', () => {
  it('takes in which devices have their entries cached, even if the entries are equal', () => {
    const after = (...deviceIds: number[]): string => {
      const chip = Chip.create()
      for (const deviceId of deviceIds) chip.iommu.request({ deviceId, iova: 0n })
      return chip.fingerprint()
    }
    expect(new Set([after(), after(1), after(2), after(1, 2), after(1, 2, 3)]).size).toBe(5)
    expect(after(2, 1)).toBe(after(1, 2))
  })

  it('takes in every chip on a memory: two chips in one state do not cancel out', () => {
    const make = (count: number): string => {
      const memory = SparseMemory.create(2 ** 30)
      for (let n = 0; n < count; n++) {
        const iommu = Iommu.create({ memory })
        iommu.writeMmio(register.control, 8, 1n)
        iommu.request({ deviceId: 3, iova: 0n })
      }
      return memory.words.fingerprint().join()
    }
    expect(new Set([make(0), make(1), make(2), make(3)]).size).toBe(4)
  })
})
