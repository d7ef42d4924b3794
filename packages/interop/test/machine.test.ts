/** The IOMMU and the copy engine as functions that a VMM has: over tables written by hand, without a guest. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Iommu, decodeIvrs, lintIvrs, SparseMemory, store64 } from '@nestwalk/hardware'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  CopyEngine,
  engineMagic,
  engineRegister,
  engineStatus,
  featuresFor,
  GuestRam,
  IommuFunction,
  ivrsOf,
} from '../src/index.js'
import type { LoggedEvent } from '../src/index.js'

const folder = mkdtempSync(join(tmpdir(), 'nw-machine-'))
const ramPath = join(folder, 'ram')
afterAll(() => {
  rmSync(folder, { recursive: true })
})

const deviceId = 0x20
const at = { deviceTable: 0x10000n, commands: 0x12000n, events: 0x13000n, table: 0x14000n } as const
const [bar0, config] = [0, 7]

/** Rights of an entry, IR and IW. */
const [mayRead, mayWrite] = [1n << 61n, 1n << 62n]

class Rig {
  readonly ram: GuestRam
  readonly memory: SparseMemory
  readonly iommu: Iommu
  readonly iommuFunction: IommuFunction
  readonly engine: CopyEngine
  readonly commands: number[][] = []
  readonly refused: LoggedEvent[] = []
  readonly marks: bigint[] = []
  readonly placed: number[] = []
  readonly written: { address: bigint; bytes: number[] }[] = []
  translations = 0
  interrupts = 0

  constructor() {
    writeFileSync(
      ramPath,
      Uint8Array.from({ length: 0x100000 }, (_, n) => n >> 3),
    )
    this.ram = GuestRam.open(ramPath)
    this.memory = SparseMemory.over(this.ram)
    this.iommu = Iommu.create({ memory: this.memory, features: featuresFor('v1', 4) })
    this.iommuFunction = new IommuFunction(this.iommu, this.ram, {
      command: (words) => this.commands.push([...words]),
      interrupt: () => this.interrupts++,
      placed: (address) => this.placed.push(address),
    })
    this.engine = new CopyEngine({
      ...{ iommu: this.iommu, deviceId, ram: this.ram },
      watcher: {
        translated: () => this.translations++,
        refused: (event) => this.refused.push(event),
        mark: (mark) => this.marks.push(mark),
      },
      sendInterrupts: () => {
        this.iommuFunction.sendInterrupts()
      },
    })
    this.iommuFunction.attached({
      writeMemory: (address, bytes) => this.written.push({ address, bytes: [...bytes] }),
    })
    this.iommuFunction.mapDma({
      ...{ address: 0n, sizeBytes: 0x100000n, fileOffset: 0n, readable: true, writable: true },
    })
    for (let page = 0x10000n; page < 0x15000n; page += 8n) store64(this.memory, page, 0n)
  }

  /** A device table, rings, and one table: IOVA 1000h and 2000h to 30000h and 31000h, 3000h read-only, 5000h to 32000h. */
  setUp(): void {
    const dte = at.deviceTable + BigInt(deviceId) * 32n
    store64(this.memory, dte, 3n | (1n << 9n) | at.table | mayRead | mayWrite)
    store64(this.memory, dte + 8n, 7n)
    const leaf = (page: bigint, frame: bigint, rights: bigint): void => {
      store64(this.memory, at.table + page * 8n, frame | rights | 1n)
    }
    leaf(1n, 0x30000n, mayRead | mayWrite)
    leaf(2n, 0x31000n, mayRead | mayWrite)
    leaf(3n, 0x33000n, mayRead)
    leaf(5n, 0x32000n, mayRead | mayWrite)
    this.mmio(0x0, at.deviceTable | 1n)
    this.mmio(0x8, at.commands | (8n << 56n))
    this.mmio(0x10, at.events | (8n << 56n))
    // IommuEn, EventLogEn, EventIntEn, CmdBufEn.
    this.mmio(0x18, 0x100dn)
  }

  mmio(offset: number, value: bigint): void {
    const bytes = new Uint8Array(8)
    new DataView(bytes.buffer).setBigUint64(0, value, true)
    this.iommuFunction.writeRegion(bar0, offset, bytes)
  }

  readMmio(offset: number, length: number): bigint {
    const bytes = new Uint8Array(8)
    this.iommuFunction.readRegion(bar0, offset, bytes.subarray(0, length))
    return new DataView(bytes.buffer).getBigUint64(0, true)
  }

