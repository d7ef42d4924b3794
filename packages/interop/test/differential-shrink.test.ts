import { expect, test } from 'vitest'
import { arena } from '../src/differential/arena.js'
import { shrunk } from '../src/differential/campaign.js'
import type { DifferentialCase } from '../src/differential/differential-case.js'
import { generateCase } from '../src/differential/generate/generate.js'
import { Laboratory } from '../src/differential/laboratory.js'
import { Safety } from '../src/differential/safety.js'
import { shrink, simplerThan } from '../src/differential/shrink.js'
import { caseOf, dma, onePath } from './differential-cases.js'
import { KnownPeer } from './known-peer.js'

/** How much there is in a case: it has to become less with every step. */
function weight(testCase: DifferentialCase): number {
  const words = [...testCase.memory.map(([, value]) => value), testCase.control]
  const bits = words.reduce((sum, word) => sum + word.toString(2).replaceAll('0', '').length, 0)
  const commands = testCase.steps.reduce(
    (sum, step) => sum + (step.kind === 'commands' ? step.commands.length : 0),
    0,
  )
  const iovas = testCase.steps.reduce(
    (sum, step) =>
      sum + (step.kind === 'dma' ? step.iova.toString(2).replaceAll('0', '').length + step.bytes : 0),
    0,
  )
  return 100 * (testCase.steps.length + testCase.memory.length) + 10 * commands + bits + iovas
}

test('what is left fails, and nothing can be left out of it', async () => {
  // Fails as soon as there is a write of address bit 13 and a table entry at one place.
  const at = onePath[2]?.[0]
  const fails = (testCase: DifferentialCase): Promise<boolean> =>
    Promise.resolve(
      testCase.memory.some(([address, value]) => address === at && (value & 1n) === 1n) &&
        testCase.steps.some((step) => step.kind === 'dma' && step.write && (step.iova & 0x2000n) !== 0n),
    )
  const big = caseOf([dma(0x1234_2008n, false, 16), dma(0x7fff_3004n, true, 16), dma(8n, true)])
  const small = await shrink(big, fails)
  expect(small.steps).toEqual([dma(0x2000n, true)])
  expect(small.memory).toEqual([[at, 1n]])
  expect(small.control).toBe(0n)
})

test('a case that cannot be made smaller stays', async () => {
  const testCase = caseOf([dma(0n, true)])
  expect(await shrink(testCase, () => Promise.resolve(false))).toBe(testCase)
})

test('it ends, though everything fails', async () => {
  const small = await shrink(generateCase(1, 3), () => Promise.resolve(true))
  expect(small.steps).toEqual([])
  expect(small.memory).toEqual([])
})

test('every simpler case is simpler, or has a plainer start', () => {
  const testCase = caseOf([dma(0x123_4568n, true, 8)])
  for (const simpler of simplerThan(testCase)) {
    expect(weight(simpler)).toBeLessThan(weight(testCase))
  }
})

test('a difference stays between the same two, and reruns from what is left', async () => {
  // A QEMU that writes one word too many whenever a leaf of the target is used.
  const peer = new KnownPeer((memory) => {
    if (memory.readUInt32LE(arena.targets + 0x40) >>> 28 === 0xd)
      memory.writeUInt32LE(7, arena.targets + 0x80)
  })
  const laboratory = new Laboratory(peer)
  const safety = new Safety()
  const testCase = caseOf([dma(8n, false), dma(0x40n, true, 8), dma(0x20_0000n, false), dma(0x10n, true)])
  const verdict = await laboratory.run(testCase)
  if (verdict.kind !== 'difference') throw new Error('there is no difference')
  const small = await shrunk(laboratory, safety, { testCase, verdict })
  expect(small.verdict.between).toBe('QEMU and what is known of it')
  expect(small.testCase.steps.filter(({ kind }) => kind === 'dma')).toHaveLength(1)
  expect(small.testCase.memory.length).toBeLessThan(testCase.memory.length)
  expect(small.testCase.origin).toBe('by hand, made smaller')
  expect(await laboratory.run(small.testCase)).toEqual(small.verdict)
})
