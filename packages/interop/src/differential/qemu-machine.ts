/**
 * QEMU's amd-iommu with the arena's memory and devices around it.
 *
 * A case is one batch of qtest commands, so that it costs one round trip. QEMU is not started anew for each: registers
 * are rewritten, and commands take its IOMMU back to where it began. The devices are QEMU's "edu": a DMA engine with a
 * buffer of 4 KiB. What a device has read shows when it writes its buffer to memory, with the IOMMU off.
 *
 * @packageDocumentation
 */
import type { QemuBinary } from '../qemu/qemu-binary.js'
import { QtestMachine } from '../qtest/qtest-machine.js'
import {
  arena,
  arenaDevices,
  control,
  halfBufferBytes,
  pageBytes,
  ramBytes,
  register,
  resetCommandCount,
  resetTablePages,
  slotBytes,
} from './arena.js'
import type { DifferentialCase } from './differential-case.js'
import type { MemoryImage } from './memory-image.js'
import { operationsOf, startOf } from './operations.js'
import type { DmaOperation, Operation } from './operations.js'

/** QEMU has no base address register for it. */
const iommuAddress = 0xfed8_0000

/** Offsets of edu's registers, its buffer as it sees it, and its commands. */
const edu = {
  source: 0x80,
  destination: 0x88,
  bytes: 0x90,
  command: 0x98,
  buffer: 0x40000,
  fromMemory: 1,
  toMemory: 3,
} as const

/** Nanoseconds until edu's timer has fired. */
const timerStep = 100_000_000

const rootPort = { devfn: 0x28, bus: 1 } as const

const machineDevices = [
  ...['-device', 'amd-iommu,dma-remap=on'],
  ...['-device', 'edu,addr=0x3,dma_mask=0xffffffffffffffff'],
  ...['-device', 'edu,addr=0x4,dma_mask=0xffffffffffffffff'],
  ...['-device', 'pcie-root-port,id=rootport,addr=0x5,chassis=1,slot=1'],
  ...['-device', 'edu,bus=rootport,addr=0x0,dma_mask=0xffffffffffffffff'],
]

/** What QEMU made of a case. */
export interface QemuOutcome {
  /** What was read, one reading after another. */
  readonly readings: readonly bigint[]
  /** Memory at the end; valid until the next case. */
  readonly memory: Buffer
}

/** See the file's comment. */
export class QemuMachine {
  private readonly memory = Buffer.alloc(ramBytes)

  private constructor(
    private readonly machine: QtestMachine,
    private readonly background: Buffer,
  ) {}

  /** @throws InteropError if QEMU does not start or lacks what is needed */
  static async start(qemu: QemuBinary, background: Buffer, timeoutSeconds: number): Promise<QemuMachine> {
    const machine = await QtestMachine.start({ qemu, ramBytes, devices: machineDevices, timeoutSeconds })
    try {
      machine.writeRam(0, background)
      await machine.send(pciSetup())
      return new QemuMachine(machine, background)
    } catch (error) {
      await machine.end()
      throw error
    }
  }

  /**
   * Carries out a case from a fresh start.
   *
   * @param before - memory with the case in it
   */
  async run(testCase: DifferentialCase, before: MemoryImage): Promise<QemuOutcome> {
    for (const page of before.changedPages) {
      const at = page * pageBytes
      this.machine.writeRam(at, before.bytes.subarray(at, at + pageBytes))
    }
    const operations = [
      ...startOf(testCase).filter(({ kind }) => kind !== 'store'),
      ...operationsOf(testCase).flat(),
    ]
    const lines = [...resetLines(testCase.passing), ...arenaDevices.flatMap((_, device) => fillLines(device))]
    const readingsAt: number[] = []
    for (const operation of operations) {
      if (operation.kind === 'read') readingsAt.push(lines.length)
      lines.push(...linesOf(operation))
    }
    lines.push(writeRegister(register.control, 0n), ...arenaDevices.flatMap((_, device) => dumpLines(device)))
    const answers = await this.machine.send(lines)
    this.machine.readRam(this.memory)
    return { readings: readingsAt.map((at) => BigInt(answers[at] ?? 0)), memory: this.memory }
  }

  /** Takes memory back to the background. @param pages - those that may have changed */
  restore(pages: Iterable<number>): void {
    for (const page of pages) {
      const at = page * pageBytes
      this.machine.writeRam(at, this.background.subarray(at, at + pageBytes))
    }
  }

