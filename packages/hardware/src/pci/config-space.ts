/**
 * The configuration space of the IOMMU's PCI function after reset, and the bits of it that software can write.
 *
 * AMD 48882 rev 3.10, PCI function and capability block; the capabilities lie where shipping parts have them.
 *
 * @packageDocumentation
 */
import type { Efr } from '../layout/features.js'

export const configBytes = 256

/** Offsets in bytes. */
export const config = {
  id: 0x00,
  command: 0x04,
  classCode: 0x08,
  subsystem: 0x2c,
  capabilityPointer: 0x34,
  iommu: 0x40,
  baseLo: 0x44,
  baseHi: 0x48,
  range: 0x4c,
  misc0: 0x50,
  misc1: 0x54,
  msi: 0x64,
  msiAddressLo: 0x68,
  msiAddressHi: 0x6c,
  msiData: 0x70,
  msiMapping: 0x74,
  vendor: 0x80,
  vendorInfo: 0x84,
  vfBarLo: 0x88,
  vfBarHi: 0x8c,
  vfControlBarLo: 0x90,
  vfControlBarHi: 0x94,
} as const

/** Capability IDs. */
const capability = { msi: 0x05, hyperTransport: 0x08, vendor: 0x09, iommu: 0x0f } as const

/** Devices behind the IOMMU on one bus, for the Range register. Device 31:3 and function 2:0 in a byte. */
export interface PciRange {
  readonly bus: number
  readonly firstDevice: number
  readonly lastDevice: number
}

/** What the function reports besides the features. */
export interface PciIdentity {
  readonly vendorId: number
  readonly productId: number
  readonly revisionId: number
  readonly subsystemVendorId: number
  readonly subsystemId: number
  /** The DeviceID under which the function sends its interrupts and reads its tables. */
  readonly iommuDeviceId: number
  /** HyperTransport unit. */
  readonly unitId: number
  /** Null: RngValid is 0. */
  readonly range: PciRange | null
  /** The IOMMU supports IOTLBs in devices (ATS). */
  readonly iotlbSup: boolean
  readonly htTunnel: boolean
  /** Not-present entries may be cached. False for silicon. */
  readonly npCache: boolean
  readonly htAtsResv: boolean
  /** Bits of a physical address. */
  readonly physicalBits: number
  /** Bits of a virtual address. */
  readonly virtualBits: number
  /** Code of the width of guest virtual addresses; 2 is 48 bits. */
  readonly guestVirtualSize: number
  /** MSI message of the event log and of COMPLETION_WAIT. */
  readonly msiNum: number
  /** MSI message of the PPR log. */
  readonly msiNumPpr: number
  /** MSI message of the GA log. */
  readonly msiNumGa: number
  /** log2 of the MSI messages that the function can send: MultMessCap, 0 to 5. */
  readonly msiMessagesLog2: number
  /** Older parts have an MSI-mapping capability. */
  readonly hasMsiMapping: boolean
  /** VSC_ID of the vendor-specific capability, which is there with EFR.vIommuSup. */
  readonly vendorCapabilityId: number
  /** VSC_Rev of the same. */
  readonly vendorCapabilityRevision: number
}

export const defaultIdentity: PciIdentity = {
  vendorId: 0x1022,
  productId: 0x1481,
  revisionId: 0,
  subsystemVendorId: 0x1022,
  subsystemId: 0x1481,
  iommuDeviceId: 0x0002,
  unitId: 0,
  range: null,
  iotlbSup: true,
  htTunnel: false,
  npCache: false,
  htAtsResv: false,
  physicalBits: 48,
  virtualBits: 64,
  guestVirtualSize: 2,
  msiNum: 0,
  msiNumPpr: 0,
  msiNumGa: 0,
  msiMessagesLog2: 2,
  hasMsiMapping: true,
  vendorCapabilityId: 0,
  vendorCapabilityRevision: 0,
}

/** Largest value of each number of the identity. */
const limits = {
  vendorId: 0xffff,
  productId: 0xffff,
  revisionId: 0xff,
  subsystemVendorId: 0xffff,
  subsystemId: 0xffff,
  iommuDeviceId: 0xffff,
  unitId: 31,
  physicalBits: 52,
  virtualBits: 64,
  guestVirtualSize: 7,
  msiMessagesLog2: 5,
  vendorCapabilityId: 0xffff,
  vendorCapabilityRevision: 0xff,
} as const satisfies Partial<Record<keyof PciIdentity, number>>

function checkField(name: string, value: number, last: number): void {
  if (!Number.isInteger(value) || value < 0 || value > last) {
    throw new RangeError(`${name} cannot be ${value}: it takes 0 to ${last}`)
  }
}

