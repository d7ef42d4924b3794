/**
 * Checks of the device entries of IVHD blocks.
 *
 * AMD 48882 rev 3.10, I/O virtualization ACPI table, IVHD device entries.
 *
 * @packageDocumentation
 */
import { deviceSettingBits } from './bit-fields.js'
import { entryType, specialVariety, uidFormat } from './device-entry.js'
import type { AcpiHidEntry, DeviceEntry, SpecialEntry, UnknownEntry } from './device-entry.js'
import { devicesOf, isRangeStart } from './devices-of.js'
import { bdf, hex } from './finding.js'
import type { IvrsPlace, PlacedBlock, PlacedEntry, PlacedTable, Report } from './finding.js'
import type { Ivhd } from './ivrs.js'
import { lintRangeOverlap } from './lint-range-overlap.js'

/** DeviceID 00:14.0, where Linux looks for the I/O APIC of the southbridge. */
const southbridge = 0xa0

export function lintEntries(ivhd: PlacedBlock<Ivhd>, report: Report): void {
  for (const placed of ivhd.entries) lintEntry(ivhd.block, placed, report)
  lintRanges(ivhd, report)
  lintRangeOverlap(ivhd, report)
  lintAliases(ivhd, report)
  if (devicesOf(ivhd.block).ranges.length === 0) {
    const told = 'no entry names a device: no request belongs to this IOMMU'
    report('no-devices', ivhd, `${told}, and Linux leaves devices behind it without translation`)
  }
}

function lintEntry(ivhd: Ivhd, placed: PlacedEntry, report: Report): void {
  const { entry } = placed
  const reserved = reservedOf(entry)
  if (reserved !== undefined) {
    report('reserved-bits', placed, `reserved bits are set in ${reserved}: Linux ignores them`)
  }
  switch (entry.kind) {
    case 'unknown':
      lintUnknown(entry, placed, report)
      break
    case 'special':
      lintSpecial(entry, placed, report)
      break
    case 'acpiHid':
      lintAcpiHid(ivhd, entry, placed, report)
      break
    case 'extendedSelect':
    case 'extendedStart':
      if (entry.atsDisabled && !ivhd.flags.iotlbSup) {
        const told = 'ATS is disabled for a device, but the IVHD has IotlbSup=0'
        report(
          'ats-disabled',
          placed,
          `${told}: no device behind this IOMMU can use ATS, so the bit says nothing`,
        )
      }
      break
    default:
  }
}

/** The name of a reserved field that is not zero. */
function reservedOf(entry: DeviceEntry): string | undefined {
  if (entry.kind === 'pad' || entry.kind === 'unknown') return undefined
  if ('reserved' in entry && entry.reserved !== 0) return 'bytes that have no meaning'
  if (entry.kind === 'all' && entry.deviceId !== 0) return 'the DeviceID of an entry for all devices'
  if (entry.kind === 'rangeEnd')
    return entry.settings === 0 ? undefined : 'the data byte of the end of a range'
  return deviceSettingBits(entry.settings).reserved === 0 ? undefined : 'the data byte'
}

function lintUnknown({ bytes }: UnknownEntry, where: IvrsPlace, report: Report): void {
  const type = Number(bytes[0])
  const told = `an entry of type ${hex(type)}`
  if (type < 0x80 && bytes.length === 4 << (type >>> 6)) {
    report('unknown-entry', where, `${told} is not known: software steps over it`)
    return
  }
  const effect =
    type < 0x80 || type === entryType.acpiHid
      ? 'is cut off by the end of the block: Linux reads on into the next block'
      : 'has no known length: Linux never gets past it and hangs at start'
  report('entry-length', where, `${told} ${effect}`)
}

function lintSpecial({ variety }: SpecialEntry, where: IvrsPlace, report: Report): void {
  if (variety === specialVariety.ioapic || variety === specialVariety.hpet) return
  const told = `variety ${variety} of a special device is neither 1 (I/O APIC) nor 2 (HPET)`
  report('special-variety', where, `${told}: Linux gives up all IOMMUs`)
}

