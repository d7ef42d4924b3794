/**
 * Checks of IVMD blocks: memory that devices reach before the OS knows of them.
 *
 * AMD 48882 rev 3.10, I/O virtualization ACPI table; exclusion range.
 *
 * @packageDocumentation
 */
import { bdf, hex } from './finding.js'
import type { PlacedBlock, PlacedTable, Report } from './finding.js'
import type { Ivmd } from './ivrs.js'
import { blockType } from './table-layout.js'

const pageBytes = 0x1000n

type Placed = PlacedBlock<Ivmd>

export function lintMemory({ blocks }: PlacedTable, report: Report): void {
  const memory = blocks.filter((placed): placed is Placed => placed.block.kind === 'ivmd')
  for (const placed of memory) {
    lintReserved(placed, report)
    lintFlags(placed, report)
    lintRange(placed, report)
  }
  lintOverlap(memory, report)
  const exclusions = memory.filter(({ block }) => block.flags.exclusion)
  for (const placed of exclusions.slice(1)) {
    const told = 'the IOMMU has one exclusion range, and an IVMD before this one is for it already'
    report('ivmd-exclusions', placed, `${told}: Linux maps both to themselves instead, readable and writable`)
  }
}

function lintReserved({ block, offset, path }: Placed, report: Report): void {
  const { flags, reserved, rest, type, deviceId, auxiliary } = block
  const set: string[] = []
  if (flags.reserved !== 0) set.push('flags')
  if (type === blockType.ivmdAll && deviceId !== 0) set.push('DeviceID')
  if (type !== blockType.ivmdRange && auxiliary !== 0) set.push('auxiliary data')
  if (reserved !== 0n) set.push('bytes 8 to 15')
  if (rest.length > 0) set.push('what follows byte 31')
  if (set.length === 0) return
  const told = `reserved bits are set, or bytes are there, in ${set.join(', ')}`
  const linux = 'Linux looks at bytes 8 and 9 only, which it takes for the PCI segment'
  report('reserved-bits', { offset, path }, `${told}: ${linux}`)
}

function lintFlags({ block, offset, path }: Placed, report: Report): void {
  const { unity, exclusion, ir, iw } = block.flags
  const where = { offset: offset + 1, path: `${path}.flags` }
  if (unity && exclusion) {
    const told = 'the memory is to be mapped to itself and to be excluded from mapping'
    report(
      'ivmd-flags',
      where,
      `${told}: Linux maps it to itself, readable and writable whatever IR and IW say`,
    )
  } else if (!unity && !exclusion) {
    report('ivmd-flags', where, 'neither unity nor exclusion is set: Linux ignores the block')
  } else if (unity && !ir && !iw) {
    report('ivmd-flags', where, 'unity without IR and IW: Linux reserves the memory but no device reaches it')
  }
}

function lintRange({ block, offset, path }: Placed, report: Report): void {
  const { start, byteLength, type, deviceId, auxiliary } = block
  if (start % pageBytes !== 0n || byteLength % pageBytes !== 0n) {
    const told = `${hex(byteLength)} bytes at ${hex(start)} are not whole pages of 4 KiB`
    const where = { offset: offset + 16, path: `${path}.start` }
    report(
      'ivmd-alignment',
      where,
      `${told}: Linux rounds both up, and loses the first bytes if the start is not aligned`,
    )
  }
  const where = { offset: offset + 24, path: `${path}.byteLength` }
  if (byteLength === 0n) {
    report('ivmd-length', where, 'the memory has no bytes: devices lose access to what firmware meant')
  } else if (start + byteLength > 1n << 52n) {
    const told = `${hex(byteLength)} bytes at ${hex(start)} go beyond the 52 bits of a physical address`
    report('ivmd-length', where, `${told}: they cannot be mapped to themselves`)
  }
  if (type === blockType.ivmdRange && auxiliary < deviceId) {
    const told = `the range of devices ends at ${bdf(auxiliary)}, below its start ${bdf(deviceId)}`
    const at = { offset: offset + 6, path: `${path}.auxiliary` }
    report('ivmd-range', at, `${told}: no device gets the memory`)
  }
}

/** First and last DeviceID. */
function devicesOf({ type, deviceId, auxiliary }: Ivmd): readonly [number, number] {
  if (type === blockType.ivmdAll) return [0, 0xffff]
  return [deviceId, type === blockType.ivmdRange ? auxiliary : deviceId]
}

/** Tells of each block at most one other that it overlaps. */
function lintOverlap(memory: readonly Placed[], report: Report): void {
  const byStart = memory.toSorted((a, b) => Number(a.block.start - b.block.start))
  let active: Placed[] = []
  for (const placed of byStart) {
    const { start, reserved } = placed.block
    const [first, last] = devicesOf(placed.block)
    active = active.filter(({ block }) => block.start + block.byteLength > start)
    const other = active.find(({ block }) => {
      const [otherFirst, otherLast] = devicesOf(block)
      // Where Linux looks for the segment.
      return otherFirst <= last && first <= otherLast && block.reserved === reserved
    })
    if (other !== undefined) {
      const told = `the memory at ${hex(start)} overlaps that of ${other.path} for the same devices`
      report(
        'ivmd-overlap',
        placed,
        `${told}: Linux reserves both, with the rights of the one that it maps first`,
      )
    }
    active.push(placed)
  }
}
