import { describe, expect, it } from 'vitest'
import { Iommu, SparseMemory } from '../src/index.js'
import type { FeatureRegisters } from '../src/index.js'
import { allOnes, at, bit, capability, efr, fault, full, fullChip, is, on, quietControl } from './rig-chip.js'
import type { Chip } from './rig-chip.js'
import { setMsi, without } from './rig-chip.js'

interface Row {
  readonly name: string
  readonly offset: number
  /** Bits that keep what software writes. */
  readonly mask: bigint
  readonly reset?: bigint
  /** 4 for the registers of 32 bits. */
  readonly bytes?: 4 | 8
  /** Bits whose nature the manual does not say. */
  readonly open?: bigint
  /** Features of EFR without any of which the register is not there. */
  readonly needs?: bigint
}

const page = 0x000ffffffffff000n
const ring = page | (15n << 56n)
const eight = 8n << 56n
const pointer = 0x7fff0n
const gaPointer = 0xfff8n
const x2Apic = 0xff0001ffffffff04n
/** Bits 49 and 57 are reserved; whether 21:18 keep anything is not said. */
const control = allOnes & ~(bit(49) | bit(57))
const open = 0xfn << 18n

const rows: readonly Row[] = [
  { name: 'Device Table Base', offset: 0x00, mask: page | 0x1ffn },
  { name: 'Command Buffer Base', offset: 0x08, mask: ring, reset: eight },
  { name: 'Event Log Base', offset: 0x10, mask: ring, reset: eight },
  { name: 'Control', offset: 0x18, mask: control, reset: bit(10), open },
  { name: 'Exclusion Base', offset: 0x20, mask: page | 3n },
  // Bits 11:0 count as ones: what they read as is left open.
  { name: 'Exclusion Limit', offset: 0x28, mask: page, open: 0xfffn },
  { name: 'Extended Feature', offset: 0x30, mask: 0n, reset: full.efr | efr.vIommuSup },
  { name: 'PPR Log Base', offset: 0x38, mask: ring, reset: eight, needs: efr.pprSup },
  { name: 'Hardware Event Status', offset: 0x50, mask: 0n, needs: efr.heSup },
  { name: 'GA Log Base', offset: 0xe0, mask: ring, reset: eight, needs: efr.gaSup },
  { name: 'GA Log Tail Address', offset: 0xe8, mask: 0x000ffffffffffff8n, needs: efr.gaSup },
  { name: 'PPR Log B Base', offset: 0xf0, mask: ring, reset: eight, needs: efr.dualPprLogSup },
  { name: 'Event Log B Base', offset: 0xf8, mask: ring, reset: eight, needs: efr.dualEventLogSup },
  // Public sources give the size seven bits or eight.
  ...Array.from({ length: 7 }, (_, n) => ({
    name: `Device Table Segment ${n + 1} Base`,
    offset: 0x100 + 8 * n,
    mask: page | 0x3fn,
    open: 0x1c0n,
    needs: efr.devTblSegSup,
  })),
  { name: 'Performance Optimization', offset: 0x16c, bytes: 4, mask: bit(13), needs: efr.perfOptSup },
  { name: 'X2APIC general', offset: 0x170, mask: x2Apic },
  { name: 'X2APIC PPR', offset: 0x178, mask: x2Apic },
  { name: 'X2APIC GA', offset: 0x180, mask: x2Apic },
  { name: 'Extended Feature 2', offset: 0x1a0, mask: 0n, reset: full.efr2 },
  ...[0, 1, 2, 3].flatMap((n) => [
    { name: `MARC ${n} Base`, offset: 0x200 + 24 * n, mask: page, needs: efr.marcSup },
    { name: `MARC ${n} Relocation`, offset: 0x208 + 24 * n, mask: page | 3n, needs: efr.marcSup },
    { name: `MARC ${n} Length`, offset: 0x210 + 24 * n, mask: page, needs: efr.marcSup },
  ]),
  { name: 'Reserved at 1FF8', offset: 0x1ff8, mask: 0n },
  { name: 'Command Head', offset: 0x2000, mask: pointer },
  { name: 'Command Tail', offset: 0x2008, mask: pointer },
  { name: 'Event Head', offset: 0x2010, mask: pointer },
  { name: 'Event Tail', offset: 0x2018, mask: pointer },
  { name: 'Status', offset: 0x2020, mask: 0n },
  { name: 'PPR Head', offset: 0x2030, mask: pointer, needs: efr.pprSup },
  { name: 'PPR Tail', offset: 0x2038, mask: pointer, needs: efr.pprSup },
  { name: 'GA Head', offset: 0x2040, mask: gaPointer, needs: efr.gaSup },
  { name: 'GA Tail', offset: 0x2048, mask: gaPointer, needs: efr.gaSup },
  { name: 'PPR B Head', offset: 0x2050, mask: pointer, needs: efr.dualPprLogSup },
  { name: 'PPR B Tail', offset: 0x2058, mask: pointer, needs: efr.dualPprLogSup },
  { name: 'Event B Head', offset: 0x2070, mask: pointer, needs: efr.dualEventLogSup },
  { name: 'Event B Tail', offset: 0x2078, mask: pointer, needs: efr.dualEventLogSup },
  { name: 'PPR Auto Response', offset: 0x2080, mask: 0x1fn, needs: efr.pprAutoRspSup },
  { name: 'PPR Overflow Early', offset: 0x2088, mask: 0xc0007fffn, needs: efr.pprOvrflwEarlySup },
  { name: 'PPR B Overflow Early', offset: 0x2090, mask: 0xc0007fffn, needs: efr.pprOvrflwEarlySup },
]

