/**
 * Each choice that the manual leaves, turned alone: the fast model and the slow twin agree on machines for which the
 * choice makes a difference.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { switchChoices } from '../src/index.js'
import type { SwitchChoices } from '../src/index.js'
import { chipOf, isInHole } from './random-chip.js'
import { machineOf, randomCase } from './slow/random-machine.js'
import { choices as slowChoices } from './slow/switches.js'
import { slowTranslate } from './slow/translate.js'
import { ask, textOfSlow, twins } from './walk-twin.js'

/**
 * Seeds by switch and choice, found by a search: `NESTWALK_FIND_SEEDS=1 pnpm vitest run walk-switches` writes them anew
 * after the random machines have changed.
 */
const file = new URL('slow/telling-seeds.json', import.meta.url)
const isSearch = process.env['NESTWALK_FIND_SEEDS'] !== undefined
const seedsEach = 4
const lastSeed = 60_000

const alternatives = twins.flatMap(([name, twin]) =>
  switchChoices[name]
    .slice(1)
    .map((choice, n) => ({ name, choice, twin, twinChoice: slowChoices[twin][n + 1] ?? '' })),
)

/** The answers to a random machine's requests, of the fast model. */
function answers(seed: number, turned: Partial<SwitchChoices>): string[] {
  const each = randomCase(seed)
  const chip = chipOf(each, turned)
  return each.requests.filter((request) => !isInHole(each, request)).map((request) => ask(chip, request))
}

function search(): Record<string, number[]> {
  const found = Object.fromEntries(
    alternatives.map(({ name, choice }) => [`${name} ${choice}`, [] as number[]]),
  )
  for (let seed = 1; seed < lastSeed; seed++) {
    const open = alternatives.filter(
      ({ name, choice }) => (found[`${name} ${choice}`] ?? []).length < seedsEach,
    )
    if (open.length === 0) break
    const usual = answers(seed, {}).join('\n')
    for (const { name, choice } of open) {
      if (answers(seed, { [name]: choice }).join('\n') !== usual) found[`${name} ${choice}`]?.push(seed)
    }
  }
  return found
}

if (isSearch) writeFileSync(file, `${JSON.stringify(search(), null, 1)}\n`)
const seeds = JSON.parse(readFileSync(file, 'utf8')) as Record<string, number[]>

describe('a choice that the manual leaves', () => {
  it.each(alternatives)('$name: $choice', ({ name, choice, twin, twinChoice }) => {
    const telling = seeds[`${name} ${choice}`] ?? []
    expect(telling.length).toBeGreaterThan(0)
    for (const seed of telling) {
      const each = randomCase(seed)
      const machine = machineOf(each)
      const requests = each.requests.filter((request) => !isInHole(each, request))
      const twins = [{}, { [twin]: twinChoice }].map((turned) =>
        requests.map((request) => textOfSlow(slowTranslate(machine, request, turned))),
      )
      expect(answers(seed, {}), `seed ${seed}, default`).toEqual(twins[0])
      expect(answers(seed, { [name]: choice }), `seed ${seed}, turned`).toEqual(twins[1])
      expect(twins[0], `seed ${seed}: no difference`).not.toEqual(twins[1])
    }
  })
})
