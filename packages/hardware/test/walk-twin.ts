/** The fast model's answers and the slow twin's, in one form to be compared. */
import { hex } from '@nestwalk/bits'
import { load64 } from '../src/index.js'
import type { SwitchChoices, Translation } from '../src/index.js'
import type { Chip } from './chip.js'
import type { Switches as SlowSwitches } from './slow/switches.js'
import type { Request as SlowRequest, Result as SlowResult } from './slow/types.js'
import { watching } from './watch.js'
import type { Seen } from './watch.js'

/** The twin's name of each switch and of its choices; the order of the choices is the same. */
export const twins: readonly (readonly [keyof SwitchChoices, keyof SlowSwitches])[] = [
  ['modeReserved', 'mode-reserved'],
  ['glxReserved', 'glx-reserved'],
  ['guestPagingModeReserved', 'gpm-reserved'],
  ['hadReserved', 'had-reserved'],
  ['upperHalfOnMemory', 'upper-half-on-dma'],
  ['pasidBeyondGlx', 'pasid-beyond-glx'],
  ['pasidWithoutGuestTables', 'pasid-gv0'],
  ['pasidWithoutValid', 'pasid-v0'],
  ['aboveWidth', 'above-width'],
  ['nonCanonical', 'non-canonical'],
  ['deviceIdBeyondTable', 'devid-beyond-table'],
  ['nestedHostFault', 'nested-host-fault'],
  ['gcr3NextPointer', 'gcr3-next-pointer'],
  ['giovEvent', 'giov-event'],
  ['giovDteDenied', 'giov-dte-denied'],
  ['giovPrivilege', 'giov-privilege'],
  ['supervisorWrite', 'supervisor-write'],
  ['pasid0Tagged', 'pasid0-tagged'],
  ['tv0Domain', 'tv0-domain'],
  ['impliedDteRights', 'implied-dte-perm'],
  ['rightsOrder', 'perm-order'],
  ['sizeAbove2p51', 'nl7-above-2p51'],
  ['leaf512G', 'leaf-512g'],
  ['leafLowBits', 'leaf-low-bits'],
  ['nextLevelBeyondHats', 'next-level-beyond-hats'],
  ['guestMarkRights', 'guest-ad-perm'],
  ['hostDirectoryAccessed', 'host-dir-a'],
  ['interruptWithPasid', 'interrupt-pasid'],
  ['exclusionBeforeTv', 'exclusion-before-tv'],
  ['exclusionWithPasid', 'exclusion-with-pasid'],
]

const list = (values: readonly bigint[]): string => values.map((value) => hex(value)).join(' ')

export function textOfSlow(result: SlowResult): string {
  const { reads, dteReads } = result
  const accesses = `reads ${list(reads)} entry ${list(dteReads)}`
  if (result.kind === 'fault') return `fault ${result.event ? list(result.event) : 'suppressed'} ${accesses}`
  if (result.kind === 'forwarded') return `forwarded ${hex(result.spa)} ${accesses}`
  if (result.kind === 'interrupt') return 'interrupt'
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
  if (result.kind === 'interrupt') return 'interrupt'
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
export function ask(chip: Chip, request: SlowRequest): string {
  const { user = true, ...asked } = request
  const fork = chip.fork()
  const { value, ...seen } = watching(fork.iommu, () => fork.iommu.request({ ...asked, supervisor: !user }))
  return textOfFast(fork, value, seen)
}
