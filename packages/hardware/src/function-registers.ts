/**
 * What software reaches of an IOMMU's function: configuration space, MMIO registers, and the interrupts that the two
 * together send.
 *
 * AMD 48882 rev 3.10, PCI function and MMIO registers. The MSI capability is in configuration space and, with
 * EFR.MsiCapMmioSup, in MMIO too.
 *
 * @packageDocumentation
 */
import { takeMessage } from './interrupt-message.js'
import type { InterruptMessage, MsiTarget } from './interrupt-message.js'
import { mmio } from './mmio.js'
import type { ConfigBytes, PciFunction } from './pci/pci-function.js'
import type { AccessBytes } from './port.js'
import type { Registers } from './registers.js'

/** See the file's comment. The machine must be active. */
export class FunctionRegisters {
  constructor(
    private readonly registers: Registers,
    private readonly pci: PciFunction,
  ) {}

  readMmio(offset: number, bytes: AccessBytes): bigint {
    if (isMsiShadow(offset)) {
      if (offset % bytes !== 0) return 0n
      return bytes === 4 ? this.half(offset) : this.half(offset) | (this.half(offset + 4) << 32n)
    }
    return offset < this.pci.mmioBytes ? this.registers.readMmio(offset, bytes) : 0n
  }

  /** True if the control register changed. */
  writeMmio(offset: number, bytes: AccessBytes, value: bigint): boolean {
    if (isMsiShadow(offset)) {
      if (offset % bytes !== 0) return false
      this.setHalf(offset, BigInt.asUintN(32, value))
      if (bytes === 8) this.setHalf(offset + 4, BigInt.asUintN(32, value >> 32n))
      this.registers.setMsiEnabled(this.pci.msiEnabled())
      return false
    }
    return offset < this.pci.mmioBytes && this.registers.writeMmio(offset, bytes, value)
  }

  readConfig(offset: number, bytes: ConfigBytes): number {
    return this.pci.readConfig(offset, bytes)
  }

  writeConfig(offset: number, bytes: ConfigBytes, value: number): void {
    this.pci.writeConfig(offset, bytes, value)
    this.registers.setMsiEnabled(this.pci.msiEnabled())
  }

  takeInterrupt(): InterruptMessage | undefined {
    return takeMessage(this.registers, () => this.msiTarget())
  }

  private msiTarget(): MsiTarget {
    const { pci } = this
    const { msiNum, msiNumPpr, msiNumGa } = pci.identity
    return {
      address: (BigInt(pci.msiAddressHi() >>> 0) << 32n) | BigInt(pci.msiAddressLo() >>> 0),
      data: pci.msiData(),
      messagesLog2: pci.msiVectorsLog2(),
      numbers: { general: msiNum, ppr: msiNumPpr, ga: msiNumGa },
    }
  }

  private half(offset: number): bigint {
    if (offset === mmio.performanceOptimization) return this.registers.readMmio(offset, 4)
    return BigInt(this.pci.readMsiShadow(offset) >>> 0)
  }

  private setHalf(offset: number, value: bigint): void {
    if (offset === mmio.performanceOptimization) this.registers.writeMmio(offset, 4, value)
    else this.pci.writeMsiShadow(offset, Number(value))
  }
}

/** The MSI registers, and the optimization control that shares a pair of words with the last of them. */
const isMsiShadow = (offset: number): boolean => offset >= mmio.msiVector0 && offset < mmio.x2ApicGeneral
