/**
 * Checks of the IVRS header and of what it says about its blocks.
 *
 * AMD 48882 rev 3.10, I/O virtualization ACPI table.
 *
 * @packageDocumentation
 */
import { hex } from './finding.js'
import type { PlacedTable, Report } from './finding.js'

/** First revision of the table with 11h and 40h. */
const efrRevision = 2
const lastRevision = 3

/** Physical addresses in tables end at bit 51. */
const mostPhysicalBits = 52
const mostVirtualBits = 64
const gva48Bits = 2

export function lintHeader({ ivrs, blocks, ivhds }: PlacedTable, report: Report): void {
  const { revision, info } = ivrs
  if (revision < 1 || revision > lastRevision) {
    const known = `revision ${revision} is not known: there are 1 to ${lastRevision}; Linux does not look at it`
    report('table-revision', { offset: 8, path: 'revision' }, known)
  }
  if (info.reserved !== 0 || ivrs.reserved !== 0n) {
    const which =
      info.reserved !== 0 ? { offset: 36, path: 'info.reserved' } : { offset: 40, path: 'reserved' }
    report(
      'reserved-bits',
      which,
      'reserved bits of the header are set: a later revision may give them a meaning',
    )
  }
  lintAddressSizes(ivrs.info, report)
  for (const { block, offset, path } of ivhds) {
    if (block.type === 0x10) continue
    if (revision > 0 && revision < efrRevision) {
      const early = `IVHD ${hex(block.type)} is in a table of revision ${revision}, which has 10h only`
      report('block-revision', { offset, path }, `${early}: Linux uses it nevertheless, others may not`)
    }
    if (!info.efrSup && (block.efr !== 0n || block.efr2 !== 0n)) {
      const unused = 'there are EFR images, but IVinfo.EFRSup is 0'
      const effect = 'Linux then reads the features from MMIO, later than it needs some of them'
      report('efr-support', { offset: offset + 24, path: `${path}.efr` }, `${unused}: ${effect}`)
    }
  }
  for (const { block, offset, path } of blocks) {
    if (block.kind !== 'unknown') continue
    const type = hex(Number(block.bytes[0]))
    report('unknown-block', { offset, path }, `type ${type} is not known: software steps over the block`)
  }
}

function lintAddressSizes(info: PlacedTable['ivrs']['info'], report: Report): void {
  const { gvaSize, paSize, vaSize } = info
  const wrong: string[] = []
  if (gvaSize !== gva48Bits) wrong.push(`GVAsize is ${gvaSize}, but only 2 (48 bits) has a meaning`)
  if (paSize === 0 || paSize > mostPhysicalBits)
    wrong.push(`PAsize is ${paSize}, but takes 1 to ${mostPhysicalBits}`)
  if (vaSize === 0 || vaSize > mostVirtualBits)
    wrong.push(`VAsize is ${vaSize}, but takes 1 to ${mostVirtualBits}`)
  if (wrong.length > 0) {
    report('address-sizes', { offset: 36, path: 'info' }, `${wrong.join('; ')}: Linux does not look at it`)
  }
}
