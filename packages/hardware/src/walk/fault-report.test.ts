/** Where the event of a refused request goes when devices belong to guests. */
import { describe, expect, it } from 'vitest'
import { createParts } from '../chip-parts.js'
import { SparseMemory } from '../memory/sparse-memory.js'
import { outcome, request, resultWord, resultWords } from './answer.js'
import { notPresent, silentAbort } from './fault.js'
import { FaultReport } from './fault-report.js'

/** Without an event log; a guest's log takes what `takes` says. */
function reportOf(takes: boolean | null) {
  const { memory, registers, deviceTableCache, switches } = createParts({
    memory: SparseMemory.create(2 ** 30),
  })
  const result = new Int32Array(resultWords)
  const faults = new FaultReport(memory, registers, deviceTableCache, switches, result)
  const routed: number[][] = []
  if (takes !== null) {
    faults.route = (slot, event) => {
      routed.push([slot, ...event])
      return takes
    }
  }
  return { faults, result, routed }
}

/** Device 6 at 1000, without PASID. */
const report = ({ faults }: { faults: FaultReport }, fault: number, flags = 0): number =>
  faults.report(-1, fault, 6, -1, 0x1000, 0, flags)

describe('the event of a device', () => {
  it('is logged where the log of its guest takes it', () => {
    for (const takes of [true, false]) {
      const of = reportOf(takes)
      expect(report(of, notPresent)).toBe(outcome.faulted)
      expect(of.routed).toEqual([[-1, 6, 0x20000000, 0x1000, 0]])
      expect(of.result[resultWord.logged]).toBe(takes ? 1 : 0)
    }
    const host = reportOf(null)
    report(host, notPresent)
    expect(host.result[resultWord.logged]).toBe(0)
  })

  it.each([
    ['a look that changes nothing', notPresent, request.fresh],
    ['a prefetch', notPresent, request.prefetch],
    ['an abort that no event tells of', silentAbort, 0],
  ])('goes nowhere for %s', (_, fault, flags) => {
    const of = reportOf(true)
    report(of, fault, flags)
    expect(of.routed).toEqual([])
    expect(of.result[resultWord.logged]).toBe(0)
  })
})