  async end(): Promise<void> {
    await this.machine.end()
  }
}

const writeRegister = (offset: number, value: bigint): string => writeLine(iommuAddress + offset, value)

const writeLine = (address: number | bigint, value: number | bigint): string =>
  `writeq 0x${address.toString(16)} 0x${value.toString(16)}`

/** Bus numbers, base addresses, and the right to be bus master. */
function pciSetup(): string[] {
  const configure = (deviceId: number, offset: number, value: number): string[] => [
    `outl 0xcf8 ${0x8000_0000 + (deviceId << 8) + offset}`,
    `outl 0xcfc ${value}`,
  ]
  const memoryAndMaster = 6
  const behind = arenaDevices.find(({ deviceId }) => deviceId >> 8 === rootPort.bus)
  const window = (behind?.registers ?? 0) >>> 16
  return [
    ...configure(rootPort.devfn, 0x18, (rootPort.bus << 16) | (rootPort.bus << 8)),
    ...configure(rootPort.devfn, 0x20, ((window << 16) | window) >>> 0),
    ...configure(rootPort.devfn, 0x04, memoryAndMaster),
    ...arenaDevices.flatMap(({ deviceId, registers }) => [
      ...configure(deviceId, 0x10, registers),
      ...configure(deviceId, 0x04, memoryAndMaster),
    ]),
  ]
}

/** Takes the IOMMU back: no translation kept, and all devices' DMA passing or all refused. */
function resetLines(passing: boolean): string[] {
  const table = passing ? arena.resetPassing : arena.resetTranslating
  const off = [writeRegister(register.control, 0n), writeRegister(register.status, 0x67n)]
  return [
    ...off,
    writeRegister(register.deviceTable, BigInt(table) | resetTablePages),
    writeRegister(register.commandBase, BigInt(arena.resetCommands) | (8n << 56n)),
    writeRegister(register.commandHead, 0n),
    writeRegister(register.commandTail, BigInt(16 * resetCommandCount)),
    writeRegister(register.control, control.iommuEn | control.cmdBufEn),
    ...off,
  ]
}

/** One DMA of edu's: from memory into its buffer, or the other way. */
interface EduDma {
  readonly memory: bigint
  /** Offset in the buffer. */
  readonly offset: number
  readonly bytes: number
  readonly toMemory: boolean
}

function dmaLines(device: number, { memory, offset, bytes, toMemory }: EduDma): string[] {
  const at = arenaDevices[device]?.registers ?? 0
  const inBuffer = BigInt(edu.buffer + offset)
  return [
    writeLine(at + edu.source, toMemory ? inBuffer : memory),
    writeLine(at + edu.destination, toMemory ? memory : inBuffer),
    writeLine(at + edu.bytes, bytes),
    writeLine(at + edu.command, toMemory ? edu.toMemory : edu.fromMemory),
    `clock_step ${timerStep}`,
  ]
}

/** Fills a device's buffer with what it may write. */
function fillLines(device: number): string[] {
  const memory = BigInt(arena.patterns + device * pageBytes)
  return dmaLines(device, { memory, offset: 0, bytes: pageBytes, toMemory: false })
}

/** Shows what a device has read. */
function dumpLines(device: number): string[] {
  const memory = BigInt(arena.dump + device * pageBytes)
  return dmaLines(device, { memory, offset: 0, bytes: halfBufferBytes, toMemory: true })
}

function linesOf(operation: Operation): string[] {
  switch (operation.kind) {
    case 'store':
      return [writeLine(operation.address, operation.value)]
    case 'write': {
      if (operation.bytes === 8) return [writeRegister(operation.offset, operation.value)]
      return [`writel 0x${(iommuAddress + operation.offset).toString(16)} 0x${operation.value.toString(16)}`]
    }
    case 'read':
      return [`readq 0x${(iommuAddress + operation.offset).toString(16)}`]
    case 'dma':
      return linesOfDma(operation)
  }
}

function linesOfDma({ device, iova, write, bytes, slot }: DmaOperation): string[] {
  const offset = slot * slotBytes + (write ? halfBufferBytes : 0)
  return dmaLines(device, { memory: iova, offset, bytes, toMemory: write })
}
