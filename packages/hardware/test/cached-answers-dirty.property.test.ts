/**
 * Before a granted write returns, D stands in the leaves that it went through, whether they were walked or cached; and
 * in no others.
 *
 * AMD 48882 rev 3.10, DTE.HAD and the A and D bits of guest tables. Software that clears D invalidates, or later writes
 * leave no trace: the programs here do.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Chip } from './chip.js'
import { machines, newChip } from './cached-answers-machines.js'
import { askArbitrary, commandOf, worldDomains } from './cached-answers-world.js'
import type { Ask, Entry, Invalidation } from './cached-answers-world.js'
import { runs } from './runs.js'
import { guestEntryAt, guestPages, hostEntryAt, hostPages } from './tables.js'

/** Far more than it takes: these run beside other tests. */
const timeout = 300_000

const nested: Entry = {
  ...{ domainId: 1, host: 0, gcr3: 0, isValid: true, isTranslating: true, hasHost: true, hasGuest: true },
  ...{ isGiov: false, read: true, write: true },
}
/** One without GIoV, one with the other GCR3 table, one with GIoV. */
const entries: readonly Entry[] = [
  nested,
  { ...nested, domainId: 2, gcr3: 1 },
  { ...nested, domainId: 3, isGiov: true },
]
/** Which guest table a PASID has, by GCR3 table. */
const trees = [
  new Map([
    [0, 0],
    [5, 1],
    [0x200, 2],
  ]),
  new Map([
    [0, 1],
    [5, 0],
  ]),
] as const

const pagesOf = (first: bigint, count: number): bigint[] =>
  Array.from({ length: count }, (_, n) => first + (BigInt(n) << 12n))
const leaves = [
  ...[0, 1, 2].flatMap((tree) => pagesOf(0n, 4).map((at) => guestEntryAt(tree, at))),
  ...pagesOf(hostPages, 16).map(hostEntryAt),
]

const accessed = 0x20n
const dirty = 0x40n

/** The leaves that a translated request goes through. */
function leavesOf(chip: Chip, { deviceId, pasid, iova }: Ask): readonly bigint[] {
  const entry = entries[deviceId - 1]!
  const page = iova & ~0xfffn
  const tagged = pasid ?? (entry.isGiov ? 0 : undefined)
  if (tagged === undefined) return [hostEntryAt(page)]
  const guestLeaf = guestEntryAt(trees[entry.gcr3].get(tagged)!, page - guestPages)
  return [guestLeaf, hostEntryAt(chip.load(guestLeaf)! & 0xffffff000n)]
}

type DirtyStep =
  | { readonly kind: 'request'; readonly asked: Ask }
  | { readonly kind: 'prefetch'; readonly asked: Ask }
  | { readonly kind: 'evict'; readonly n: number }
  | { readonly kind: 'fork' | 'clean' }

const step: fc.Arbitrary<DirtyStep> = fc.oneof(
  { weight: 12, arbitrary: askArbitrary.map((asked) => ({ kind: 'request' as const, asked })) },
  {
    weight: 2,
    arbitrary: askArbitrary.map((asked) => ({
      kind: 'prefetch' as const,
      asked: { ...asked, write: false },
    })),
  },
  { weight: 1, arbitrary: fc.nat(12).map((n) => ({ kind: 'evict' as const, n })) },
  { weight: 1, arbitrary: fc.constantFrom('fork' as const, 'clean' as const).map((kind) => ({ kind })) },
)

/** Clears A and D, and invalidates. */
function clean(chip: Chip): void {
  for (const at of leaves) chip.put([at, chip.load(at)! & ~(accessed | dirty)])
  const whole = worldDomains.map((domainId): Invalidation => {
    return { of: 'pages', domainId, pasid: undefined, start: 0n, sizeLog2: 64, directories: false }
  })
  chip.command(...whole.map(commandOf), [1n << 60n, 0n])
}

describe('D', () => {
  const marking = machines.map(([name, machine]) => [name, { ...machine, marks: true }] as const)
  it.each(marking)('is in the leaves of every write, and in no others: %s', { timeout }, (_, machine) => {
    fc.assert(
      fc.property(fc.noBias(fc.array(step, { minLength: 10, maxLength: 60, size: 'max' })), (steps) => {
        let chip = newChip(machine, entries)
        let written = new Set<bigint>()
        for (const each of steps) {
          if (each.kind === 'request') {
            const answer = chip.iommu.request(each.asked)
            const through = answer.kind === 'translated' ? leavesOf(chip, each.asked) : []
            for (const at of through) {
              if (each.asked.write) written.add(at)
              expect(chip.load(at)! & accessed).toBe(accessed)
            }
          } else if (each.kind === 'prefetch') chip.iommu.prefetch(each.asked)
          else if (each.kind === 'evict') chip.iommu.evict(each.n)
          else if (each.kind === 'fork') chip = chip.fork()
          else {
            clean(chip)
            written = new Set()
          }
          expect(leaves.filter((at) => (chip.load(at)! & dirty) !== 0n)).toEqual(
            leaves.filter((at) => written.has(at)),
          )
        }
      }),
      { numRuns: runs(4) },
    )
  })
})
