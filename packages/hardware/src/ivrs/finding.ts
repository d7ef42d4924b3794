/**
 * What a check of an IVRS table reports, and the rules it knows.
 *
 * @packageDocumentation
 */
import { encodeBlock } from './encode.js'
import { writeEntry } from './device-entry.js'
import type { DeviceEntry } from './device-entry.js'
import { ivhdsInUse } from './ivrs.js'
import type { Ivhd, Ivrs, IvrsBlock } from './ivrs.js'
import { headerStruct, ivhd10Struct, ivhd11Struct } from './table-layout.js'

/** Every rule, and how bad it is: an error keeps an IOMMU, a device or memory from working as the table means it. */
export const ivrsRules = {
  /** The table cannot be decoded. */
  unreadable: 'error',
  checksum: 'error',
  'bytes-after-table': 'warning',
  'table-revision': 'warning',
  'block-revision': 'warning',
  'address-sizes': 'warning',
  'efr-support': 'warning',
  'reserved-bits': 'warning',
  'unknown-block': 'warning',
  'no-ivhd': 'error',
  'duplicate-iommu': 'error',
  'ivhd-disagree': 'warning',
  'ivhd-types-differ': 'warning',
  'mmio-alignment': 'error',
  'mmio-overlap': 'error',
  'capability-offset': 'error',
  features: 'warning',
  'pasid-width': 'error',
  'no-devices': 'warning',
  'unknown-entry': 'warning',
  'entry-length': 'error',
  'range-without-end': 'error',
  'range-without-start': 'error',
  'range-reversed': 'error',
  'range-overlap': 'warning',
  'alias-chain': 'warning',
  'ats-disabled': 'warning',
  'special-variety': 'error',
  'duplicate-handle': 'error',
  'no-ioapic': 'warning',
  'southbridge-ioapic': 'warning',
  'acpi-hid': 'error',
  'ivmd-alignment': 'error',
  'ivmd-length': 'error',
  'ivmd-range': 'error',
  'ivmd-flags': 'error',
  'ivmd-overlap': 'warning',
  'ivmd-exclusions': 'warning',
} as const satisfies Record<string, 'error' | 'warning'>

export type IvrsRule = keyof typeof ivrsRules

/** A place in the table. */
export interface IvrsPlace {
  /** In bytes from the start of the table. */
  readonly offset: number
  /** Such as `blocks[0].entries[3]`; empty for the table itself. */
  readonly path: string
}

export interface IvrsFinding {
  readonly severity: 'error' | 'warning'
  readonly where: IvrsPlace
  readonly rule: IvrsRule
  /** What is wrong, why that matters, and what an OS does with it. */
  readonly message: string
}

/** Takes one finding. */
export type Report = (rule: IvrsRule, where: IvrsPlace, message: string) => void

export interface PlacedEntry extends IvrsPlace {
  readonly entry: DeviceEntry
}

export interface PlacedBlock<B extends IvrsBlock = IvrsBlock> extends IvrsPlace {
  readonly block: B
  /** Of an IVHD; else empty. */
  readonly entries: readonly PlacedEntry[]
}

/** A table whose parts know where they are. */
export interface PlacedTable {
  readonly ivrs: Ivrs
  readonly blocks: readonly PlacedBlock[]
  readonly ivhds: readonly PlacedBlock<Ivhd>[]
  /** Those of {@link ivhdsInUse}. */
  readonly inUse: readonly PlacedBlock<Ivhd>[]
}

/** @throws RangeError naming the field whose value does not fit */
export function placesOf(ivrs: Ivrs): PlacedTable {
  let offset: number = headerStruct.byteLength
  const blocks = ivrs.blocks.map((block, i): PlacedBlock => {
    const path = `blocks[${i}]`
    const placed = {
      offset,
      path,
      block,
      entries: block.kind === 'ivhd' ? entriesOf(block, offset, path) : [],
    }
    offset += encodeBlock(block).length
    return placed
  })
  const ivhds = blocks.filter((placed): placed is PlacedBlock<Ivhd> => placed.block.kind === 'ivhd')
  const used = new Set(ivhdsInUse(ivrs))
  return { ivrs, blocks, ivhds, inUse: ivhds.filter(({ block }) => used.has(block)) }
}

function entriesOf(ivhd: Ivhd, blockOffset: number, blockPath: string): PlacedEntry[] {
  let offset = blockOffset + (ivhd.type === 0x10 ? ivhd10Struct : ivhd11Struct).byteLength
  return ivhd.entries.map((entry, i) => {
    const placed = { offset, path: `${blockPath}.entries[${i}]`, entry }
    offset += writeEntry(entry, true).length
    return placed
  })
}

/** A type or a number of few digits, as manuals print it. */
export const hex = (value: number | bigint): string => `${value.toString(16)}h`

/** A DeviceID as bus:device.function. */
export const bdf = (deviceId: number): string => {
  const digits = (value: number): string => value.toString(16).padStart(2, '0')
  return `${digits(deviceId >>> 8)}:${digits((deviceId >>> 3) & 31)}.${deviceId & 7}`
}