  writeConfig(offset: number, value: number, length: 1 | 2 | 4): void {
    const bytes = new Uint8Array(4)
    new DataView(bytes.buffer).setUint32(0, value, true)
    this.iommuFunction.writeRegion(config, offset, bytes.subarray(0, length))
  }

  readConfig(offset: number, length: number, of: IommuFunction | CopyEngine = this.iommuFunction): number {
    const bytes = new Uint8Array(4)
    of.readRegion(config, offset, bytes.subarray(0, length))
    return new DataView(bytes.buffer).getUint32(0, true)
  }

  setEngine(register: number, value: bigint): void {
    const bytes = new Uint8Array(8)
    new DataView(bytes.buffer).setBigUint64(0, value, true)
    this.engine.writeRegion(bar0, register, bytes)
  }

  readEngine(register: number): bigint {
    const bytes = new Uint8Array(8)
    this.engine.readRegion(bar0, register, bytes)
    return new DataView(bytes.buffer).getBigUint64(0, true)
  }

  copy(source: bigint, destination: bigint, length: bigint): [status: bigint, done: bigint] {
    this.setEngine(engineRegister.source, source)
    this.setEngine(engineRegister.destination, destination)
    this.setEngine(engineRegister.length, length)
    this.setEngine(engineRegister.command, 1n)
    return [this.readEngine(engineRegister.status), this.readEngine(engineRegister.done)]
  }
}

let rig: Rig
beforeEach(() => {
  rig = new Rig()
})
afterEach(() => {
  rig.ram.close()
})

describe('the copy engine', () => {
  it('copies across pages, by translated addresses', () => {
    rig.setUp()
    expect(rig.copy(0x1ff0n, 0x5100n, 0x20n)).toEqual([0n, 0x20n])
    const file = readFileSync(ramPath)
    expect(file.subarray(0x32100, 0x32120)).toEqual(file.subarray(0x30ff0, 0x31010))
    expect(rig.translations).toBe(4)
    expect(rig.refused).toEqual([])
  })

  it.each([
    ['to read where nothing is mapped', 0x4000n, 0x5000n, 8n, engineStatus.readRefused, 0n, 0x4000n],
    ['to write where only reading is allowed', 0x1000n, 0x3000n, 8n, engineStatus.writeRefused, 0n, 0x3000n],
    ['a page in the middle', 0x3ff8n, 0x5000n, 0x10n, engineStatus.readRefused, 8n, 0x4000n],
  ])('is refused %s, and says how far it came', (_, source, destination, length, status, done, address) => {
    rig.setUp()
    expect(rig.copy(source, destination, length)).toEqual([BigInt(status), done])
    expect(rig.refused.length).toBe(1)
    const [lo, hi] = rig.refused[0] ?? [0n, 0n]
    // IO_PAGE_FAULT in bits 63:60, domain in 47:32, device in 15:0.
    expect([lo >> 60n, (lo >> 32n) & 0xffffn, lo & 0xffffn, hi]).toEqual([2n, 7n, 0x20n, address])
    const logged = readFileSync(ramPath).readBigUInt64LE(Number(at.events) + 8)
    expect(logged).toBe(address)
  })

  it('takes lengths from 1 byte to 1 MiB', () => {
    rig.setUp()
    for (const length of [0n, 0x100001n, 1n << 63n]) {
      expect(rig.copy(0x1000n, 0x5000n, length)).toEqual([BigInt(engineStatus.badLength), 0n])
    }
    expect(rig.copy(0x1000n, 0x5000n, 1n)).toEqual([0n, 1n])
  })

  it('says who it is, and does nothing for other accesses', () => {
    expect(rig.readEngine(engineRegister.magic)).toBe(engineMagic)
    rig.setEngine(engineRegister.magic, 1n)
    rig.setEngine(0x40, 1n)
    rig.engine.writeRegion(bar0, engineRegister.source, Uint8Array.of(1, 2, 3, 4))
    expect([0, 8, 0x40].map((register) => rig.readEngine(register))).toEqual([engineMagic, 0n, 0n])
    expect(rig.readConfig(0, 4, rig.engine)).toBe(0x6e771234)
    rig.engine.writeRegion(config, 0x10, Uint8Array.of(255, 255, 255, 255))
    expect(rig.readConfig(0x10, 4, rig.engine)).toBe(0xfffff000)
    rig.engine.writeRegion(config, 0, Uint8Array.of(0, 0))
    expect(rig.readConfig(0, 4, rig.engine)).toBe(0x6e771234)
  })

  it('tells of marks, and forgets everything at reset', () => {
    rig.setEngine(engineRegister.mark, 5n)
    rig.setEngine(engineRegister.source, 5n)
    expect(rig.marks).toEqual([5n])
    rig.engine.reset()
    expect(rig.readEngine(engineRegister.source)).toBe(0n)
    expect(rig.readEngine(engineRegister.magic)).toBe(engineMagic)
  })
})