function lintAcpiHid(ivhd: Ivhd, entry: AcpiHidEntry, where: IvrsPlace, report: Report): void {
  const wrong: string[] = []
  if (ivhd.type !== 0x40)
    wrong.push(`IVHD ${hex(ivhd.type)} cannot have ACPI devices, only 40h: Linux skips it`)
  if (entry.hid === '') wrong.push('the hardware ID is empty: Linux skips it')
  if (entry.uidFormat > uidFormat.text) {
    wrong.push(`UID format ${entry.uidFormat} has no meaning: Linux takes the device as one without UID`)
  }
  if (entry.uidFormat === uidFormat.none && entry.uid.length > 0) {
    wrong.push('the UID format is 0, none, but there is a UID: Linux ignores it')
  }
  if (entry.uidFormat !== uidFormat.none && entry.uid.length === 0) {
    wrong.push('the UID is empty, but has a format: Linux takes what follows for it')
  }
  for (const problem of wrong) report('acpi-hid', where, problem)
}

function lintRanges(ivhd: PlacedBlock<Ivhd>, report: Report): void {
  let open: (IvrsPlace & { readonly deviceId: number }) | undefined
  const noEnd = (): void => {
    if (open === undefined) return
    const told = `the range from ${bdf(open.deviceId)} has no end before the next range or the end of the block`
    report('range-without-end', open, `${told}: its devices get no settings`)
  }
  for (const { entry, offset, path } of ivhd.entries) {
    if (isRangeStart(entry)) {
      noEnd()
      open = { offset, path, deviceId: entry.deviceId }
    } else if (entry.kind === 'rangeEnd') {
      if (open === undefined) {
        const told = `the range to ${bdf(entry.deviceId)} has no start`
        const linux = 'Linux takes the start before it again, or device 00:00.0'
        report('range-without-start', { offset, path }, `${told}: ${linux}`)
      } else if (entry.deviceId < open.deviceId) {
        const told = `the range ends at ${bdf(entry.deviceId)}, below its start ${bdf(open.deviceId)}`
        report('range-reversed', { offset, path }, `${told}: it has no devices`)
      }
      open = undefined
    }
  }
  noEnd()
}

function lintAliases(ivhd: PlacedBlock<Ivhd>, report: Report): void {
  const aliases = new Int32Array(0x10000).fill(-1)
  for (const { first, last, alias } of devicesOf(ivhd.block).ranges) {
    if (alias !== undefined) aliases.fill(alias, first, last + 1)
  }
  for (const { entry, offset, path } of ivhd.entries) {
    if (!('alias' in entry)) continue
    const { alias } = entry
    const next = Number(aliases[alias])
    // A bridge that stands for all devices of its bus is its own alias.
    if (next === -1 || next === alias) continue
    const told = `requests of ${bdf(entry.deviceId)} carry ${bdf(alias)}, which has the alias ${bdf(next)} itself`
    report('alias-chain', { offset, path }, `${told}: Linux follows one step only`)
  }
}

/** I/O APICs and HPETs of all IOMMUs in use. */
export function lintInterruptSources({ inUse }: PlacedTable, report: Report): void {
  const specials = inUse.flatMap(({ entries }) => entries.filter(isSpecial))
  const seen = new Set<string>()
  for (const { entry, offset, path } of specials) {
    const name = entry.variety === specialVariety.ioapic ? 'I/O APIC' : 'HPET'
    const key = `${entry.variety} ${entry.handle}`
    if (seen.has(key)) {
      const told = `${name} ${entry.handle} is named before`
      const linux = 'Linux takes the first DeviceID, and interrupts under the second are remapped by nobody'
      report('duplicate-handle', { offset, path }, `${told}: ${linux}`)
    }
    seen.add(key)
  }
  const apics = specials.filter(({ entry }) => entry.variety === specialVariety.ioapic)
  const off = 'Linux switches interrupt remapping off'
  if (apics.length === 0) {
    report('no-ioapic', { offset: 48, path: 'blocks' }, `no entry tells the DeviceID of an I/O APIC: ${off}`)
  } else if (!apics.some(({ entry }) => entry.deviceId === southbridge)) {
    const told = `no I/O APIC has DeviceID ${bdf(southbridge)}, that of the southbridge`
    report('southbridge-ioapic', { offset: 48, path: 'blocks' }, `${told}: ${off}`)
  }
}

const isSpecial = (placed: PlacedEntry): placed is PlacedEntry & { readonly entry: SpecialEntry } =>
  placed.entry.kind === 'special'