const everything: FeatureRegisters = { ...full, efr: full.efr | efr.vIommuSup }

/** A chip that nobody has written to, but for the lengths of its rings: pointers count modulo those. */
function newChip(features: FeatureRegisters = everything, ringLength?: bigint): Iommu {
  const iommu = Iommu.create({ memory: SparseMemory.create(1 << 20), features })
  if (ringLength !== undefined) {
    for (const base of [at.commandBase, at.eventBase, at.pprBase, at.gaBase, at.pprBaseB, at.eventBaseB]) {
      iommu.writeMmio(base, 8, ringLength << 56n)
    }
  }
  return iommu
}

describe.each(rows)('$name', ({ offset, mask, reset = 0n, bytes = 8, open: unknown = 0n, needs = 0n }) => {
  it('has its value after reset', () => {
    expect(newChip().readMmio(offset, bytes)).toBe(reset)
  })

  it('keeps what is written to its writable bits, and no other', () => {
    const iommu = newChip(everything, 15n)
    const fixed = mask === 0n ? reset : 0n
    iommu.writeMmio(offset, bytes, allOnes)
    expect(iommu.readMmio(offset, bytes) & ~unknown).toBe((mask | fixed) & ~unknown)
    iommu.writeMmio(offset, bytes, 0n)
    expect(iommu.readMmio(offset, bytes) & ~unknown).toBe(fixed & ~unknown)
    for (let n = bytes === 4 ? 31 : 63; n >= 0; n--) {
      if ((unknown & bit(n)) !== 0n) continue
      iommu.writeMmio(offset, bytes, bit(n))
      expect(iommu.readMmio(offset, bytes) & ~unknown, `bit ${n}`).toBe((bit(n) & mask) | fixed)
    }
  })

  it('is written and read by halves, each for itself', () => {
    if (bytes === 4) return
    const iommu = newChip(everything, 15n)
    const fixed = mask === 0n ? reset : 0n
    iommu.writeMmio(offset, 8, 0n)
    const pattern = 0xa5a5a5a5a5a5a5a4n & ~unknown
    iommu.writeMmio(offset + 4, 4, pattern >> 32n)
    expect(iommu.readMmio(offset, 8) & ~unknown).toBe((pattern & mask & ~0xffffffffn) | fixed)
    iommu.writeMmio(offset, 4, pattern & 0xffffffffn)
    const whole = (pattern & mask) | fixed
    expect(iommu.readMmio(offset, 8) & ~unknown).toBe(whole)
    expect(iommu.readMmio(offset, 4) & ~unknown).toBe(whole & 0xffffffffn)
    expect(iommu.readMmio(offset + 4, 4)).toBe(whole >> 32n)
  })

  it('is not there without its feature: it reads as zero and ignores writes', () => {
    if (needs === 0n) return
    const iommu = newChip({ ...everything, efr: everything.efr & ~needs })
    expect(iommu.readMmio(offset, bytes)).toBe(0n)
    iommu.writeMmio(offset, bytes, allOnes)
    expect(iommu.readMmio(offset, bytes)).toBe(0n)
    expect(newChip().readMmio(offset, bytes)).toBe(reset)
  })
})

