/**
 * Devices of the mock IOMMU: each alone in its group, with four entries that stand in for the caches of its own.
 *
 * @packageDocumentation
 */
import type { BackendDevice, DomainNumber } from '../backend.js'
import { mockDeviceCacheDefault, mockDeviceCacheEntries, mockPasids } from './abi.js'

/** Where a device's events go, and the name that it has there. */
export interface EventSource {
  readonly viommu: number
  readonly virtualId: bigint
}

export interface MockDevice {
  readonly info: BackendDevice
  readonly isTransient: boolean
  readonly cache: Uint32Array
  /** What it is on, by PASID; 0: without one. */
  readonly domains: Map<number, DomainNumber>
  /** The vIOMMU of the nested domain that it is on: as it was when the device came from elsewhere. */
  events: EventSource | undefined
  /** Whether the next change on the failing PASID fails. */
  failsNext: boolean
}

export interface MockDeviceOptions {
  /** Whether it can be on a domain that tracks dirty pages. */
  readonly dirty: boolean
  /** Whether it has PASIDs: 2^20 of them. */
  readonly pasid: boolean
  /** Made for one owner: unplugged when that gives it back. */
  readonly isTransient?: boolean
}

export const makeDevice = (
  deviceId: number,
  { dirty, pasid, isTransient = false }: MockDeviceOptions,
): MockDevice => ({
  info: {
    deviceId,
    group: deviceId,
    iommu: 0,
    pasids: pasid ? mockPasids : 0,
    canTrackDirty: dirty,
    enforcesCoherency: false,
    hasAts: false,
    canExecutePasid: false,
    hasPrivilegedPasid: false,
    isVirtualFunctionWithPri: false,
    reserved: [],
  },
  isTransient,
  cache: new Uint32Array(mockDeviceCacheEntries).fill(mockDeviceCacheDefault),
  domains: new Map(),
  events: undefined,
  failsNext: false,
})

export const forkDevice = (device: MockDevice): MockDevice => ({
  ...device,
  cache: device.cache.slice(),
  domains: new Map(device.domains),
})

export const deviceSnapshot = ({ info, isTransient, ...state }: MockDevice): unknown => ({
  isTransient,
  pasids: info.pasids,
  canTrackDirty: info.canTrackDirty,
  cache: [...state.cache],
  domains: [...state.domains].sort(([a], [b]) => a - b),
  events: state.events,
  failsNext: state.failsNext,
})
