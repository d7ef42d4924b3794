/**
 * What firmware says about a device: the IOMMU that it is behind, the DeviceID that its requests carry, bits that its
 * entry is to have.
 *
 * Linux drivers/iommu/amd/init.c, `init_iommu_from_acpi`: of entries that name a device, the last one says which IOMMU it
 * is behind and the last alias counts; the bits of all of them are joined.
 *
 * @packageDocumentation
 */
import { deviceSettingBits, encodeDte } from '@nestwalk/hardware'
import type { DeviceRange } from '@nestwalk/hardware'

/** DeviceIDs that an IOMMU translates, with the same settings. */
export interface SettledRange extends DeviceRange {
  /** Index of the IOMMU. */
  readonly iommu: number
}

/** See the file's comment. */
export interface FirmwareSettings {
  /** Index of the IOMMU. */
  readonly iommu: number
  readonly aliases: readonly number[]
  /** Four quad-words, lowest first. */
  readonly persistentBits: readonly bigint[]
  readonly atsAllowed: boolean
}

/** What the ranges of a segment say about a device; `undefined` if no IOMMU translates it. */
export function settingsFor(ranges: readonly SettledRange[], deviceId: number): FirmwareSettings | undefined {
  const named = ranges.filter(({ first, last }) => first <= deviceId && deviceId <= last)
  const last = named.at(-1)
  if (last === undefined) return undefined
  const alias = named.findLast((range) => range.alias !== undefined)?.alias ?? deviceId
  return {
    iommu: last.iommu,
    aliases: alias === deviceId ? [] : [alias],
    persistentBits: persistentBits(named.reduce((bits, { settings }) => bits | settings, 0)),
    atsAllowed: !named.some(({ atsDisabled }) => atsDisabled),
  }
}

/** Bits that a device's entry is to have for a data byte of the IVRS table: four quad-words, lowest first. */
export function persistentBits(settings: number): readonly bigint[] {
  const { initPass, eIntPass, nmiPass, sysMgt, lint0Pass, lint1Pass } = deviceSettingBits(settings)
  const words = encodeDte({
    initPass,
    externalInterruptPass: eIntPass,
    nmiPass,
    systemManagement: sysMgt,
    lint0Pass,
    lint1Pass,
    // Erratum 63: messages that are to be forwarded are dropped unless the device may write.
    writeAllowed: sysMgt === 1,
  })
  return [...words]
}

/** DeviceIDs `first` to `last` with the same data byte, which is not 0. */
export interface SettingsRun {
  readonly first: number
  readonly last: number
  readonly settings: number
}

const settingBits = [0, 1, 2, 3, 4, 5, 6, 7] as const

/** The joined settings of all devices, as runs that are apart and ascend. */
export function settingsRuns(ranges: readonly SettledRange[]): SettingsRun[] {
  const edges = ranges
    .filter(({ settings }) => settings !== 0)
    .flatMap(({ first, last, settings }) => [
      { at: first, settings, step: 1 },
      { at: last + 1, settings, step: -1 },
    ])
    .sort((a, b) => a.at - b.at)
  const runs: SettingsRun[] = []
  // How many open ranges have each bit.
  const open = settingBits.map(() => 0)
  let from = 0
  for (const { at, settings, step } of edges) {
    const joined = open.reduce((bits, count, bit) => (count > 0 ? bits | (1 << bit) : bits), 0)
    if (joined !== 0 && from < at) runs.push({ first: from, last: at - 1, settings: joined })
    from = at
    for (const bit of settingBits) if ((settings & (1 << bit)) !== 0) open[bit] = (open[bit] ?? 0) + step
  }
  return runs
}