describe('registers that come in numbers', () => {
  it.each([
    [0n, 0],
    [1n, 1],
    [2n, 3],
    [3n, 7],
  ])('DevTblSegSup %d: segment bases 1 to %d', (code, count) => {
    const iommu = newChip({ ...full, efr: (full.efr & ~efr.devTblSegSup) | (code << 38n) })
    for (let n = 1; n <= 7; n++) {
      const offset = 0x100 + 8 * (n - 1)
      iommu.writeMmio(offset, 8, 0x1234000n)
      expect(iommu.readMmio(offset, 8), `segment ${n}`).toBe(n <= count ? 0x1234000n : 0n)
    }
  })

  it.each([
    [0n, 0n, 0],
    [0n, 3n, 0],
    [1n, 0n, 1],
    [1n, 1n, 2],
    [1n, 2n, 4],
    [1n, 3n, 8],
    [1n, 4n, 16],
  ])('SmiFSup %d, SmiFRC %d: %d SMI filters', (supported, code, count) => {
    const iommu = newChip({
      ...full,
      efr: (full.efr & ~(efr.smiFSup | efr.smiFRC)) | (supported << 16n) | (code << 18n),
    })
    for (let n = 0; n < 16; n++) {
      iommu.writeMmio(0x60 + 8 * n, 8, 0x1abcdn)
      expect(iommu.readMmio(0x60 + 8 * n, 8), `filter ${n}`).toBe(n < count ? 0x1abcdn : 0n)
    }
  })
})

describe('an SMI filter', () => {
  it('has DeviceID, valid and lock bits', () => {
    const iommu = newChip()
    iommu.writeMmio(0x60, 8, allOnes & ~bit(17))
    expect(iommu.readMmio(0x60, 8)).toBe(0x1ffffn)
  })

  it.each([8, 4] as const)('stays as it is once SmiFLock is set: accesses of %d bytes', (bytes) => {
    const iommu = newChip()
    iommu.writeMmio(0x60, bytes, 0x31234n)
    iommu.writeMmio(0x68, bytes, 0x11234n)
    expect(iommu.readMmio(0x60, 8)).toBe(0x31234n)
    for (const offset of [0x60, 0x68]) iommu.writeMmio(offset, bytes, 0x5678n)
    expect(iommu.readMmio(0x60, 8)).toBe(0x31234n)
    expect(iommu.readMmio(0x68, 8)).toBe(0x5678n)
  })
})

