/**
 * IOAS_CHANGE_PROCESS: another process pays for what is pinned.
 *
 * Linux drivers/iommu/iommufd/ioas.c, `iommufd_ioas_change_process`.
 *
 * @packageDocumentation
 */
import { refuse } from '../outcome.js'
import type { Refusal } from '../outcome.js'
import type { IoPagetable } from './io-pagetable.js'
import type { Pages } from './pages.js'
import { chargePages } from './pages.js'
import type { PinCharge } from './pin-accounts.js'
import type { PinEnvironment } from './pin-environment.js'

/** Who pays from now on. `limitPages`: RLIMIT_MEMLOCK, which holds whatever the caller's capabilities. */
export interface Payer {
  readonly mm: number
  readonly uid: number
  readonly limitPages: bigint
}

/**
 * Moves the charges of all mappings of some IOAS. EINVAL: one is not of a file. ENOMEM.
 *
 * What was mapped with CAP_IPC_LOCK stays where it is charged.
 */
export function changeProcess(
  env: PinEnvironment,
  tables: readonly IoPagetable[],
  to: Payer,
): Refusal | undefined {
  if (tables.some((table) => !table.isOfFiles))
    return refuse('change-process-memory', 'a mapping is not of a file')
  const moved = new Map<Pages, PinCharge>()
  for (const table of tables) {
    for (const pages of table.pinnedPages()) {
      if (mustMove(pages.charge, to)) moved.set(pages, { ...to, mode: pages.charge.mode })
    }
  }
  const refused = chargeAll(env, moved, to)
  if (refused !== undefined) return refused
  for (const [pages, charge] of moved) {
    env.accounts.discharge(pages.charge, pages.pinnedPages)
    pages.payBy(charge)
  }
  return undefined
}

function mustMove({ mm, uid, mode, limitPages }: PinCharge, to: Payer): boolean {
  if (limitPages === undefined) return false
  return mm !== to.mm || (mode === 'user' && uid !== to.uid)
}

/** Charges the new payer: in one sum for each mode, all or none. */
function chargeAll(
  env: PinEnvironment,
  moved: ReadonlyMap<Pages, PinCharge>,
  to: Payer,
): Refusal | undefined {
  const done: [PinCharge, number][] = []
  for (const mode of ['user', 'mm'] as const) {
    let sum = 0
    for (const [pages, charge] of moved) if (charge.mode === mode) sum += pages.pinnedPages
    if (sum === 0) continue
    const charge = { ...to, mode }
    const refused = chargePages(env, charge, sum)
    if (refused !== undefined) {
      for (const [charged, pages] of done) env.accounts.discharge(charged, pages)
      return refused
    }
    done.push([charge, sum])
  }
  return undefined
}
