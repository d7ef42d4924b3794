/** The invariants of tag assignment after every effect of random histories, under each policy. */
import { findPolicy } from '@nestwalk/driver'
import type { MicroArchitecture } from '@nestwalk/hardware'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { History } from './invariants/history.js'
import type { Step } from './invariants/history.js'
import { runs } from './runs.js'

/** Runs a history and tells the invariants that it broke, with how the first time. */
function broken(
  letter: string,
  iommus: number,
  steps: readonly Step[],
  caches: Partial<MicroArchitecture> = {},
): Map<string, string> {
  const history = new History(findPolicy(letter)!, iommus, caches)
  for (const step of steps) history.play(step)
  const found = new Map<string, string>()
  for (const { id, how } of history.violations) if (!found.has(id)) found.set(id, how)
  return found
}

const number = fc.nat({ max: 15 })
/** Attaching, unmapping and allocating nested domains come more often than the rest. */
const what = fc.oneof(
  { weight: 3, arbitrary: fc.nat({ max: History.steps - 1 }) },
  { weight: 2, arbitrary: fc.constantFrom(0, 0, 1, 3, 5, 6, 12, 12, 17) },
)
const steps = fc.array(fc.tuple(what, number, number, number), { minLength: 4, maxLength: 14 })

/** What chips may cache: translations alone, or everything on the way too. */
const every = { pageWalkCache: { kind: 'hashed' }, gcr3Cache: { kind: 'hashed' } } as const
const caches = fc.constantFrom<Partial<MicroArchitecture>>(
  {},
  { ...every, nestedEntries: 'both' },
  { ...every, invalidations: 'at-completion-wait' },
  { ...every, nestedEntries: 'split', remembersGpas: true },
)

describe.each(['M', 'X', 'CM', 'CX'])('%s keeps every invariant', (letter) => {
  it.each([1, 2])('on IOMMUs: %d', (iommus) => {
    fc.assert(
      fc.property(steps, caches, (each, chip) => {
        expect([...broken(letter, iommus, each, chip)]).toEqual([])
      }),
      { numRuns: runs(20), seed: 11 + iommus, endOnFailure: true },
    )
  })
})

/** What a policy is known to break, and, after "then", what follows from that. */
const known: readonly (readonly [letter: string, named: readonly string[], then: readonly string[]])[] = [
  // No merge, no split. A device may be served another's translation, and keep it.
  ['G', ['I3', 'I4'], ['I8', 'I9']],
  // One guest DomainID has many host ones.
  ['D', ['I4'], []],
  // All guest tables on one host table collide, those of several vIOMMUs too, and so do split GCR3 tables.
  ['S', ['I3', 'I4', 'I11'], ['I8', 'I9']],
  ['N', ['I4'], []],
  // U6; U2; U4, U5, U10 and U20; U7, U8 and U9; U9; U14; U19. What is cached under a free ID is reached by no flush.
  ['M7', ['I5', 'I6', 'I9', 'I14', 'I19', 'I20', 'I22'], ['I7']],
]

describe.each(known)('%s breaks nothing but what is named for it', (letter, named, then) => {
  it.each([1, 2])('on IOMMUs: %d', (iommus) => {
    fc.assert(
      fc.property(steps, (each) => {
        const found = [...broken(letter, iommus, each)].filter(([id]) => ![...named, ...then].includes(id))
        expect(found).toEqual([])
      }),
      { numRuns: runs(6), seed: 31 + iommus, endOnFailure: true },
    )
  })
})

/** Two nested domains, 2 with guest DomainID 5 and 3 with 6. */
const twoNested: readonly Step[] = [
  [12, 0, 0, 1],
  [12, 0, 1, 1],
]

