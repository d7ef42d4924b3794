/** Chips with every kind of cache, and the oracle for each. */
import type { MicroArchitecture, SwitchChoices, Translation } from '../src/index.js'
import { controlBit, quietControl } from './chip.js'
import type { Chip } from './chip.js'
import { PossibleCaches, refusalOf, translationOf } from './cached-answers-oracle.js'
import { worldChip } from './cached-answers-world.js'
import type { Entry } from './cached-answers-world.js'

export interface Machine {
  readonly microArchitecture: Partial<MicroArchitecture>
  readonly switches?: Partial<SwitchChoices>
  readonly tablePageCache?: boolean
  readonly marks?: boolean
}

const small = (replacement: 'lru' | 'fifo' | 'random') =>
  ({ kind: 'set-associative', setsLog2: 1, ways: 2, replacement }) as const
const large = { kind: 'hashed', capacityLog2: 6 } as const
const byGpa = { hostFlushOfNested: 'by-remembered-gpa' } as const

export const machines: readonly (readonly [string, Machine])[] = [
  ['hashed', { microArchitecture: {} }],
  ['hashed, A and D', { microArchitecture: {}, marks: true }],
  ['LRU', { microArchitecture: { iotlb: small('lru') } }],
  ['FIFO', { microArchitecture: { iotlb: small('fifo') }, marks: true }],
  ['random replacement', { microArchitecture: { iotlb: small('random') } }],
  [
    'table pages known to the model, LRU',
    { microArchitecture: { iotlb: small('lru') }, tablePageCache: true },
  ],
  ['table pages known to the model, A and D', { microArchitecture: {}, tablePageCache: true, marks: true }],
  ['hits fault', { microArchitecture: {}, switches: { hitWithoutRights: 'fault' } }],
  ['absent pages kept', { microArchitecture: { cachesAbsent: true } }],
  ['absent pages, GPAs', { microArchitecture: { cachesAbsent: true, remembersGpas: true }, switches: byGpa }],
  ['GPAs remembered, not used', { microArchitecture: { remembersGpas: true } }],
  ['GPAs remembered', { microArchitecture: { remembersGpas: true }, switches: byGpa, marks: true }],
  ['GPAs wanted, not remembered', { microArchitecture: {}, switches: byGpa }],
  ['late invalidations', { microArchitecture: { invalidations: 'at-completion-wait' } }],
  ['split', { microArchitecture: { nestedEntries: 'split' } }],
  [
    'split, small, A and D',
    { microArchitecture: { nestedEntries: 'split', iotlb: small('lru') }, marks: true },
  ],
  ['split, by GPA', { microArchitecture: { nestedEntries: 'split' }, switches: byGpa }],
  ['both', { microArchitecture: { nestedEntries: 'both', remembersGpas: true }, switches: byGpa }],
  ['both, absent pages', { microArchitecture: { nestedEntries: 'both', cachesAbsent: true } }],
  ['GCR3 cache', { microArchitecture: { gcr3Cache: large } }],
  ['GCR3 cache, GPAs', { microArchitecture: { gcr3Cache: large, remembersGpas: true }, switches: byGpa }],
  ['page-walk cache', { microArchitecture: { pageWalkCache: large } }],
  [
    'page-walk cache, late invalidations',
    { microArchitecture: { pageWalkCache: large, invalidations: 'at-completion-wait' } },
  ],
  ['page-walk cache, A and D', { microArchitecture: { pageWalkCache: small('fifo') }, marks: true }],
  [
    'page-walk cache, GPAs',
    { microArchitecture: { pageWalkCache: large, remembersGpas: true }, switches: byGpa },
  ],
  [
    'all there is, small',
    {
      microArchitecture: {
        iotlb: small('random'),
        nestedEntries: 'both',
        pageWalkCache: small('lru'),
        gcr3Cache: small('fifo'),
        invalidations: 'at-completion-wait',
        remembersGpas: true,
        cachesAbsent: true,
      },
      switches: { ...byGpa, hitWithoutRights: 'fault', directoriesOfOtherPasids: 'flushed' },
      tablePageCache: true,
      marks: true,
    },
  ],
]

const marking = controlBit.guestDirtyOff | controlBit.guestAccessedOff
const controlOf = ({ marks }: Machine): bigint =>
  marks === true ? (quietControl & ~marking) | controlBit.hostDirty : quietControl

export const newChip = (machine: Machine, entries: readonly Entry[]): Chip => {
  const { microArchitecture, switches = {}, tablePageCache = false } = machine
  return worldChip(entries, { microArchitecture, switches, tablePageCache, control: controlOf(machine) })
}

export function newOracle(
  chip: Chip,
  { microArchitecture: design, switches = {}, marks }: Machine,
): PossibleCaches {
  return new PossibleCaches(chip, {
    splits: (design.nestedEntries ?? 'combined') !== 'combined',
    combines: design.nestedEntries !== 'split',
    remembersGpas: design.remembersGpas === true,
    pageWalkCache: design.pageWalkCache !== undefined,
    gcr3Cache: design.gcr3Cache !== undefined,
    cachesAbsent: design.cachesAbsent === true,
    hitsFault: switches.hitWithoutRights === 'fault',
    flushesByGpa: switches.hostFlushOfNested === 'by-remembered-gpa',
    completesAtOnce: design.invalidations !== 'at-completion-wait',
    flushesOtherPasids: switches.directoriesOfOtherPasids === 'flushed',
    marksGuest: marks === true,
  })
}

/** An answer as the oracle has it. */
export function shown(answer: Translation): string {
  if (answer.kind !== 'fault') {
    if (answer.kind !== 'translated') return answer.kind
    const rights = (answer.readable ? 1 : 0) | (answer.writable ? 2 : 0)
    return translationOf(answer.spa, answer.sizeLog2, rights)
  }
  const [words] = answer.event
  if (words >> 60n !== 2n) return `event ${words.toString(16)}`
  const flags = Number((words >> 48n) & 0xfffn)
  const why = { 0x00: 'absent', 0x10: 'malformed', 0x50: 'denied', 0x90: 'reserved' } as const
  const id = Number((words >> 32n) & 0xffffn)
  const isGuest = (flags & 1) !== 0
  return refusalOf(why[(flags & 0xd0) as keyof typeof why], isGuest ? id : undefined, id)
}