describe('accesses', () => {
  it('that are not aligned do nothing', () => {
    const iommu = newChip()
    const before = iommu.readMmio(0x18, 8)
    for (const [offset, bytes] of [
      [0x1c, 8],
      [0x1a, 4],
      [0x19, 4],
      [0x2004, 8],
      [0x2021, 8],
    ] as const) {
      iommu.writeMmio(offset, bytes, allOnes)
      expect(iommu.readMmio(offset, bytes)).toBe(0n)
    }
    expect(iommu.readMmio(0x18, 8)).toBe(before)
    expect(iommu.readMmio(0x2008, 8)).toBe(0n)
  })

  it.each([
    [0n, 0x4000],
    [efr.pcSup, 0x80000],
  ])('beyond the region do nothing: PCSup mask %d, %d bytes', (counters, end) => {
    const iommu = newChip({ ...full, efr: (full.efr & ~efr.pcSup) | counters })
    const before = iommu.readMmio(0x18, 8)
    for (const offset of [end, end + 8, end * 2, 2 ** 31, 2 ** 32 + 0x18]) {
      iommu.writeMmio(offset, 8, allOnes)
      expect(iommu.readMmio(offset, 8)).toBe(0n)
      iommu.writeMmio(offset, 4, allOnes)
      expect(iommu.readMmio(offset, 4)).toBe(0n)
    }
    expect(iommu.readMmio(0x18, 8)).toBe(before)
  })

  it('to offsets without a register do nothing', () => {
    const iommu = newChip({ ...full, efr: full.efr & ~efr.vIommuSup })
    for (let offset = 0; offset < 0x4000; offset += 8) {
      const isRow = rows.some((row) => row.offset >>> 3 === offset >>> 3)
      const isNamed =
        isRow ||
        (offset >= 0x40 && offset < 0xe0) ||
        (offset >= 0x138 && offset < 0x1a0) ||
        // The high half of Performance Optimization's pair is in the MSI registers.
        offset === 0x168
      if (isNamed) continue
      iommu.writeMmio(offset, 8, allOnes)
      expect(iommu.readMmio(offset, 8), offset.toString(16)).toBe(0n)
    }
  })

  it('write of 32 bits takes the low 32 bits of the value alone', () => {
    const iommu = newChip()
    iommu.writeMmio(at.deviceTableBase, 4, 0xffff_ffff_1234_5000n)
    expect(iommu.readMmio(at.deviceTableBase, 8)).toBe(0x12345000n)
  })
})

/** The rings: base, head, tail, the enables that make them run, and the bit that tells. */
const rings = [
  ['command', at.commandBase, at.commandHead, at.commandTail, on.cmdBufEn, is.cmdBufRun],
  ['event', at.eventBase, at.eventHead, at.eventTail, on.eventLogEn, is.eventLogRun],
  ['PPR', at.pprBase, at.pprHead, at.pprTail, on.pprLogEn | on.pprEn, is.pprLogRun],
  ['GA', at.gaBase, at.gaHead, at.gaTail, on.gaEn | on.guestApicMode | on.gaLogEn, is.gaLogRun],
] as const

