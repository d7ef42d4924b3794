/**
 * The PCI function of an IOMMU: where its registers are, and how it sends interrupts.
 *
 * AMD 48882 rev 3.10, PCI function, capability block, MSI registers in MMIO. The function has no BAR: the base of the
 * registers is in the capability block, and stays as it is from when it is enabled until reset.
 *
 * @packageDocumentation
 */
import type { Features } from '../features.js'
import { decodeEfr } from '../layout/features.js'
import type { Words } from '../memory/words.js'
import { checkIdentity, config, configBytes, defaultIdentity, layOut } from './config-space.js'
import type { ConfigLayout, PciIdentity } from './config-space.js'

/** Bytes of a configuration access. */
export type ConfigBytes = 1 | 2 | 4

export interface PciFunctionOptions extends Partial<PciIdentity> {
  readonly features: Features
}

/** MMIO offsets of the registers that show the capability, and what each shows. */
const shadows = new Map<number, number>([
  [0x150, config.misc0],
  [0x154, config.misc1],
  [0x158, config.msi],
  [0x15c, config.msiAddressLo],
  [0x160, config.msiAddressHi],
  [0x164, config.msiData],
  [0x168, config.msiMapping],
])

/** From here on the shadows need EFR.MsiCapMmioSup. */
const firstOptionalShadow = 0x158

const baseMaskLo = 0xffffc000
const vfBarMaskLo = 0xf0000000
const vfControlBarMaskLo = 0xffc00000

/** What all forks of a function share. */
interface Shared {
  readonly layout: ConfigLayout
  readonly identity: PciIdentity
  readonly hasMsiShadows: boolean
  /** Bytes of the MMIO region. */
  readonly mmioBytes: number
}

/** See the file's comment. */
export class PciFunction {
  private constructor(
    private readonly words: Words,
    private readonly keySpace: number,
    private readonly first: number,
    private readonly shared: Shared,
  ) {}

  /** @throws RangeError naming the option that does not fit and its limits */
  static create(words: Words, { features, ...options }: PciFunctionOptions): PciFunction {
    const identity = { ...defaultIdentity, ...options }
    checkIdentity(identity)
    const efr = decodeEfr(features.efr)
    const shared = {
      layout: layOut(identity, efr, features.efr !== 0n),
      identity,
      hasMsiShadows: efr.msiCapMmioSup,
      mmioBytes: efr.pcSup ? 0x80000 : 0x4000,
    }
    const pci = new PciFunction(words, words.newKeySpace(), words.allocate(configBytes / 4), shared)
    pci.reset()
    return pci
  }

  forkOnto(words: Words): PciFunction {
    return new PciFunction(words, this.keySpace, this.first, this.shared)
  }

  /** Puts every register to its value after reset, and unlocks the base. */
  reset(): void {
    this.words.activate()
    this.shared.layout.reset.forEach((value, index) => this.store(index, value))
  }

  /** What software reads. Unsigned; 0 where nothing is, and for an access that is not aligned. */
  readConfig(offset: number, bytes: ConfigBytes): number {
    if (!isAccess(offset, bytes)) return 0
    return ((this.load(offset & ~3) >>> laneOf(offset)) & maskOf(bytes)) >>> 0
  }

  /** A write of software; an access that is not aligned, or where nothing can be written, changes nothing. */
  writeConfig(offset: number, bytes: ConfigBytes, value: number): void {
    if (!isAccess(offset, bytes)) return
    const lane = laneOf(offset)
    this.write(offset & ~3, value << lane, maskOf(bytes) << lane)
  }

  /** MMIO 150h to 168h, 32 bits each. Unsigned; 0 for another offset, or without EFR.MsiCapMmioSup where that is needed. */
  readMsiShadow(offset: number): number {
    const shown = this.shownAt(offset)
    return shown < 0 ? 0 : this.load(shown) >>> 0
  }

  /** A write to MMIO 150h to 168h: as one to the register that is shown. */
  writeMsiShadow(offset: number, value: number): void {
    const shown = this.shownAt(offset)
    if (shown >= 0) this.write(shown, value, -1)
  }

