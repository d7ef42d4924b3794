/**
 * Checks of the IVHD blocks among each other, and of where they say the IOMMU is.
 *
 * AMD 48882 rev 3.10, I/O virtualization ACPI table; PCI function and capability block for what the numbers mean.
 *
 * @packageDocumentation
 */
import { decodeEfr } from '../layout/features.js'
import { bdf, hex } from './finding.js'
import type { PlacedBlock, PlacedTable, Report } from './finding.js'
import { writeEntry } from './device-entry.js'
import { iommuKey } from './ivrs.js'
import type { Ivhd, Ivhd11 } from './ivrs.js'

/** Bytes of MMIO without and with performance counters. */
const plainBytes = 0x4000n
const counterBytes = 0x80000n

/** Where capabilities of a PCI function lie; the IOMMU's has 24 bytes. */
const firstCapability = 0x40
const lastCapability = 0x100 - 24

type Placed = PlacedBlock<Ivhd>

export function lintIommus(table: PlacedTable, report: Report): void {
  if (table.ivhds.length === 0) {
    const none = 'no IVHD block describes an IOMMU: Linux finds none and maps DMA without it'
    report('no-ivhd', { offset: 48, path: 'blocks' }, none)
  }
  lintSameIommu(table, report)
  lintTypes(table, report)
  for (const ivhd of table.ivhds) {
    lintMmio(ivhd, report)
    lintCapability(ivhd, report)
  }
  lintOverlap(table, report)
}

/** Blocks for one IOMMU: one of a type, and all with the same content. */
function lintSameIommu({ ivhds, inUse }: PlacedTable, report: Report): void {
  const usedFor = new Map(inUse.map((ivhd) => [iommuKey(ivhd.block), ivhd]))
  const seen = new Set<string>()
  for (const ivhd of ivhds) {
    const { block } = ivhd
    const used = usedFor.get(iommuKey(block))?.block
    const key = `${iommuKey(block)} ${block.type}`
    if (seen.has(key)) {
      const twice = `IOMMU ${bdf(block.deviceId)} of segment ${block.segment} has another IVHD ${hex(block.type)}`
      report(
        'duplicate-iommu',
        ivhd,
        `${twice}: Linux cannot reserve the same registers twice and gives up all IOMMUs`,
      )
    }
    seen.add(key)
    if (used === undefined || used.type === 0x10 || used.type === block.type) continue
    const differences = differencesOf(block, used)
    if (differences.length > 0) {
      const both = `IVHD ${hex(block.type)} and ${hex(used.type)} describe IOMMU ${bdf(block.deviceId)}`
      const told = `${both} but differ in ${differences.join(', ')}`
      report('ivhd-disagree', ivhd, `${told}: software uses ${hex(used.type)}, old software another`)
    }
  }
}

/** Names of what two blocks for the same IOMMU say differently; what only one of them can say does not count. */
function differencesOf(low: Ivhd, high: Ivhd11): string[] {
  const pairs: [string, unknown, unknown][] = [
    ['mmioBase', low.mmioBase, high.mmioBase],
    ['capabilityOffset', low.capabilityOffset, high.capabilityOffset],
    ['MsiNum', low.info.msiNum, high.info.msiNum],
    ['UnitID', low.info.unitId, high.info.unitId],
    ['flags', lowFlags(low), lowFlags(high)],
    ['device entries', deviceText(low), deviceText(high)],
  ]
  const [lowRest, highRest] = [restOf(low), restOf(high)]
  for (const name of ['PNCounters', 'PNBanks', 'MsiNumPPR'] as const) {
    pairs.push([name, lowRest[name], highRest[name]])
  }
  pairs.push(...featurePairs(low, high))
  return pairs.filter(([, a, b]) => a !== b).map(([name]) => name)
}

function restOf(ivhd: Ivhd): Record<'PNCounters' | 'PNBanks' | 'MsiNumPPR', number> {
  const { pnCounters, pnBanks, msiNumPpr } = ivhd.type === 0x10 ? ivhd.features : ivhd.attributes
  return { PNCounters: pnCounters, PNBanks: pnBanks, MsiNumPPR: msiNumPpr }
}

/** PreFSup and PPRSup are of type 10h only. */
const lowFlags = ({ flags }: Ivhd): string => JSON.stringify({ ...flags, preFSup: false, pprSup: false })