describe.each(rings)('the %s ring', (_, base, head, tail, enables, run) => {
  const enable = enables & ~(on.pprEn | on.gaEn | on.guestApicMode)
  const withControl = (control: bigint): Chip => {
    const chip = fullChip()
    chip.write(at.control, control)
    return chip
  }

  it('runs with IommuEn, its enable and a legal length', () => {
    expect(withControl(on.iommuEn | enables).hasStatus(run)).toBe(true)
    expect(withControl(enables).hasStatus(run)).toBe(false)
    expect(withControl(on.iommuEn | (enables & ~enable)).hasStatus(run)).toBe(false)
    const others = quietControl | on.pprLogEn | on.pprEn | on.gaEn | on.guestApicMode | on.gaLogEn
    expect(withControl(others & ~enable).hasStatus(run)).toBe(false)
    expect(withControl(others).hasStatus(run)).toBe(true)
  })

  it.each([0n, 1n, 7n, 8n, 9n, 15n])('does not run with a length below 8: %d', (length) => {
    const chip = withControl(0n)
    chip.write(base, 0x6000000n | (length << 56n))
    chip.write(at.control, on.iommuEn | enables)
    expect(chip.hasStatus(run)).toBe(length >= 8n)
  })

  it('goes back to the start when its base is written', () => {
    const chip = withControl(0n)
    for (const half of [8, 4] as const) {
      chip.write(head, 0x40n)
      chip.write(tail, 0x80n)
      expect([chip.read(head), chip.read(tail)]).toEqual([0x40n, 0x80n])
      chip.iommu.writeMmio(base, half, 0x6000000n)
      expect([chip.read(head), chip.read(tail)]).toEqual([0n, 0n])
    }
  })

  it('keeps its base and its place while it runs, by whatever half', () => {
    const chip = withControl(0n)
    chip.write(base, 0x6000000n | (9n << 56n))
    chip.write(head, 0x40n)
    chip.write(tail, 0x40n)
    chip.write(at.control, on.iommuEn | enables)
    expect(chip.hasStatus(run)).toBe(true)
    chip.write(base, 0x7000000n | (10n << 56n))
    chip.iommu.writeMmio(base, 4, 0x7000000n)
    chip.iommu.writeMmio(base + 4, 4, 10n << 24n)
    expect(chip.read(base)).toBe(0x6000000n | (9n << 56n))
    expect([chip.read(head), chip.read(tail)]).toEqual([0x40n, 0x40n])
    chip.write(at.control, 0n)
    chip.write(base, 0x7000000n | (10n << 56n))
    expect(chip.read(base)).toBe(0x7000000n | (10n << 56n))
  })

  it('stands still when its enable or IommuEn goes off, and runs on after', () => {
    for (const off of [enable, on.iommuEn]) {
      const chip = withControl(on.iommuEn | enables)
      chip.write(at.control, (on.iommuEn | enables) & ~off)
      expect(chip.hasStatus(run)).toBe(false)
      chip.write(at.control, on.iommuEn | enables)
      expect(chip.hasStatus(run)).toBe(true)
    }
  })
})

describe('Status', () => {
  it('tells of event log B by the same bit while it is the log in use', () => {
    const chip = fullChip(on.eventLogB)
    expect(chip.read(at.status)).toBe(is.eventLogRun | is.cmdBufRun | is.eventLogActive)
  })

  it('tells of PPR log B likewise', () => {
    const chip = fullChip(on.pprEn | on.pprLogEn | on.pprLogB)
    expect(chip.read(at.status)).toBe(is.eventLogRun | is.cmdBufRun | is.pprLogRun | is.pprLogActive)
  })

  it('does not run log B with an illegal length, whatever that of log A', () => {
    const chip = fullChip()
    chip.write(at.control, 0n)
    chip.write(at.eventBaseB, 0x6000000n | (7n << 56n))
    chip.write(at.pprBaseB, 0x6000000n | (7n << 56n))
    const logs = on.pprEn | on.pprLogEn
    chip.write(at.control, quietControl | logs | on.eventLogB | on.pprLogB)
    expect(chip.hasStatus(is.eventLogRun | is.pprLogRun)).toBe(false)
    chip.write(at.control, 0n)
    chip.write(at.control, quietControl | logs)
    expect(chip.hasStatus(is.eventLogRun)).toBe(true)
    expect(chip.hasStatus(is.pprLogRun)).toBe(true)
  })

  it('does not change by writing zeros, nor what runs by writing ones', () => {
    const chip = fullChip()
    fault(chip)
    const before = chip.read(at.status)
    expect(before).toBe(is.eventLogRun | is.cmdBufRun | is.eventLogInt)
    chip.write(at.status, 0n)
    expect(chip.read(at.status)).toBe(before)
    chip.write(at.status, ~is.eventLogInt & allOnes)
    expect(chip.read(at.status)).toBe(before)
    chip.write(at.status, allOnes)
    expect(chip.read(at.status)).toBe(is.eventLogRun | is.cmdBufRun)
  })
})