  /** The registers answer at {@link mmioBase}, and the base is locked. */
  isEnabled(): boolean {
    return (this.load(config.baseLo) & 1) !== 0
  }

  /** Address of the registers, whether enabled or not. */
  mmioBase(): bigint {
    return this.address(config.baseLo, baseMaskLo)
  }

  /** Bytes of the registers: 16 KiB, or 512 KiB with performance counters. */
  get mmioBytes(): number {
    return this.shared.mmioBytes
  }

  /** What the function reports; also its DeviceID and its MSI numbers. */
  get identity(): PciIdentity {
    return this.shared.identity
  }

  isBusMaster(): boolean {
    return (this.load(config.command) & (1 << 2)) !== 0
  }

  msiEnabled(): boolean {
    return (this.load(config.msi) & (1 << 16)) !== 0
  }

  /** int32; bits 1:0 are 0. */
  msiAddressLo(): number {
    return this.load(config.msiAddressLo)
  }

  /** int32. */
  msiAddressHi(): number {
    return this.load(config.msiAddressHi)
  }

  /** 16 bits. Message n of 2^k has n in the lowest k bits instead, with k = {@link msiVectorsLog2}. */
  msiData(): number {
    return this.load(config.msiData)
  }

  /** log2 of the messages that software allows: MultMessEn, never above MultMessCap. */
  msiVectorsLog2(): number {
    return (this.load(config.msi) >>> 20) & 7
  }

  /** The VF BAR: 256 MiB of registers for guests. Null while it is off, and without EFR.vIommuSup. */
  vfBase(): bigint | null {
    return (this.load(config.vfBarLo) & 1) === 0 ? null : this.address(config.vfBarLo, vfBarMaskLo)
  }

  /** The VFCtrl BAR: 4 MiB of registers that control guests. Null while it is off, and without EFR.vIommuSup. */
  vfControlBase(): bigint | null {
    const isOn = (this.load(config.vfControlBarLo) & 1) !== 0
    return isOn ? this.address(config.vfControlBarLo, vfControlBarMaskLo) : null
  }

  private address(offset: number, maskLo: number): bigint {
    return (BigInt(this.load(offset + 4) >>> 0) << 32n) | BigInt((this.load(offset) & maskLo) >>> 0)
  }

  private shownAt(offset: number): number {
    if (offset >= firstOptionalShadow && !this.shared.hasMsiShadows) return -1
    return shadows.get(offset) ?? -1
  }

  /** The double word at an offset that is a multiple of 4. */
  private load(offset: number): number {
    return Number(this.words.activate()[this.first + (offset >>> 2)])
  }

  private store(index: number, value: number): void {
    this.words.writeKeyed(this.first + index, value, index, this.keySpace)
  }

  /** Writes those bits of a double word that are in `lanes` and can be written. */
  private write(offset: number, value: number, lanes: number): void {
    if ((offset === config.baseLo || offset === config.baseHi) && this.isEnabled()) return
    const mask = Number(this.shared.layout.writable[offset >>> 2]) & lanes
    let next = (this.load(offset) & ~mask) | (value & mask)
    if (offset === config.msi) next = this.withLegalMessages(next)
    this.store(offset >>> 2, next)
  }

  /** More messages than the function can send are as many as it can. */
  private withLegalMessages(header: number): number {
    const wanted = (header >>> 20) & 7
    const most = this.shared.identity.msiMessagesLog2
    return wanted > most ? (header & ~(7 << 20)) | (most << 20) : header
  }
}

const isAccess = (offset: number, bytes: ConfigBytes): boolean =>
  offset >= 0 && offset < configBytes && offset % bytes === 0

const laneOf = (offset: number): number => (offset & 3) * 8

/** Low bits of an access; all of them for 4 bytes. */
const maskOf = (bytes: ConfigBytes): number => (bytes === 4 ? -1 : (1 << (bytes * 8)) - 1)
