/** The fast model against the slow twin of `slow/`: random machines, every answer, every access. */
import { describe, expect, it } from 'vitest'
import { hex } from '@nestwalk/bits'
import { load64 } from '../src/index.js'
import type { SwitchChoices, Translation } from '../src/index.js'
import type { Chip } from './chip.js'
import { chipOf, isModelled } from './random-chip.js'
import { machineOf, randomCase } from './slow/random-machine.js'
import type { Switches as SlowSwitches } from './slow/switches.js'
import { slowTranslate } from './slow/translate.js'
import type { Request as SlowRequest, Result as SlowResult } from './slow/types.js'
import { watching } from './watch.js'
import type { Seen } from './watch.js'

/** Requests compared, three fifths of them under the defaults. */
const wanted = Number(process.env['NESTWALK_WALKS'] ?? 30_000)
/** Where the random machines start; a failure names the seed to begin at. */
const firstSeed = Number(process.env['NESTWALK_SEED'] ?? 1)

/** For each choice of the fast model that is not the default, the twin's name for the same. */
const otherChoices: readonly (readonly [Partial<SwitchChoices>, Partial<SlowSwitches>])[] = [
  [{ modeReserved: 'io-page-fault' }, { 'mode-reserved': 'page-fault' }],
  [{ glxReserved: 'rz-1' }, { 'glx-reserved': 'rz1' }],
  [{ guestPagingModeReserved: 'rz-1' }, { 'gpm-reserved': 'rz1' }],
  [{ pasidBeyondGlx: 'pr-1' }, { 'pasid-beyond-glx': 'pr1' }],
  [{ pasidWithoutGuestTables: 'ignore-pasid' }, { 'pasid-gv0': 'untagged' }],
  [{ pasidWithoutValid: 'fault' }, { 'pasid-v0': 'fault' }],
  [{ aboveWidth: 'pr-1' }, { 'above-width': 'pr1' }],
  [{ nonCanonical: 'pr-1' }, { 'non-canonical': 'pr1' }],
  [{ deviceIdBeyondTable: 'illegal-dev-table-entry' }, { 'devid-beyond-table': 'illegal-dte' }],
]

/** A subset of the other choices for each number below 2^9. */
function choicesOf(subset: number): [Partial<SwitchChoices>, Partial<SlowSwitches>] {
  const chosen = otherChoices.filter((_, n) => (subset >> n) % 2 === 1)
  return [
    Object.assign({}, ...chosen.map(([fast]) => fast)) as Partial<SwitchChoices>,
    Object.assign({}, ...chosen.map(([, slow]) => slow)) as Partial<SlowSwitches>,
  ]
}

const list = (values: readonly bigint[]): string => values.map((value) => hex(value)).join(' ')

function textOfSlow(result: SlowResult): string {
  const { reads, dteReads } = result
  const accesses = `reads ${list(reads)} entry ${list(dteReads)}`
  if (result.kind === 'fault') return `fault ${result.event ? list(result.event) : 'suppressed'} ${accesses}`
  if (result.kind === 'forwarded') return `forwarded ${hex(result.spa)} ${accesses}`
  if (result.kind !== 'translated') throw new Error(`the twin answers ${result.kind}`)
  const { spa, sizeLog2, readable, writable, stores } = result
  const stored = stores.map((store) => `${hex(store.address)}=${hex(store.new)}`).sort()
  const page = `${hex(spa)} size ${sizeLog2 ?? 64} ${readable ? 'r' : '-'}${writable ? 'w' : '-'}`
  return `translated ${page} ${accesses} stores ${stored.join(' ')}`
}

/** `chip` is the one that did it, with its event log and its memory as they are afterwards. */
function textOfFast(chip: Chip, result: Translation, seen: Seen): string {
  const accesses = `reads ${list(seen.reads)} entry ${list(seen.entryReads)}`
  if (result.kind === 'forwarded') return `forwarded ${hex(result.address)} ${accesses}`
  if (result.reads !== seen.reads.length) return `${result.reads} reads counted, ${seen.reads.length} seen`
  if (result.kind === 'fault') {
    const logged = chip.takeEvents().map(([lo, hi]) => list([lo, hi]))
    if (result.logged !== (logged.length === 1))
      return `logged: ${result.logged}, but ${logged.length} events`
    return `fault ${logged[0] ?? 'suppressed'} ${accesses}`
  }
  const { spa, sizeLog2, readable, writable } = result
  const stored = [...new Set(seen.stores)]
    .map((address) => `${hex(address)}=${hex(load64(chip.memory, address) ?? 0n)}`)
    .sort()
  const page = `${hex(spa)} size ${sizeLog2} ${readable ? 'r' : '-'}${writable ? 'w' : '-'}`
  return `translated ${page} ${accesses} stores ${stored.join(' ')}`
}

/** The request on a fork of the chip, so that each one starts cold. */
function ask(chip: Chip, request: SlowRequest): string {
  const { user = true, ...asked } = request
  const fork = chip.fork()
  const { value, ...seen } = watching(fork.iommu, () => fork.iommu.request({ ...asked, supervisor: !user }))
  return textOfFast(fork, value, seen)
}

/** Compares random cases until so many requests are done; `subsetOf` picks the choices of a seed. */
function compare(requests: number, subsetOf: (seed: number) => number): void {
  for (let seed = firstSeed, done = 0; done < requests; seed++) {
    const each = randomCase(seed)
    each.registers.exclusionBase = 0n
    const [fast, slow] = choicesOf(subsetOf(seed))
    const chip = chipOf(each, fast)
    const machine = machineOf(each)
    each.requests.forEach((request, n) => {
      if (!isModelled(each, request)) return
      const expected = textOfSlow(slowTranslate(machine, request, slow))
      const actual = ask(chip, request)
      if (actual !== expected)
        expect(actual, `seed ${seed} request ${n} ${JSON.stringify(fast)}`).toBe(expected)
      done++
    })
  }
}

describe('a walk', () => {
  it('answers, reads, stores and reports as the reference says, step by step', { timeout: 600_000 }, () => {
    compare(wanted * 0.6, () => 0)
  })

  it('does so under every other choice where the manual leaves one', { timeout: 600_000 }, () => {
    compare(wanted * 0.4, (seed) => seed % (1 << otherChoices.length))
  })
})