/** A run for each invariant that a policy is named for. Domain n stands at place n - 1. */
const pinned: readonly (readonly [
  letter: string,
  id: string,
  what: string,
  iommus: number,
  run: readonly Step[],
])[] = [
  [
    ...(['G', 'I3', 'two guest DomainIDs in one group have one ID (S01)', 1] as const),
    [...twoNested, [0, 0, 1, 0], [0, 1, 2, 0]],
  ],
  [
    ...(['G', 'I4', 'one guest DomainID in two groups has two IDs (S02)', 1] as const),
    [...twoNested, [0, 0, 1, 0], [0, 2, 1, 0]],
  ],
  [
    ...(['D', 'I4', 'one guest DomainID on two devices has two IDs (S02)', 1] as const),
    [...twoNested, [0, 0, 1, 0], [0, 1, 1, 0]],
  ],
  [
    ...(['S', 'I3', 'two guest DomainIDs on one host table have one ID (S01)', 1] as const),
    [...twoNested, [0, 0, 1, 0], [0, 2, 2, 0]],
  ],
  [
    ...(['S', 'I4', 'two vIOMMUs on one host table have one ID', 1] as const),
    [...twoNested, [11, 0, 0, 0], [12, 1, 0, 1], [0, 0, 1, 0], [0, 2, 3, 0]],
  ],
  [
    ...(['S', 'I11', 'a process on one of two devices of a guest table', 1] as const),
    [
      [9, 1, 0, 0],
      [10, 0, 0, 0],
      [21, 0, 0, 0],
      [16, 0, 0, 0],
      [16, 1, 0, 0],
      [21, 0, 2, 0],
      [21, 1, 2, 0],
      [0, 0, 1, 0],
      [0, 1, 1, 0],
      [6, 1, 2, 0],
    ],
  ],
  [
    ...(['N', 'I4', 'two nested domains of one guest DomainID have two IDs', 1] as const),
    [
      [12, 0, 0, 1],
      [12, 0, 0, 1],
      [0, 0, 1, 0],
      [0, 1, 2, 0],
    ],
  ],
  [
    ...(['M7', 'I5', 'the ID in a device’s entry is another one’s (U6)', 1] as const),
    [...twoNested, [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [17, 1, 0, 0]],
  ],
  [
    ...(['M7', 'I6', 'an ID is free and not clean (U2, S07)', 1] as const),
    [...twoNested, [0, 0, 1, 0], [0, 0, 2, 0], [17, 1, 0, 0]],
  ],
  [
    ...(['M7', 'I9', 'nobody waits for the flush (U4, S08b)', 1] as const),
    [...twoNested, [0, 0, 1, 0], [5, 0, 0, 0]],
  ],
  [
    ...(['M7', 'I9', 'another IOMMU is not flushed (U20, S36)', 2] as const),
    [...twoNested, [0, 3, 1, 0], [5, 0, 0, 0]],
  ],
  [
    ...(['M7', 'I9', 'a device TLB is flushed for PASID 0, which the device did not use (U10)', 1] as const),
    [
      [9, 1, 0, 0],
      [0, 1, 1, 0],
      [5, 1, 0, 0],
    ],
  ],
  [
    ...(['M7', 'I14', 'the parent grows, and the guest’s tables are gone (U7, S09a)', 1] as const),
    [...twoNested, [0, 0, 0, 0], [0, 0, 1, 0], [4, 0, 3, 0]],
  ],
  [
    ...(['M7', 'I14', 'the parent grows, and the entry has the old top (U8, S09b)', 1] as const),
    [...twoNested, [0, 0, 1, 0], [4, 0, 3, 0]],
  ],
  [
    ...(['M7', 'I19', 'an alias is not told of dirty tracking (U9)', 1] as const),
    [
      [8, 1, 0, 0],
      [0, 2, 1, 0],
      [19, 1, 0, 0],
    ],
  ],
  [
    ...(['M7', 'I20', 'a vIOMMU owns three IDs where it may have two (U14)', 1] as const),
    [...twoNested, [12, 0, 2, 1]],
  ],
  [
    ...(['M7', 'I22', 'another guest level goes through V=0 (U19, S35)', 1] as const),
    [
      [12, 0, 0, 1],
      [12, 0, 0, 4],
      [0, 0, 1, 0],
      [0, 0, 2, 0],
    ],
  ],
]

describe('a run that shows it', () => {
  it.each(pinned)('%s, %s: %s', (letter, id, _what, iommus, run) => {
    const { 1: named, 2: then } = known.find(([each]) => each === letter)!
    const found = [...broken(letter, iommus, run).keys()]
    expect(found).toContain(id)
    expect(found.filter((each) => ![...named, ...then].includes(each))).toEqual([])
  })

  it.each(pinned)('%s, %s: %s; M, X, CM and CX keep everything in it', (_letter, _id, _what, iommus, run) => {
    for (const letter of ['M', 'X', 'CM', 'CX']) {
      expect([...broken(letter, iommus, run)]).toEqual([])
    }
  })
})
