/** What a cache must not lose, case by case: each is one that random programs meet too, but not each time. */
import { describe, expect, it } from 'vitest'
import type { MicroArchitecture, Translation } from '../src/index.js'
import { commandOf, worldChip } from './cached-answers-world.js'
import type { Entry } from './cached-answers-world.js'
import { guestPages } from './tables.js'

const nested: Entry = {
  ...{ domainId: 1, host: 0, gcr3: 0, isValid: true, isTranslating: true, hasHost: true, hasGuest: true },
  ...{ isGiov: false, read: true, write: true },
}
const hashed = { kind: 'hashed', capacityLog2: 6 } as const
const switches = { hostFlushOfNested: 'by-remembered-gpa' } as const
type Refused = Extract<Translation, { kind: 'fault' }>
/** The top table of PASID 0's guest table: its GPA, and its first entry. */
const topEntryAt = 0x200020000n

describe('a cached guest directory', () => {
  it.each([
    ['not writable', 5n, { write: true }],
    ['not for users', 3n, {}],
    ['not executable', (1n << 63n) | 7n, { execute: true }],
  ])('keeps what tables refuse, %s, though the device that met it was not granted it', (_, bits, more) => {
    const entries = [{ ...nested, write: false }, nested]
    const chip = worldChip(entries, { microArchitecture: { pageWalkCache: hashed } })
    chip.put([topEntryAt, 0x21000n | bits])
    const asked = { pasid: 0, iova: guestPages, ...more }
    chip.iommu.request({ deviceId: 1, pasid: 0, iova: guestPages, supervisor: true })
    const { kind, event } = chip.iommu.walkFresh({ deviceId: 2, ...asked }) as Refused
    expect(kind).toBe('fault')
    expect(chip.iommu.request({ deviceId: 2, ...asked })).toMatchObject({ kind, event })
  })
})

describe('a nested entry that remembers GPAs', () => {
  const tablePages = [0x10000n, 0x11000n, 0x20000n, 0x21000n, 0x22000n, 0x23000n, 0x101000n]

  it.each<[string, Partial<MicroArchitecture>]>([
    ['walked from the beginning', {}],
    ['walked from a cached directory', { pageWalkCache: hashed }],
    ['walked from a cached guest CR3', { gcr3Cache: hashed }],
  ])('goes when the host table of any page that it came by is invalidated: %s', (_, design) => {
    const kept = tablePages.filter((start) => {
      const chip = worldChip([nested], { switches, microArchitecture: { ...design, remembersGpas: true } })
      // The second page finds in the caches what the first one has left there.
      chip.iommu.request({ deviceId: 1, pasid: 0, iova: guestPages })
      chip.iommu.request({ deviceId: 1, pasid: 0, iova: guestPages + 0x1000n })
      const what = {
        of: 'pages',
        domainId: 1,
        pasid: undefined,
        start,
        sizeLog2: 12,
        directories: true,
      } as const
      chip.command(commandOf(what))
      return chip.iommu.iotlbEntries().some(({ pasid, page }) => pasid === 0 && page === guestPages + 0x1000n)
    })
    expect(kept).toEqual([])
  })
})

describe('an absent page that is kept', () => {
  it.each(['combined', 'split', 'both'] as const)(
    'remembers nothing of walks before: a fork, which has none, keeps the same: %s',
    (nestedEntries) => {
      const microArchitecture = { nestedEntries, remembersGpas: true, cachesAbsent: true }
      const chip = worldChip([nested], { switches, microArchitecture })
      // The GPA of the page is cached; then the host table has it no more.
      chip.iommu.request({ deviceId: 1, pasid: 0, iova: guestPages })
      chip.put([0x100002000n + (0x100000n >> 9n), 0n])
      const what = { of: 'pages', domainId: 1, pasid: undefined, sizeLog2: 12, directories: false } as const
      chip.command(commandOf({ ...what, start: 0x100000n }))
      chip.iommu.request({ deviceId: 1, pasid: 5, iova: guestPages })
      const fork = chip.fork()
      for (const each of [chip, fork]) {
        each.iommu.request({ deviceId: 1, pasid: 0, iova: guestPages + 0x100000n })
        each.iommu.request({ deviceId: 1, pasid: 0, iova: guestPages })
      }
      expect(fork.fingerprint()).toBe(chip.fingerprint())
    },
  )
})