/** Only 40h has entries for ACPI devices. */
const deviceText = (ivhd: Ivhd): string =>
  ivhd.entries
    .filter(({ kind }) => kind !== 'pad' && kind !== 'acpiHid')
    .map((entry) => writeEntry(entry, true).join())
    .join(';')

function featurePairs(low: Ivhd, high: Ivhd11): [string, unknown, unknown][] {
  if (low.type !== 0x10) {
    return [
      ['EFR', low.efr, high.efr],
      ['EFR2', low.efr2, high.efr2],
    ]
  }
  const { features, flags } = low
  const efr = decodeEfr(high.efr)
  return [
    ['PreFSup', flags.preFSup, efr.preFSup],
    ['PPRSup', flags.pprSup, efr.pprSup],
    ['XTSup', features.xtSup, efr.xtSup],
    ['NXSup', features.nxSup, efr.nxSup],
    ['GTSup', features.gtSup, efr.gtSup],
    ['GLXSup', features.glxSup, efr.glxSup],
    ['IASup', features.iaSup, efr.iaSup],
    ['GASup', features.gaSup, efr.gaSup],
    ['HESup', features.heSup, efr.heSup],
    ['PASmax', features.pasMax, efr.pasMax],
    ['GATS', features.gats, efr.gats],
    ['HATS', features.hats, efr.hats],
  ]
}

/** Linux takes one type for all IOMMUs: the last that the first IOMMU has. */
function lintTypes({ ivhds, inUse }: PlacedTable, report: Report): void {
  const [first] = ivhds
  if (first === undefined) return
  let chosen = first.block.type
  for (const { block } of ivhds) if (block.deviceId === first.block.deviceId) chosen = block.type
  for (const ivhd of inUse) {
    const { type, deviceId } = ivhd.block
    if (type === chosen) continue
    const told = `the IVHD to use for IOMMU ${bdf(deviceId)} is ${hex(type)}`
    const linux = `Linux uses ${hex(chosen)} for all, the last type of the first IOMMU`
    report('ivhd-types-differ', ivhd, `${told}, but ${linux}: it overlooks this block`)
  }
}

const hasCounters = (ivhd: Ivhd): boolean =>
  ivhd.type === 0x10
    ? ivhd.features.pnCounters !== 0 && ivhd.features.pnBanks !== 0
    : decodeEfr(ivhd.efr).pcSup

const regionBytes = (ivhd: Ivhd): bigint => (hasCounters(ivhd) ? counterBytes : plainBytes)

function lintMmio({ block, offset, path }: Placed, report: Report): void {
  const bytes = regionBytes(block)
  const { mmioBase } = block
  if (mmioBase !== 0n && mmioBase % bytes === 0n) return
  const has = hasCounters(block) ? ' as the IOMMU has performance counters' : ''
  const told = `MMIO base ${hex(mmioBase)} is not a multiple of ${bytes / 1024n} KiB, or is 0${has}`
  const effect = 'the capability block cannot hold it, so Linux takes something else for the registers'
  report('mmio-alignment', { offset: offset + 8, path: `${path}.mmioBase` }, `${told}: ${effect}`)
}

function lintCapability({ block, offset, path }: Placed, report: Report): void {
  const at = block.capabilityOffset
  if (at >= firstCapability && at <= lastCapability && at % 4 === 0) return
  const range = `a multiple of 4 from ${hex(firstCapability)} to ${hex(lastCapability)}`
  const told = `capability offset ${hex(at)} is not ${range}`
  const effect = 'Linux takes what is there for the IOMMU capability, and may find no IOTLB support'
  report('capability-offset', { offset: offset + 6, path: `${path}.capabilityOffset` }, `${told}: ${effect}`)
}

function lintOverlap({ inUse }: PlacedTable, report: Report): void {
  const byBase = inUse.toSorted((a, b) => Number(a.block.mmioBase - b.block.mmioBase))
  let end = 0n
  for (const { block, offset, path } of byBase) {
    const blockEnd = block.mmioBase + regionBytes(block)
    if (block.mmioBase < end) {
      const told = `the registers at ${hex(block.mmioBase)} lie among those of another IOMMU`
      const where = { offset: offset + 8, path: `${path}.mmioBase` }
      report('mmio-overlap', where, `${told}: Linux cannot reserve them and gives up all IOMMUs`)
    }
    if (blockEnd > end) end = blockEnd
  }
}