/** @throws RangeError naming the field that does not fit and its limits */
export function checkIdentity(identity: PciIdentity): void {
  for (const [name, last] of Object.entries(limits)) {
    checkField(name, identity[name as keyof typeof limits], last)
  }
  const lastMessage = (1 << identity.msiMessagesLog2) - 1
  for (const name of ['msiNum', 'msiNumPpr', 'msiNumGa'] as const) {
    checkField(name, identity[name], lastMessage)
  }
  if (identity.range === null) return
  for (const name of ['bus', 'firstDevice', 'lastDevice'] as const) {
    checkField(`range.${name}`, identity.range[name], 0xff)
  }
}

/** The configuration space: a value and a mask for each of its 64 double words. */
export interface ConfigLayout {
  /** After reset. */
  readonly reset: Int32Array
  /** 1 for each bit that a write can change. */
  readonly writable: Int32Array
}

/** Lays out the function. The identity must be in range. */
export function layOut(identity: PciIdentity, efr: Efr, hasEfr: boolean): ConfigLayout {
  const reset = new Int32Array(configBytes / 4)
  const writable = new Int32Array(configBytes / 4)
  const put = (offset: number, value: number, mask = 0): void => {
    reset[offset >>> 2] = value
    writable[offset >>> 2] = mask
  }
  // Where each capability lies, in the order of the list; `next` links them.
  const chain: number[] = [config.iommu, config.msi]
  if (identity.hasMsiMapping) chain.push(config.msiMapping)
  if (efr.vIommuSup) chain.push(config.vendor)
  const next = (offset: number): number => (chain[chain.indexOf(offset) + 1] ?? 0) << 8

  put(config.id, (identity.productId << 16) | identity.vendorId)
  // Bus Master and INTx Disable are writable; the status says that there is a list of capabilities.
  put(config.command, 1 << 20, (1 << 2) | (1 << 10))
  put(config.classCode, (0x080600 << 8) | identity.revisionId)
  put(config.subsystem, (identity.subsystemId << 16) | identity.subsystemVendorId)
  put(config.capabilityPointer, config.iommu)

  put(config.iommu, capability.iommu | next(config.iommu) | capabilityFlags(identity, hasEfr))
  put(config.baseLo, 0, efr.pcSup ? 0xfff80001 : 0xffffc001)
  put(config.baseHi, 0, -1)
  put(config.range, rangeOf(identity))
  put(config.misc0, misc0Of(identity))
  put(config.misc1, identity.msiNumGa)

  // MsiEn and MultMessEn are writable; addresses have 64 bits.
  const messages = identity.msiMessagesLog2 << 17
  put(config.msi, capability.msi | next(config.msi) | messages | (1 << 23), (1 << 16) | (7 << 20))
  put(config.msiAddressLo, 0, -4)
  put(config.msiAddressHi, 0, -1)
  put(config.msiData, 0, 0xffff)

  if (identity.hasMsiMapping) {
    // MSI mapping (type 15h), at the fixed address, on after reset.
    const mapping = (0x15 << 27) | (1 << 17) | (1 << 16)
    put(config.msiMapping, capability.hyperTransport | next(config.msiMapping) | mapping, 1 << 16)
  }
  if (efr.vIommuSup) {
    const { vendorCapabilityId, vendorCapabilityRevision } = identity
    put(config.vendor, capability.vendor | next(config.vendor) | (vendorCapabilityBytes << 16))
    put(config.vendorInfo, (vendorCapabilityRevision << 16) | vendorCapabilityId)
    put(config.vfBarLo, 0, 0xf0000001)
    put(config.vfBarHi, 0, -1)
    put(config.vfControlBarLo, 0, 0xffc00001)
    put(config.vfControlBarHi, 0, -1)
  }
  return { reset, writable }
}

const vendorCapabilityBytes = 24

/** Type 3, revision 1, and what the IOMMU supports; CapExt as there is Misc 1. */
const capabilityFlags = (identity: PciIdentity, hasEfr: boolean): number =>
  (3 << 16) |
  (1 << 19) |
  (identity.iotlbSup ? 1 << 24 : 0) |
  (identity.htTunnel ? 1 << 25 : 0) |
  (identity.npCache ? 1 << 26 : 0) |
  (hasEfr ? 1 << 27 : 0) |
  (1 << 28)

function rangeOf({ unitId, range }: PciIdentity): number {
  if (range === null) return unitId
  return unitId | (1 << 7) | (range.bus << 8) | (range.firstDevice << 16) | (range.lastDevice << 24)
}

const misc0Of = (identity: PciIdentity): number =>
  identity.msiNum |
  (identity.guestVirtualSize << 5) |
  (identity.physicalBits << 8) |
  (identity.virtualBits << 15) |
  (identity.htAtsResv ? 1 << 22 : 0) |
  (identity.msiNumPpr << 27)
