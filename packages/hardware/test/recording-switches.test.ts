/** A switch turned: the recorded answers that depend on its open point may change, and no others. */
import { beforeAll, describe, expect, it } from 'vitest'
import { readSnapshot, switchChoices } from '../src/index.js'
import type { SwitchChoices } from '../src/index.js'
import { ColdChip } from '../src/recording/cold-chip.js'
import { compare } from '../src/recording/compare.js'
import { RecordedMemory } from '../src/recording/recorded-memory.js'
import { casesOf, rawSnapshots } from './corpus-files.js'

/** The switch behind each open point that the recordings name. */
const switchOf: Readonly<Record<string, keyof SwitchChoices>> = {
  'mode-reserved': 'modeReserved',
  'glx-reserved': 'glxReserved',
  'gpm-reserved': 'guestPagingModeReserved',
  'had-reserved': 'hadReserved',
  'pasid-beyond-glx': 'pasidBeyondGlx',
  'pasid-gv0': 'pasidWithoutGuestTables',
  'pasid-v0': 'pasidWithoutValid',
  'above-width': 'aboveWidth',
  'nested-host-fault': 'nestedHostFault',
  'gcr3-next-pointer': 'gcr3NextPointer',
  'non-canonical': 'nonCanonical',
  'giov-event': 'giovEvent',
  'giov-dte-denied': 'giovDteDenied',
  'giov-privilege': 'giovPrivilege',
  'supervisor-write': 'supervisorWrite',
  'pasid0-tagged': 'pasid0Tagged',
  'devid-beyond-table': 'deviceIdBeyondTable',
  'tv0-domain': 'tv0Domain',
  'implied-dte-perm': 'impliedDteRights',
  'upper-half-on-dma': 'upperHalfOnMemory',
  'perm-order': 'rightsOrder',
  'nl7-above-2p51': 'sizeAbove2p51',
  'leaf-512g': 'leaf512G',
  'leaf-low-bits': 'leafLowBits',
  'guest-ad-perm': 'guestMarkRights',
  'host-dir-a': 'hostDirectoryAccessed',
}

const snapshots = casesOf('synthetic')
  .flatMap((name) => rawSnapshots(`synthetic/${name}`))
  .map((raw) => ({
    namedBy: raw.json.queries.map((query) => (query['open'] as string | undefined)?.split(',') ?? []),
    snapshot: readSnapshot(raw.json, raw.pageBytes),
  }))

/** Queries that name an open point, and those that change with its switch, as "snapshot.query". */
class Affected {
  readonly named = new Set<string>()
  readonly changed = new Set<string>()
}
const affected = new Map(Object.keys(switchOf).map((name) => [name, new Affected()]))

// Snapshot by snapshot, as loading one takes longer than asking its queries under one switch. The limit is that of 26 tests.
beforeAll(() => {
  snapshots.forEach(({ snapshot, namedBy }, n) => {
    const recorded = new RecordedMemory(snapshot)
    for (const [name, { named, changed }] of affected) {
      namedBy.forEach((names, query) => names.includes(name) && named.add(`${n}.${query}`))
      // A snapshot without such a query must not change either, but asking one in three is enough.
      if (n % 3 !== 0 && !namedBy.some((names) => names.includes(name))) continue
      const chosen = switchOf[name]!
      for (const choice of switchChoices[chosen].slice(1)) {
        const chip = new ColdChip(snapshot, { [chosen]: choice }, recorded)
        snapshot.queries.forEach((query, index) => {
          if (compare(chip, query) !== undefined) changed.add(`${n}.${index}`)
        })
      }
    }
  })
}, 1_800_000)

describe('with a switch turned', () => {
  it.each([...affected])('%s: just the queries that name it change', (_, { named, changed }) => {
    expect(named.size).toBeGreaterThan(0)
    expect([...changed].sort()).toEqual([...named].sort())
  })
})
