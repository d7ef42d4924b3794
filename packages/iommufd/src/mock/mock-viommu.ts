/**
 * vIOMMUs of the mock: the devices known by virtual IDs, two hardware queues, and two pages to be mapped.
 *
 * @packageDocumentation
 */
import { readStruct, writeStruct } from '@nestwalk/bits'
import type { DomainNumber, HwQueueRequest, Region, ViommuRequest } from '../backend.js'
import { isRefusal, refuse } from '../outcome.js'
import type { Refusal } from '../outcome.js'
import {
  mockHwQueues,
  mockViommuLayout,
  mockViommuMinBytes,
  mockViommuRegionBytes,
  mockViommuType,
} from './abi.js'

export interface MockViommu {
  readonly parent: DomainNumber
  readonly region: Region | undefined
  /** DeviceID by virtual ID. */
  readonly devices: Map<bigint, number>
  /** Queues by index, with the one that each of them needs. */
  readonly queues: Map<number, { readonly dependsOn?: number }>
}

/** Makes a vIOMMU. With data, it offers two pages that start with the caller's word. EINVAL, EFAULT for data. */
export function makeViommu({ parent, data, offerRegion }: ViommuRequest): MockViommu | Refusal {
  const region = data.length === 0 ? undefined : loopBack(data, offerRegion)
  if (isRefusal(region)) return region
  return { parent, region, devices: new Map(), queues: new Map() }
}

function loopBack(data: ViommuRequest['data'], offer: ViommuRequest['offerRegion']): Region | Refusal {
  const given = data.copyIn(mockViommuType, mockViommuMinBytes, mockViommuLayout.byteLength)
  if (isRefusal(given)) return given
  const { inData } = readStruct(mockViommuLayout, given)
  const region = { bytes: new Uint8Array(mockViommuRegionBytes) }
  new DataView(region.bytes.buffer).setUint32(0, inData, true)
  const answer = {
    outData: inData,
    outMmapOffset: offer(region),
    outMmapLength: BigInt(mockViommuRegionBytes),
  }
  return data.copyOut(writeStruct(mockViommuLayout, answer, given)) ?? region
}

/** The virtual ID by which a device is known there. */
export function virtualIdOf(viommu: MockViommu, deviceId: number): bigint | undefined {
  for (const [virtualId, known] of viommu.devices) if (known === deviceId) return virtualId
  return undefined
}

/**
 * What is wrong with a queue that is asked for: EINVAL, EEXIST, EIO.
 *
 * @param translated - where the page table of stage 2 has the queue's first byte
 */
export function refuseQueue(
  viommu: MockViommu,
  { index, physical }: HwQueueRequest,
  translated: bigint | undefined,
): Refusal | undefined {
  if (index >= mockHwQueues) return refuse('mock-queue-index', `there are queues 0 and 1, not ${index}`)
  if (viommu.queues.has(index)) return refuse('mock-queue-taken', `there is a queue ${index} already`)
  if (index > 0 && !viommu.queues.has(index - 1)) {
    return refuse('mock-queue-order', `queue ${index} needs queue ${index - 1}, which is not there`)
  }
  if (physical !== translated) {
    return refuse(
      'mock-queue-address',
      `the queue is pinned at ${physical}, but stage 2 translates to ${translated}`,
    )
  }
  return undefined
}

/** A fork's memory is its own. */
export const forkViommu = (viommu: MockViommu): MockViommu => ({
  ...viommu,
  region: viommu.region && { bytes: viommu.region.bytes.slice() },
  devices: new Map(viommu.devices),
  queues: new Map(viommu.queues),
})

export const viommuSnapshot = ({ parent, region, devices, queues }: MockViommu): unknown => ({
  parent,
  region: region && [...region.bytes],
  devices: [...devices].sort(([a], [b]) => (a < b ? -1 : 1)),
  queues: [...queues.keys()].sort(),
})
