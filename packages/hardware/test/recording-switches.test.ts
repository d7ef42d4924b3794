/** A switch turned: the recorded answers that depend on its open point may change, and no others. */
import { describe, expect, it } from 'vitest'
import { readSnapshot, replay, switchChoices } from '../src/index.js'
import type { SwitchChoices } from '../src/index.js'
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

const folders = casesOf('synthetic').map((name) => `synthetic/${name}`)
const snapshots = folders.flatMap(rawSnapshots).map((raw) => ({
  named: raw.json.queries.map((query) => (query['open'] as string | undefined)?.split(',') ?? []),
  snapshot: readSnapshot(raw.json, raw.pageBytes),
}))

describe('with a switch turned', { timeout: 300_000 }, () => {
  it.each(Object.entries(switchOf))('%s: just the queries that name it change', (name, chosen) => {
    const changed = new Set<string>()
    const named = new Set<string>()
    snapshots.forEach(({ snapshot, named: names }, n) => {
      // A snapshot without such a query must not change either, but asking one in three is enough.
      const isNamed = names.some((list) => list.includes(name))
      if (!isNamed && n % 3 !== 0) return
      names.forEach((list, query) => list.includes(name) && named.add(`${n}.${query}`))
      for (const choice of switchChoices[chosen].slice(1)) {
        for (const { query } of replay(snapshot, { [chosen]: choice }).mismatches)
          changed.add(`${n}.${query}`)
      }
    })
    expect(named.size).toBeGreaterThan(0)
    expect([...changed].sort()).toEqual([...named].sort())
  })
})