describe('the hardware event registers', () => {
  /** Mode 4 with a root where there is no memory: PAGE_TAB_HARDWARE_ERROR. */
  const tableError = (chip: Chip): void => {
    chip.setDte(0x10, [0x600ffffffffff803n, 0x42n])
    chip.iommu.request({ deviceId: 0x10, iova: 0n })
  }
  const pageTableEvent = [0x4200004200000010n, 0xffffffffff000n] as const
  const held = (chip: Chip): bigint[] =>
    [at.hardwareUpper, at.hardwareLower, at.hardwareStatus].map((offset) => chip.read(offset))

  it('get PAGE_TAB_HARDWARE_ERROR, with HEV', () => {
    const chip = fullChip()
    expect(held(chip)).toEqual([0n, 0n, 0n])
    tableError(chip)
    expect(chip.takeEvents()).toEqual([pageTableEvent])
    expect(held(chip)).toEqual([...pageTableEvent, 1n])
  })

  it('get DEV_TAB_HARDWARE_ERROR', () => {
    const chip = fullChip()
    chip.write(at.deviceTableBase, 0xfffffffe00000n | 0x1ffn)
    chip.iommu.request({ deviceId: 0x600, iova: 0x1000n, write: true })
    const [logged] = chip.takeEvents()
    expect(logged).toEqual([0x3220000000000600n, 0xfffffffe0c000n])
    expect(held(chip)).toEqual([...logged!, 1n])
  })

  it('get COMMAND_HARDWARE_ERROR', () => {
    const chip = fullChip()
    chip.command([0x1000000000000001n | 0xffffffffffff8n, 1n])
    expect(held(chip)).toEqual([0x6200000000000000n, 0xffffffffffff8n, 1n])
  })

  it.each([
    ['IO_PAGE_FAULT', (chip: Chip): void => void fault(chip)],
    ['ILLEGAL_COMMAND_ERROR', (chip: Chip): void => void chip.command([0n, 0n])],
    [
      'ILLEGAL_DEV_TABLE_ENTRY',
      (chip: Chip) => {
        chip.setDte(1, [0x7n])
        chip.iommu.request({ deviceId: 1, iova: 0n })
      },
    ],
  ] as const)('do not get %s', (_, provoke) => {
    const chip = fullChip()
    provoke(chip)
    expect(chip.takeEvents()).toHaveLength(1)
    expect(held(chip)).toEqual([0n, 0n, 0n])
  })

  it('tell by HEO of a second error while HEV is set; both are cleared by writing 1', () => {
    const chip = fullChip()
    tableError(chip)
    chip.command([0x1000000000000001n | 0xffffffffffff8n, 1n])
    expect(chip.read(at.hardwareStatus)).toBe(3n)
    chip.write(at.hardwareStatus, 0n)
    expect(chip.read(at.hardwareStatus)).toBe(3n)
    chip.write(at.hardwareStatus, 2n)
    expect(chip.read(at.hardwareStatus)).toBe(1n)
    chip.write(at.hardwareStatus, 1n)
    expect(chip.read(at.hardwareStatus)).toBe(0n)
    tableError(chip)
    expect(held(chip)).toEqual([...pageTableEvent, 1n])
    chip.iommu.writeMmio(at.hardwareStatus, 4, 3n)
    expect(chip.read(at.hardwareStatus)).toBe(0n)
  })

  it('are not there without HESup: hardware errors go to the log alone', () => {
    const chip = fullChip(0n, { features: without(efr.heSup) })
    tableError(chip)
    expect(chip.takeEvents()).toEqual([pageTableEvent])
    expect(held(chip)).toEqual([0n, 0n, 0n])
  })
})

