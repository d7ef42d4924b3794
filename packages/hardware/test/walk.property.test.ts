/** The fast model against the slow twin of `slow/`: random machines, every answer, every access. */
import { describe, expect, it } from 'vitest'
import { switchChoices } from '../src/index.js'
import type { SwitchChoices } from '../src/index.js'
import { chipOf, isInHole } from './random-chip.js'
import { machineOf, randomCase } from './slow/random-machine.js'
import { Random } from './slow/random.js'
import { choices as slowChoices } from './slow/switches.js'
import type { Switches as SlowSwitches } from './slow/switches.js'
import { slowTranslate } from './slow/translate.js'
import { ask, textOfSlow, twins } from './walk-twin.js'

/** Requests compared, three fifths of them under the defaults. */
const wanted = Number(process.env['NESTWALK_WALKS'] ?? 50_000)
/** Where the random machines start; a failure names the seed to begin at. */
const firstSeed = Number(process.env['NESTWALK_SEED'] ?? 1)

/** One choice of each switch, the same for both: the default, or by lot one of all, a third of the switches turned. */
function choicesOf(seed: number, turned: boolean): [Partial<SwitchChoices>, Partial<SlowSwitches>] {
  const random = new Random(seed)
  const fast: Record<string, string> = {}
  const slow: Record<string, string> = {}
  for (const [name, twin] of turned ? twins : []) {
    if (!random.chance(0.33)) continue
    const n = random.below(switchChoices[name].length)
    fast[name] = switchChoices[name][n] ?? ''
    slow[twin] = slowChoices[twin][n] ?? ''
  }
  return [fast, slow]
}

/** Compares random cases until so many requests are done. */
function compare(requests: number, turned: boolean): void {
  for (let seed = firstSeed, done = 0; done < requests; seed++) {
    const each = randomCase(seed)
    const [fast, slow] = choicesOf(seed, turned)
    const chip = chipOf(each, fast)
    const machine = machineOf(each)
    each.requests.forEach((request, n) => {
      // What the hole holds is tested apart: the twin only knows where it is.
      if (isInHole(each, request)) return
      const expected = textOfSlow(slowTranslate(machine, request, slow))
      const actual = ask(chip, request)
      if (actual !== expected)
        expect(actual, `seed ${seed} request ${n} ${JSON.stringify(fast)}`).toBe(expected)
      done++
    })
  }
}

describe('a walk', () => {
  it('answers, reads, stores and reports as the reference says, step by step', { timeout: 3_600_000 }, () => {
    compare(wanted * 0.6, false)
  })

  it('does so under every other choice where the manual leaves one', { timeout: 3_600_000 }, () => {
    compare(wanted * 0.4, true)
  })
})
