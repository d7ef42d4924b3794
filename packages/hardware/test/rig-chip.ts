/** What tests of registers, logs, counters and commands need besides `Chip`: every feature, by name; all bits; MSI. */
import { nestingFeatures } from '../src/index.js'
import type { FeatureRegisters, InterruptMessage } from '../src/index.js'
import { Chip, controlBit, quietControl, register, statusBit } from './chip.js'
import type { ChipOptions } from './chip.js'

export type Command = readonly [lo: bigint, hi: bigint]
export type Entry = readonly [lo: bigint, hi: bigint]

export const bit = (n: number): bigint => 1n << BigInt(n)
export const allOnes = (1n << 64n) - 1n

/** Fields of EFR, as masks. */
export const efr = {
  preFSup: bit(0),
  pprSup: bit(1),
  xtSup: bit(2),
  gtSup: bit(4),
  iaSup: bit(6),
  gaSup: bit(7),
  heSup: bit(8),
  pcSup: bit(9),
  smiFSup: 3n << 16n,
  smiFRC: 7n << 18n,
  dualPprLogSup: 3n << 24n,
  dualEventLogSup: 3n << 28n,
  devTblSegSup: 3n << 38n,
  pprOvrflwEarlySup: bit(40),
  pprAutoRspSup: bit(41),
  marcSup: 3n << 42n,
  blkStopMrkSup: bit(44),
  perfOptSup: bit(45),
  msiCapMmioSup: bit(46),
  ephSup: bit(50),
  invIotlbTypeSup: bit(54),
  vIommuSup: bit(55),
} as const

/** The nesting part with PREFETCH, x2APIC, hardware error registers and sixteen SMI filters. */
export const full: FeatureRegisters = {
  ...nestingFeatures,
  efr:
    (nestingFeatures.efr & ~(efr.smiFSup | efr.smiFRC)) |
    efr.preFSup |
    efr.xtSup |
    efr.heSup |
    bit(16) |
    (4n << 18n),
}
export const without = (mask: bigint): FeatureRegisters => ({ ...full, efr: full.efr & ~mask })

export const on = {
  ...controlBit,
  pprLogEn: bit(13),
  pprIntEn: bit(14),
  pprEn: bit(15),
  gaEn: bit(17),
  smiFEn: bit(22),
  guestApicMode: bit(25),
  gaLogEn: bit(28),
  gaIntEn: bit(29),
  pprLogB: bit(30),
  pprAutoSwap: bit(31),
  eventLogB: bit(32),
  eventAutoSwap: bit(33),
  pprAutoRspEn: bit(39),
  blkStopMrkEn: bit(41),
  pprAutoRspAon: bit(42),
  intCapXtEn: bit(51),
} as const

export const is = {
  ...statusBit,
  pprOverflow: bit(5),
  pprInt: bit(6),
  pprLogRun: bit(7),
  gaLogRun: bit(8),
  gaOverflow: bit(9),
  gaInt: bit(10),
  pprOverflowB: bit(11),
  pprLogActive: bit(12),
  eventOverflowB: bit(15),
  eventLogActive: bit(16),
  pprEarlyB: bit(17),
  pprEarly: bit(18),
} as const

/** Offsets besides those of `register`. */
export const at = {
  ...register,
  exclusionBase: 0x20,
  exclusionLimit: 0x28,
  pprBase: 0x38,
  hardwareUpper: 0x40,
  hardwareLower: 0x48,
  hardwareStatus: 0x50,
  smiFilter: 0x60,
  gaBase: 0xe0,
  gaTailAddress: 0xe8,
  pprBaseB: 0xf0,
  eventBaseB: 0xf8,
  x2ApicGeneral: 0x170,
  x2ApicPpr: 0x178,
  x2ApicGa: 0x180,
  ignored: 0x1ff8,
  pprHead: 0x2030,
  pprTail: 0x2038,
  gaHead: 0x2040,
  gaTail: 0x2048,
  pprHeadB: 0x2050,
  pprTailB: 0x2058,
  eventHeadB: 0x2070,
  eventTailB: 0x2078,
  autoResponse: 0x2080,
  pprEarly: 0x2088,
  pprEarlyB: 0x2090,
} as const

/** Where logs lie besides the event log. */
export const logPlace = {
  eventB: 0x5300000n,
  ppr: 0x5500000n,
  pprB: 0x5700000n,
  ga: 0x5900000n,
  gaTail: 0x5b00008n,
} as const

const eight = 8n << 56n

/** All logs at length 8, their enables given by `control`; everything quiet besides. */
export function fullChip(control = 0n, options: ChipOptions = {}): Chip {
  const chip = Chip.create({ features: full, ...options, control: 0n })
  chip.write(at.eventBaseB, logPlace.eventB | eight)
  chip.write(at.pprBase, logPlace.ppr | eight)
  chip.write(at.pprBaseB, logPlace.pprB | eight)
  chip.write(at.gaBase, logPlace.ga | eight)
  chip.write(at.gaTailAddress, logPlace.gaTail)
  chip.write(register.control, quietControl | control)
  return chip
}

/** Offset of a capability in configuration space. */
export function capability(chip: Chip, id: number): number {
  let found = chip.iommu.readConfig(0x34, 1)
  for (let n = 0; n < 48 && found !== 0; n++) {
    if (chip.iommu.readConfig(found, 1) === id) return found
    found = chip.iommu.readConfig(found + 1, 1)
  }
  throw new Error(`no capability ${id}`)
}

/** MSI as software sets it up: MultMessEn is log2 of the messages. */
export function setMsi(
  chip: Chip,
  { address = 0xfee00000n, data = 0, messagesLog2 = 0, enabled = true } = {},
): void {
  const msi = capability(chip, 5)
  chip.iommu.writeConfig(msi + 4, 4, Number(address & 0xffffffffn))
  chip.iommu.writeConfig(msi + 8, 4, Number(address >> 32n))
  chip.iommu.writeConfig(msi + 12, 2, data)
  chip.iommu.writeConfig(msi + 2, 2, (messagesLog2 << 4) | (enabled ? 1 : 0))
}

/** All interrupts that are ready. */
export function interrupts(chip: Chip): InterruptMessage[] {
  const taken: InterruptMessage[] = []
  for (let next = chip.iommu.takeInterrupt(); next !== undefined; next = chip.iommu.takeInterrupt()) {
    taken.push(next)
    if (taken.length > 1000) throw new Error('interrupts without end')
  }
  return taken
}

/** Entries of 16 bytes at the start of a log. */
export const entriesAt = (chip: Chip, base: bigint, count: number): Entry[] =>
  Array.from({ length: count }, (_, n): Entry => {
    const from = base + BigInt(n * 16)
    return [chip.load(from) ?? -1n, chip.load(from + 8n) ?? -1n]
  })

/** V and TV, IR and IW, Mode 0. */
export const passing = 0x6000000000000003n
/** DTE.I. */
export const ats = 1n << 32n
/** A device whose DTE has V=1, TV=0: each request is one event. */
export const blocked: readonly bigint[] = [1n, 0x13n]

/** Makes `count` IO_PAGE_FAULT events of a blocked device; tells which were logged. */
export function fault(chip: Chip, count = 1, deviceId = 0x600): boolean[] {
  chip.setDte(deviceId, blocked)
  return Array.from({ length: count }, () => {
    const answer = chip.iommu.request({ deviceId, iova: 0x1000n })
    return answer.kind === 'fault' && answer.logged
  })
}

export const faultEvent: Entry = [0x2000001300000600n, 0x1000n]

export { Chip, quietControl }
