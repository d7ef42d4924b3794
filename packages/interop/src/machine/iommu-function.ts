/**
 * The IOMMU as a PCI function that a VMM can be given: its configuration space, and its registers in BAR 0.
 *
 * A real one has no BAR: software finds the registers in the IVRS table alone. A VMM, though, maps nothing but BARs, so
 * this one has BAR 0, and the IVRS names the address that the firmware gives it.
 *
 * @packageDocumentation
 */
import type { AccessBytes, ConfigBytes, Iommu } from '@nestwalk/hardware'
import { vfioRegion } from '../vfio-user/index.js'
import type { DmaRegion, VfioUserClient, VfioUserFunction } from '../vfio-user/index.js'
import type { GuestRam } from './guest-ram.js'

/** Room for the performance counters, whether there are any or not: the firmware then always finds the same place. */
const iommuBarBytes = 0x80000

const commandOffset = 4
const memoryEnable = 1 << 1
/** Linux leaves it off, and a VMM then drops the interrupts; what software reads here it writes back. */
const busMaster = 1 << 2
const bar0Offset = 0x10

/** What happens at the function, for who watches. */
export interface IommuWatcher {
  /** A command was carried out: its four words. */
  command(words: readonly number[]): void
  interrupt(): void
  /** Software turned the registers on at an address: bits above the BAR's size. */
  placed(address: number): void
}

const ringRegister = { base: 0x08, head: 0x2000, tail: 0x2008 } as const

/** See the file's comment. */
export class IommuFunction implements VfioUserFunction {
  readonly regions = [
    { index: vfioRegion.bar0, sizeBytes: iommuBarBytes, readable: true, writable: true },
    { index: vfioRegion.config, sizeBytes: 256, readable: true, writable: true },
  ]
  readonly msiVectors = 1
  private client: VfioUserClient | undefined
  private bar0 = 0
  private isEnabled = false
  private readonly command = new Uint8Array(16)

  constructor(
    private readonly iommu: Iommu,
    private readonly ram: GuestRam,
    private readonly watcher: IommuWatcher,
  ) {
    iommu.writeConfig(commandOffset, 2, busMaster)
  }

  attached(client: VfioUserClient): void {
    this.client = client
  }

  detached(): void {
    this.client = undefined
  }

  readRegion(index: number, offset: number, into: Uint8Array): void {
    if (index === vfioRegion.config) {
      for (let n = 0; n < into.length; n++) into[n] = this.configByte(offset + n)
      return
    }
    into.fill(0)
    const bytes = accessOf(offset, into.length)
    if (bytes === undefined) return
    const value = this.iommu.readMmio(offset, bytes)
    const view = new DataView(into.buffer, into.byteOffset, into.length)
    if (bytes === 8) view.setBigUint64(0, value, true)
    else view.setUint32(0, Number(value), true)
  }

  writeRegion(index: number, offset: number, from: Uint8Array): void {
    const view = new DataView(from.buffer, from.byteOffset, from.length)
    if (index === vfioRegion.config) {
      this.writeConfig(offset, view)
      return
    }
    const bytes = accessOf(offset, from.length)
    if (bytes === undefined) return
    const value = bytes === 8 ? view.getBigUint64(0, true) : BigInt(view.getUint32(0, true))
    this.iommu.writeMmio(offset, bytes, value)
    this.runCommands()
    this.sendInterrupts()
  }

  mapDma(region: DmaRegion): void {
    this.ram.map(region)
  }

  unmapDma(address: bigint): void {
    this.ram.unmap(address)
  }

  unmapAllDma(): void {
    this.ram.unmapAll()
  }

  reset(): void {
    // A VMM resets functions when it starts, before software has touched them: there is nothing to put back.
  }

  /** Sends what the IOMMU has raised; to be called after whatever may have. */
  sendInterrupts(): void {
    for (let next = this.iommu.takeInterrupt(); next !== undefined; next = this.iommu.takeInterrupt()) {
      // Without an X2APIC feature there is no other kind.
      if (next.kind !== 'msi') continue
      const data = new Uint8Array(4)
      new DataView(data.buffer).setUint32(0, next.data, true)
      this.client?.writeMemory(next.address, data)
      this.watcher.interrupt()
    }
  }

  private runCommands(): void {
    for (;;) {
      const base = this.iommu.readMmio(ringRegister.base, 8) & 0xffffffffff000n
      const head = this.iommu.readMmio(ringRegister.head, 8)
      const isThere = this.ram.read(Number(base + head), this.command)
      if (!this.iommu.step()) return
      const view = new DataView(this.command.buffer)
      if (isThere) this.watcher.command([0, 4, 8, 12].map((at) => view.getUint32(at, true)))
    }
  }

  private configByte(offset: number): number {
    const inBar = offset - bar0Offset
    if (inBar >= 0 && inBar < 4) return (this.bar0 >>> (inBar * 8)) & 0xff
    const value = this.iommu.readConfig(offset, 1)
    if (offset !== commandOffset) return value
    return value | busMaster | (this.isEnabled ? memoryEnable : 0)
  }

  private writeConfig(offset: number, value: DataView): void {
    const bytes = value.byteLength
    if (bytes !== 1 && bytes !== 2 && bytes !== 4) return
    let word =
      bytes === 4 ? value.getUint32(0, true) : bytes === 2 ? value.getUint16(0, true) : value.getUint8(0)
    if (offset === bar0Offset && bytes === 4) {
      this.bar0 = (word & -iommuBarBytes) >>> 0
      return
    }
    if (offset === commandOffset) {
      const isEnabled = (word & memoryEnable) !== 0
      if (isEnabled && !this.isEnabled) this.watcher.placed(this.bar0)
      this.isEnabled = isEnabled
      word |= busMaster
    }
    this.iommu.writeConfig(offset, bytes satisfies ConfigBytes, word)
  }
}

/** An access that a register takes: 4 or 8 bytes, aligned. */
function accessOf(offset: number, bytes: number): AccessBytes | undefined {
  return (bytes === 4 || bytes === 8) && offset % bytes === 0 ? bytes : undefined
}