describe('the MSI registers', () => {
  const shadow = [0x158, 0x15c, 0x160, 0x164] as const
  const config = (chip: Chip): bigint[] => {
    const msi = capability(chip, 5)
    return [0, 4, 8, 12].map((offset) => BigInt(chip.iommu.readConfig(msi + offset, 4)))
  }
  const mmio = (chip: Chip): bigint[] => shadow.map((offset) => chip.iommu.readMmio(offset, 4))

  it('show what configuration space holds', () => {
    const chip = fullChip()
    expect(mmio(chip)).toEqual(config(chip))
    setMsi(chip, { address: 0x1_fee01000n, data: 0x4031, messagesLog2: 1 })
    expect(mmio(chip)).toEqual(config(chip))
    expect(mmio(chip).slice(1)).toEqual([0xfee01000n, 1n, 0x4031n])
    expect((mmio(chip)[0]! >> 16n) & 0x71n).toBe(0x11n)
  })

  it('may be written instead of configuration space', () => {
    const chip = fullChip()
    const header = mmio(chip)[0]!
    chip.iommu.writeMmio(0x15c, 4, 0xfee02000n)
    chip.iommu.writeMmio(0x160, 4, 2n)
    chip.iommu.writeMmio(0x164, 4, 0x55n)
    chip.iommu.writeMmio(0x158, 4, header & ~bit(16))
    expect(config(chip)).toEqual([header & ~bit(16), 0xfee02000n, 2n, 0x55n])
    expect(mmio(chip)).toEqual(config(chip))
    chip.iommu.writeMmio(0x158, 4, header | bit(16))
    expect(config(chip)[0]).toBe(header | bit(16))
  })

  it('may be read two at a time', () => {
    const chip = fullChip()
    setMsi(chip, { address: 0x3_fee01000n, data: 0x77 })
    const [header, low, high, message] = mmio(chip)
    expect(chip.read(0x158)).toBe(header! | (low! << 32n))
    expect(chip.read(0x160)).toBe(high! | (message! << 32n))
  })

  it('show the message numbers and the mapping capability', () => {
    const chip = fullChip(0n, { pci: { msiMessagesLog2: 5, msiNum: 21, msiNumPpr: 19, msiNumGa: 7 } })
    expect(chip.iommu.readMmio(0x150, 4) & 0x1fn).toBe(21n)
    const mapping = capability(chip, 8)
    expect(chip.iommu.readMmio(0x168, 4)).toBe(BigInt(chip.iommu.readConfig(mapping, 4)))
    const numbers = chip.iommu.readMmio(0x150, 4) | (chip.iommu.readMmio(0x154, 4) << 32n)
    chip.write(0x150, allOnes)
    expect(chip.read(0x150)).toBe(numbers)
  })

  it('are not there without MsiCapMmioSup; configuration space goes on', () => {
    const chip = fullChip(0n, { features: without(efr.msiCapMmioSup) })
    setMsi(chip, { data: 0x31 })
    const before = config(chip)
    for (const offset of [...shadow, 0x168]) {
      chip.iommu.writeMmio(offset, 4, 0xffffffffn)
      expect(chip.iommu.readMmio(offset, 4), offset.toString(16)).toBe(0n)
    }
    expect(config(chip)).toEqual(before)
  })
})

describe('the exclusion registers', () => {
  it('with SNP are the window of completion stores and have no ExEn and Allow', () => {
    const chip = fullChip(0n, { snp: true })
    chip.write(at.exclusionBase, allOnes)
    chip.write(at.exclusionLimit, allOnes)
    expect(chip.read(at.exclusionBase)).toBe(page)
    expect(chip.read(at.exclusionLimit) & ~0xfffn).toBe(page)
  })
})

describe('a register for software alone', () => {
  it('is in the fingerprint of the machine and in a fork of it', () => {
    const chip = fullChip()
    chip.write(0x208, 0x1234003n)
    const fork = chip.fork()
    expect(fork.fingerprint()).toBe(chip.fingerprint())
    fork.write(0x208, 0x5678003n)
    expect([chip.read(0x208), fork.read(0x208)]).toEqual([0x1234003n, 0x5678003n])
    expect(fork.fingerprint()).not.toBe(chip.fingerprint())
  })
})

describe('Control', () => {
  it('keeps GstBufferTRPMode only where there is a hardware vIOMMU: software detects it by reading back', () => {
    for (const [features, kept] of [
      [everything, bit(60)],
      [full, 0n],
    ] as const) {
      const iommu = newChip(features)
      iommu.writeMmio(at.control, 8, bit(60))
      expect(iommu.readMmio(at.control, 8) & bit(60)).toBe(kept)
    }
  })
})
