/**
 * Devices behind the driver's IOMMUs: what they are, and what they are set to at the moment.
 *
 * @packageDocumentation
 */
import type { Domain, DomainNumber } from './domain.js'

/** What a device is and can do; it never changes. */
export interface DeviceTraits {
  /**
   * Other DeviceIDs that its requests may carry, for there is a bridge in between or the platform says so; each has an
   * entry of its own in the device table, which is kept equal.
   */
  readonly aliases: readonly number[]
  /** Invalidations of its TLB that it can take at once, 1 to 32; 0: it has no TLB (no ATS). */
  readonly atsQueueDepth: number
  /** PASIDs that it can use; 0: none. */
  readonly maxPasids: number
  /** Whether it can ask for pages (PRI). */
  readonly pageRequests: boolean
  /** Whether it is outside of the machine, where anybody may change it. */
  readonly isUntrusted: boolean
  /** Bits that the platform wants in its entry whatever it is on: four quad-words, lowest first (IVHD settings). */
  readonly persistentBits: readonly bigint[]
}

const plainDevice: DeviceTraits = {
  aliases: [],
  atsQueueDepth: 0,
  maxPasids: 0,
  pageRequests: false,
  isUntrusted: false,
  persistentBits: [0n, 0n, 0n, 0n],
}

/** What the driver turns on in a device itself. */
export type DeviceFeature = 'ats' | 'pasid' | 'pri'

/** See the file's comment. */
export interface Device extends DeviceTraits {
  readonly deviceId: number
  /** IOMMU group. */
  readonly group: number
  /** Index of the IOMMU that it is behind. */
  readonly iommu: number
  /** What its entry stands for; after an attach that did nothing (gap U6) what it was to stand for. */
  readonly domain: Domain
  /** Key of the tag in its entry; absent while it is blocked. */
  readonly tagKey: string | undefined
  /** The host's GCR3 table that its entry names. */
  readonly gcr3: number | undefined
  /** Processes that it may use, by PASID. */
  readonly processes: ReadonlyMap<number, DomainNumber>
  /** What is turned on in it. */
  readonly features: ReadonlySet<DeviceFeature>
  /**
   * The paging domain on whose list it is: its own, or its nest parent. Under gap U3 what Linux believes, which may be
   * something else.
   */
  readonly recorded: DomainNumber | undefined
  /** What it will be on again after its reset; absent outside one. */
  readonly parked: Parked | undefined
}

/** What a device was on when its reset began. */
export interface Parked {
  readonly domain: Domain
  readonly processes: ReadonlyMap<number, DomainNumber>
  readonly features: ReadonlySet<DeviceFeature>
}

/** One map for all devices that have none, see map-change.ts. */
export const noProcesses: ReadonlyMap<number, DomainNumber> = new Map()

/** A device that has just been found: blocked, everything off. */
export const foundDevice = (
  place: Pick<Device, 'deviceId' | 'group' | 'iommu'>,
  traits: Partial<DeviceTraits>,
  domain: Domain,
): Device => ({
  ...plainDevice,
  ...traits,
  ...place,
  domain,
  tagKey: undefined,
  gcr3: undefined,
  processes: noProcesses,
  features: new Set(),
  recorded: undefined,
  parked: undefined,
})

/** Whether hardware may take the requests of one for those of the other. */
export const shareDeviceId = (a: Device, b: Device): boolean => {
  // Most have none, and they are many.
  if (a.aliases.length === 0 && b.aliases.length === 0) return a.deviceId === b.deviceId
  const ids = [a.deviceId, ...a.aliases]
  return [b.deviceId, ...b.aliases].some((id) => ids.includes(id))
}
