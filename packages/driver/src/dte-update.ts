/**
 * Changing a live device table entry: the stores, commands and waits of Linux, in Linux's order.
 *
 * Hardware reads 256 bits at once, software stores 128 bits at once, so a reader may see the new half of one entry
 * beside the old half of the other; the order makes each such mixture harmless. Linux drivers/iommu/amd/iommu.c,
 * `update_dte256` and `amd_iommu_update_dte`.
 *
 * @packageDocumentation
 */
import { spa } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'
import { decodeDte, deviceId as asDeviceId, encodeDte, formatDeviceId } from '@nestwalk/hardware'
import type { Plan } from './plan.js'

/** The entry to change. */
export interface EntryPlace {
  readonly deviceId: number
  readonly iommu: number
  /** Address of the 32 bytes. */
  readonly address: Spa
}

/** What stands in between when the guest paging level changes: nothing passes, or, as Linux has it, everything does. */
export type LevelChange = 'blocked' | 'untranslated'

/** The entry as it will stand in memory after the effects planned so far. */
export const loadEntry = (plan: Plan, address: Spa): BigUint64Array =>
  BigUint64Array.from([0n, 8n, 16n, 24n], (offset) => plan.load(spa(address + offset)))

/**
 * Plans the stores, with the flushes that must come between them. After {@link flushEntry} hardware uses the new entry for
 * every request.
 */
export function storeEntry(
  plan: Plan,
  place: EntryPlace,
  entry: BigUint64Array,
  levelChange: LevelChange,
): void {
  const name = formatDeviceId(asDeviceId(place.deviceId))
  const old = loadEntry(plan, place.address)
  const next = withKeptInterruptFields(entry, old)
  const before = decodeDte(old)
  const after = decodeDte(next)

  const lower = (words: BigUint64Array, what = 'lower half'): void =>
    plan.storeHalf(place.address, words[0] ?? 0n, words[1] ?? 0n, `DTE ${name}, ${what}`)
  const upper = (words: BigUint64Array): void =>
    plan.storeHalf(spa(place.address + 16n), words[2] ?? 0n, words[3] ?? 0n, `DTE ${name}, upper half`)
  const flush = (): void => {
    flushEntry(plan, place, 'the entry changed')
    plan.wait(place.iommu)
  }

  if (!before.valid) {
    upper(next)
    lower(next)
    flush()
  } else if (!after.valid) {
    lower(next)
    upper(next)
    flush()
  } else if (!before.guestValid) {
    upper(next)
    lower(next)
    flush()
  } else if (!after.guestValid) {
    lower(next)
    upper(next)
    flush()
  } else if (before.guestPagingMode !== after.guestPagingMode) {
    // The paging mode lies in the other half than the root, so the entry is taken out of use in between.
    lower(between[levelChange](), `lower half, ${levelChange} in between`)
    flush()
    upper(next)
    lower(next)
    flush()
  } else {
    lower(next)
  }
}

const between: Readonly<Record<LevelChange, () => BigUint64Array>> = {
  blocked: () => encodeDte({ valid: true }),
  // Gap U19: V=0 lets requests pass with their addresses as they are.
  untranslated: () => encodeDte({}),
}

/** Queues the command that makes hardware read the entry anew; somebody has to wait for it. */
export function flushEntry(plan: Plan, { deviceId, iommu }: EntryPlace, why: string): void {
  plan.command(iommu, { kind: 'InvalidateDevtabEntry', deviceId: asDeviceId(deviceId) }, why)
}

/** Bits 55:52 of quad-word 2: the guest paging mode and two reserved bits. */
const translationBits = 0xfn << 52n

/** Quad-word 2 belongs to the interrupt code but for the bits about translation. */
function withKeptInterruptFields(entry: BigUint64Array, old: BigUint64Array): BigUint64Array {
  const kept = ((old[2] ?? 0n) & ~translationBits) | ((entry[2] ?? 0n) & translationBits)
  return BigUint64Array.of(entry[0] ?? 0n, entry[1] ?? 0n, kept, entry[3] ?? 0n)
}
