/**
 * A device behind the IOMMU: it copies memory, by addresses that the IOMMU translates.
 *
 * Everything happens while software writes the command register, so that a test needs no interrupt and no timer.
 *
 * @packageDocumentation
 */
import type { Iommu } from '@nestwalk/hardware'
import { vfioRegion } from '../vfio-user/index.js'
import type { VfioUserFunction } from '../vfio-user/index.js'
import type { GuestRam } from './guest-ram.js'

/** Registers in BAR 0, 64 bits each; the guest's program has the same numbers. */
export const engineRegister = {
  /** Reads as {@link engineMagic}. */
  magic: 0x00,
  /** IOVA to read from. */
  source: 0x08,
  /** IOVA to write to. */
  destination: 0x10,
  /** Bytes, 1 to 1 MiB. */
  length: 0x18,
  /** 1: copy. */
  command: 0x20,
  /** One of {@link engineStatus}. */
  status: 0x28,
  /** Bytes copied before the end or the fault. */
  done: 0x30,
  /** A number that the guest wants noted, at a moment when it does nothing else. */
  mark: 0x38,
} as const

/** "NESTWALK". */
export const engineMagic = 0x4b4c415754534e45n

export const engineStatus = { good: 0, readRefused: 1, writeRefused: 2, badLength: 3 } as const

const engineBarBytes = 0x1000
const longestCopy = 1 << 20
const registerCount = 8
const pageBytes = 4096

/** PCI identity: vendor 1234h has many a test device. */
const vendorId = 0x1234
const productId = 0x6e77

/** What the engine did, for who watches. */
export interface EngineWatcher {
  translated(): void
  /** The entry that the IOMMU put, or would have put, into its event log. */
  refused(event: readonly [bigint, bigint]): void
  mark(value: bigint): void
}

export interface CopyEngineParts {
  readonly iommu: Iommu
  /** The DeviceID of its requests. */
  readonly deviceId: number
  readonly ram: GuestRam
  readonly watcher: EngineWatcher
  /** Called after requests: the IOMMU may have raised interrupts. */
  readonly sendInterrupts: () => void
}

/** See the file's comment. */
export class CopyEngine implements VfioUserFunction {
  readonly regions = [
    { index: vfioRegion.bar0, sizeBytes: engineBarBytes, readable: true, writable: true },
    { index: vfioRegion.config, sizeBytes: 256, readable: true, writable: true },
  ]
  readonly msiVectors = 0
  private readonly config = configSpace()
  private readonly registers = new BigUint64Array(registerCount)

  constructor(private readonly parts: CopyEngineParts) {
    this.reset()
  }

  attached(): void {
    // It asks nothing of the VMM: it raises no interrupt, and the guest's RAM is a file.
  }

  detached(): void {
    // Nothing to forget.
  }

  readRegion(index: number, offset: number, into: Uint8Array): void {
    const source = index === vfioRegion.config ? this.config.value : new Uint8Array(this.registers.buffer)
    for (let n = 0; n < into.length; n++) into[n] = source[offset + n] ?? 0
  }

  writeRegion(index: number, offset: number, from: Uint8Array): void {
    if (index === vfioRegion.config) {
      this.writeConfig(offset, from)
      return
    }
    if (from.length !== 8 || offset % 8 !== 0 || offset === engineRegister.magic) return
    if (offset >= registerCount * 8) return
    const value = new DataView(from.buffer, from.byteOffset, 8).getBigUint64(0, true)
    this.set(offset, value)
    if (offset === engineRegister.mark) this.parts.watcher.mark(value)
    if (offset === engineRegister.command && value === 1n) {
      this.copy()
      this.parts.sendInterrupts()
    }
  }

  mapDma(): void {
    // The guest's memory is one for all functions: the IOMMU's is told of it.
  }

  unmapDma(): void {
    // As above.
  }

  unmapAllDma(): void {
    // As above.
  }

  reset(): void {
    this.registers.fill(0n)
    this.set(engineRegister.magic, engineMagic)
  }

  private copy(): void {
    const length = Number(this.get(engineRegister.length))
    this.set(engineRegister.done, 0n)
    if (length < 1 || length > longestCopy) {
      this.set(engineRegister.status, BigInt(engineStatus.badLength))
      return
    }
    let done = 0
    let status: number = engineStatus.good
    while (done < length) {
      const source = this.get(engineRegister.source) + BigInt(done)
      const destination = this.get(engineRegister.destination) + BigInt(done)
      const bytes = Math.min(length - done, leftOfPage(source), leftOfPage(destination))
      const piece = new Uint8Array(bytes)
      const from = this.translate(source, false)
      if (from === undefined || !this.parts.ram.read(from, piece)) status = engineStatus.readRefused
      if (status !== engineStatus.good) break
      const to = this.translate(destination, true)
      if (to === undefined || !this.parts.ram.write(to, piece)) status = engineStatus.writeRefused
      if (status !== engineStatus.good) break
      done += bytes
    }
    this.set(engineRegister.status, BigInt(status))
    this.set(engineRegister.done, BigInt(done))
  }

  /** Where a request goes; undefined if the IOMMU refuses it. */
  private translate(iova: bigint, write: boolean): number | undefined {
    const { iommu, deviceId, watcher } = this.parts
    const answer = iommu.request({ deviceId, iova: BigInt.asUintN(64, iova), write })
    switch (answer.kind) {
      case 'translated':
        watcher.translated()
        return Number(answer.spa)
      case 'forwarded':
        return Number(answer.address)
      case 'interrupt':
        return undefined
      case 'fault':
        watcher.refused(answer.event)
        return undefined
    }
  }

  private writeConfig(offset: number, from: Uint8Array): void {
    for (const [n, byte] of from.entries()) {
      const at = offset + n
      const mask = this.config.writable[at] ?? 0
      this.config.value[at] = ((this.config.value[at] ?? 0) & ~mask) | (byte & mask)
    }
  }

  private get(register: number): bigint {
    return this.registers[register / 8] ?? 0n
  }

  private set(register: number, value: bigint): void {
    this.registers[register / 8] = value
  }
}

const leftOfPage = (address: bigint): number => pageBytes - Number(address & BigInt(pageBytes - 1))

/** A function without capabilities: identity, command register, BAR 0 of 32 bits. */
function configSpace(): { readonly value: Uint8Array; readonly writable: Uint8Array } {
  const value = new Uint8Array(256)
  const writable = new Uint8Array(256)
  const view = new DataView(value.buffer)
  view.setUint16(0x00, vendorId, true)
  view.setUint16(0x02, productId, true)
  // Class: system peripheral, other.
  view.setUint16(0x0a, 0x0880, true)
  view.setUint16(0x2c, vendorId, true)
  view.setUint16(0x2e, productId, true)
  const masks = new DataView(writable.buffer)
  masks.setUint16(0x04, 0x0406, true)
  masks.setUint32(0x10, -engineBarBytes, true)
  // Interrupt line.
  masks.setUint8(0x3c, 0xff)
  return { value, writable }
}
