/**
 * What the device entries of an IVHD mean: which DeviceIDs an IOMMU translates, and with what settings.
 *
 * AMD 48882 rev 3.10, I/O virtualization ACPI table, IVHD device entries. How entries for the same device go together
 * is not laid down; the default is what Linux does: the bits of all of them, and the last alias.
 *
 * @packageDocumentation
 */
import { specialVariety } from './device-entry.js'
import type { AcpiHidEntry, AliasEntry, DeviceEntry, ExtendedEntry, PlainEntry } from './device-entry.js'
import type { Ivhd } from './ivrs.js'

/** What firmware wants of a device. */
export interface DeviceSettings {
  /** Data byte: bits that the device's table entry is to have, see `deviceSettingBits`. */
  readonly settings: number
  /** The DeviceID that the device's requests carry, if it is another. */
  readonly alias: number | undefined
  readonly atsDisabled: boolean
}

/** DeviceIDs `first` to `last` with the same settings. */
export interface DeviceRange extends DeviceSettings {
  readonly first: number
  readonly last: number
}

/** An I/O APIC, an HPET, or something else. */
export interface SpecialDevice {
  readonly variety: 'ioapic' | 'hpet' | 'unknown'
  readonly handle: number
  readonly deviceId: number
  readonly settings: number
}

/** How entries for the same device go together: their bits are joined, or only the last entry counts. */
export type EntryOverlap = 'joined' | 'last'

export interface IvhdDevices {
  /** What the entries say, in their order. Ranges may overlap. */
  readonly ranges: readonly DeviceRange[]
  readonly specials: readonly SpecialDevice[]
  readonly acpiDevices: readonly AcpiHidEntry[]
  /** The settings of a device; undefined if no entry names it. @throws RangeError for what is no DeviceID */
  settingsOf(deviceId: number): DeviceSettings | undefined
}

type Start = PlainEntry | AliasEntry | ExtendedEntry

/**
 * Expands the entries of an IVHD.
 *
 * A start without an end, an end without a start and an end below its start mean no device. An alias has the settings
 * of the devices that use it, as the table entries of both are the same.
 */
export function devicesOf(ivhd: Ivhd, overlap: EntryOverlap = 'joined'): IvhdDevices {
  const ranges: DeviceRange[] = []
  const specials: SpecialDevice[] = []
  const acpiDevices: AcpiHidEntry[] = []
  let start: Start | undefined
  for (const entry of ivhd.entries) {
    switch (entry.kind) {
      case 'all':
        ranges.push(...rangesOf(entry, 0, 0xffff))
        break
      case 'select':
      case 'aliasSelect':
      case 'extendedSelect':
        ranges.push(...rangesOf(entry, entry.deviceId, entry.deviceId))
        break
      case 'rangeStart':
      case 'aliasStart':
      case 'extendedStart':
        start = entry
        break
      case 'rangeEnd':
        if (start !== undefined && start.deviceId <= entry.deviceId) {
          ranges.push(...rangesOf(start, start.deviceId, entry.deviceId))
        }
        start = undefined
        break
      case 'special': {
        const { handle, deviceId, settings } = entry
        specials.push({ variety: varietyOf(entry.variety), handle, deviceId, settings })
        ranges.push(...rangesOf({ kind: 'select', deviceId, settings }, deviceId, deviceId))
        break
      }
      case 'acpiHid': {
        const { deviceId, settings } = entry
        acpiDevices.push(entry)
        ranges.push(...rangesOf({ kind: 'select', deviceId, settings }, deviceId, deviceId))
        break
      }
      case 'pad':
      case 'unknown':
    }
  }
  return { ranges, specials, acpiDevices, settingsOf: (deviceId) => settingsOf(ranges, deviceId, overlap) }
}

/** Entries that open a range. */
export type RangeStart = Start & { readonly kind: 'rangeStart' | 'aliasStart' | 'extendedStart' }

export const isRangeStart = (entry: DeviceEntry): entry is RangeStart =>
  entry.kind === 'rangeStart' || entry.kind === 'aliasStart' || entry.kind === 'extendedStart'

function varietyOf(variety: number): SpecialDevice['variety'] {
  if (variety === specialVariety.ioapic) return 'ioapic'
  return variety === specialVariety.hpet ? 'hpet' : 'unknown'
}

/** The range that an entry is about, and the alias, which shares its settings. */
function rangesOf(entry: Start, first: number, last: number): DeviceRange[] {
  const { settings } = entry
  if (!('alias' in entry)) {
    return [
      { first, last, settings, alias: undefined, atsDisabled: 'atsDisabled' in entry && entry.atsDisabled },
    ]
  }
  const { alias } = entry
  return [
    { first, last, settings, alias, atsDisabled: false },
    { first: alias, last: alias, settings, alias: undefined, atsDisabled: false },
  ]
}

function settingsOf(
  ranges: readonly DeviceRange[],
  deviceId: number,
  overlap: EntryOverlap,
): DeviceSettings | undefined {
  if (!Number.isInteger(deviceId) || deviceId < 0 || deviceId > 0xffff) {
    throw new RangeError(`deviceId cannot be ${deviceId}: it takes 0 to 0xffff`)
  }
  const named = ranges.filter(({ first, last }) => first <= deviceId && deviceId <= last)
  const last = named.at(-1)
  if (last === undefined) return undefined
  if (overlap === 'last') {
    const { settings, alias, atsDisabled } = last
    return { settings, alias, atsDisabled }
  }
  return {
    settings: named.reduce((bits, { settings }) => bits | settings, 0),
    alias: named.findLast(({ alias }) => alias !== undefined)?.alias,
    atsDisabled: named.some(({ atsDisabled }) => atsDisabled),
  }
}