describe('the IOMMU as a function', () => {
  it('has its registers in BAR 0, in accesses of 4 and 8 bytes', () => {
    rig.setUp()
    expect(rig.readMmio(0x30, 8)).toBe(0x9c1n)
    expect(rig.readMmio(0x8, 4)).toBe(at.commands)
    expect(rig.readMmio(0xc, 4)).toBe(0x08000000n)
    for (const [offset, length] of [
      [0x30, 1],
      [0x30, 2],
      [0x34, 8],
      [0x32, 4],
    ] as const) {
      expect(rig.readMmio(offset, length)).toBe(0n)
    }
    rig.iommuFunction.writeRegion(bar0, 0x2000, Uint8Array.of(0x10))
    expect(rig.readMmio(0x2000, 8)).toBe(0n)
  })

  it('can be sized and placed; it tells where software turns it on', () => {
    rig.writeConfig(0x10, 0xffffffff, 4)
    expect(rig.readConfig(0x10, 4)).toBe(0xfff80000)
    rig.writeConfig(0x10, 0xfeb00000, 4)
    rig.writeConfig(0x4, 0, 2)
    expect(rig.placed).toEqual([])
    rig.writeConfig(0x4, 2, 2)
    rig.writeConfig(0x4, 3, 2)
    expect(rig.placed).toEqual([0xfeb00000])
    // Memory space is on; bus mastering always is.
    expect(rig.readConfig(0x4, 2)).toBe(0x0006)
  })

  it('shows the capability block and the MSI capability', () => {
    expect(rig.readConfig(0x0, 2)).toBe(0x1022)
    expect(rig.readConfig(0x9, 1)).toBe(0)
    expect(rig.readConfig(0xa, 2)).toBe(0x0806)
    expect(rig.readConfig(rig.readConfig(0x34, 1), 1)).toBe(0x0f)
  })

  it('carries out commands as the tail moves, and tells of each', () => {
    rig.setUp()
    store64(rig.memory, at.commands, 0x1000000000015009n)
    store64(rig.memory, at.commands + 8n, 0x1122334455667788n)
    store64(rig.memory, at.commands + 16n, 0x2000000000000020n)
    store64(rig.memory, at.commands + 24n, 0n)
    rig.mmio(0x2008, 0x20n)
    expect(rig.commands).toEqual([
      [0x15009, 0x10000000, 0x55667788, 0x11223344],
      [0x20, 0x20000000, 0, 0],
    ])
    expect(readFileSync(ramPath).readBigUInt64LE(0x15008)).toBe(0x1122334455667788n)
    expect(rig.readMmio(0x2000, 8)).toBe(0x20n)
  })

  it('raises an interrupt as a write to the address that software chose', () => {
    rig.setUp()
    const msi = 0x64
    rig.writeConfig(msi + 4, 0xfee01000, 4)
    rig.writeConfig(msi + 12, 0x0041, 2)
    rig.copy(0x4000n, 0x5000n, 8n)
    expect(rig.written).toEqual([])
    rig.mmio(0x2020, 2n)
    rig.writeConfig(msi + 2, 1, 2)
    rig.copy(0x4000n, 0x5000n, 8n)
    expect(rig.written).toEqual([{ address: 0xfee01000n, bytes: [0x41, 0, 0, 0] }])
    expect(rig.interrupts).toBe(1)
    rig.iommuFunction.detached()
    rig.mmio(0x2020, 2n)
    rig.copy(0x4000n, 0x5000n, 8n)
    expect(rig.written.length).toBe(1)
  })
})

describe('the IVRS table', () => {
  it('names the IOMMU, its registers and features, and the engine as the only device behind it', () => {
    const ivrs = decodeIvrs(ivrsOf({ efr: 0x9c1n, efr2: 0n }))
    // Interrupts of the guest's I/O APIC do not pass through us.
    expect(lintIvrs(ivrs)).toMatchObject([{ severity: 'warning', rule: 'no-ioapic' }])
    expect(ivrs.blocks).toMatchObject([
      {
        ...{ kind: 'ivhd', type: 0x11, deviceId: 0x18, capabilityOffset: 0x40, mmioBase: 0xfeb00000n },
        ...{ efr: 0x9c1n, efr2: 0n, entries: [{ kind: 'select', deviceId: 0x20 }] },
      },
    ])
  })
})
