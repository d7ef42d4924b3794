/**
 * Checks an IVRS table: what firmware got wrong, and what an operating system makes of it.
 *
 * AMD 48882 rev 3.10, I/O virtualization ACPI table. What is said of Linux is what its AMD IOMMU driver does at start.
 *
 * @packageDocumentation
 */
import { decodeIvrs } from './decode.js'
import { encodeIvrs, sumOf } from './encode.js'
import { ivrsRules, placesOf } from './finding.js'
import type { IvrsFinding, Report } from './finding.js'
import { IvrsError } from './ivrs-error.js'
import type { Ivrs } from './ivrs.js'
import { lintEntries, lintInterruptSources } from './lint-entries.js'
import { lintFeatures } from './lint-features.js'
import { lintIommus } from './lint-iommus.js'
import { lintMemory } from './lint-memory.js'
import { lintHeader } from './lint-header.js'

/**
 * Checks a table, in the order of the table within each group of rules.
 *
 * Bytes that cannot be decoded are one finding. The checksum and what follows the table can only be checked in bytes.
 *
 * @throws RangeError if a value is given that cannot be encoded
 */
export function lintIvrs(table: Ivrs | Uint8Array): IvrsFinding[] {
  const findings: IvrsFinding[] = []
  const report: Report = (rule, { offset, path }, message) => {
    findings.push({ severity: ivrsRules[rule], where: { offset, path }, rule, message })
  }
  const bytes = table instanceof Uint8Array ? table : encodeIvrs(table)
  let ivrs: Ivrs
  try {
    ivrs = decodeIvrs(bytes)
  } catch (error) {
    if (!(error instanceof IvrsError)) throw error
    report('unreadable', { offset: error.offset, path: '' }, error.message)
    return findings
  }
  lintBytes(bytes, report)
  const placed = placesOf(ivrs)
  lintHeader(placed, report)
  lintIommus(placed, report)
  for (const ivhd of placed.ivhds) {
    lintFeatures(ivhd, report)
    lintEntries(ivhd, report)
  }
  lintInterruptSources(placed, report)
  lintMemory(placed, report)
  return findings
}

function lintBytes(bytes: Uint8Array, report: Report): void {
  const length = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(4, true)
  const sum = sumOf(bytes.subarray(0, length))
  if (sum !== 0) {
    const right = (Number(bytes[9]) - sum) & 0xff
    const told = `the bytes of the table add up to ${sum}, not 0, modulo 256; the checksum would be 0x${right.toString(16)}`
    report('checksum', { offset: 9, path: '' }, `${told}: Linux rejects the table and runs without the IOMMU`)
  }
  if (bytes.length > length) {
    const extra = `${bytes.length - length} bytes follow the ${length} that the table states: nobody reads them`
    report('bytes-after-table', { offset: length, path: '' }, extra)
  }
}
