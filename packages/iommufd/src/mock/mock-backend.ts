/**
 * The mock IOMMU of the kernel's selftests: devices that come and go, page tables that nobody walks, and caches that
 * are four words each.
 *
 * Linux drivers/iommu/iommufd/selftest.c. All mock devices are behind one IOMMU, each alone in its group.
 *
 * @packageDocumentation
 */
import { writeStruct } from '@nestwalk/bits'
import type {
  BackendDevice,
  BackendViommu,
  DomainNumber,
  HwQueueRequest,
  Invalidated,
  IommuBackend,
  PageResponse,
  PagingDomain,
  Region,
  Report,
  UserData,
  UserDataArray,
  ViommuRequest,
} from '../backend.js'
import { pageBytes } from '../process.js'
import type { PhysicalRun } from '../process.js'
import { accept, isRefusal, refuse } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import {
  mockHwInfoLayout,
  mockHwInfoType,
  mockHwQueueType,
  mockRegisterValue,
  mockViommuType,
} from './abi.js'
import { putOn, refuseAttach, refusePasid, takeOff } from './mock-attach.js'
import type { AttachTarget } from './mock-attach.js'
import { deviceSnapshot, forkDevice, makeDevice } from './mock-device.js'
import type { EventSource, MockDevice, MockDeviceOptions } from './mock-device.js'
import { domainSnapshot, forkDomain, makeNested, makePaging } from './mock-domain.js'
import type { MockNested } from './mock-domain.js'
import { MockDomains, done } from './mock-domains.js'
import { invalidateDeviceCaches, invalidateIotlb } from './mock-invalidation.js'
import { forkViommu, makeViommu, refuseQueue, viommuSnapshot } from './mock-viommu.js'
import type { MockViommu } from './mock-viommu.js'
import { Numbered } from './numbered.js'

interface HwptRequest {
  readonly flags: number
  readonly data: UserData
}

const firstBufferAddress = 1n << 51n

/** See the file's comment. Devices, domains and vIOMMUs have numbers from 1. */
export class MockBackend extends MockDomains implements IommuBackend {
  readonly name = 'mock'
  readonly nestsOnParent = true
  readonly hasGuestPasidTables = true
  #devices = new Numbered<MockDevice>('mock device')
  #viommus = new Numbered<MockViommu>('mock vIOMMU')
  /** Pages that buffers have been given. */
  #bufferPages = 0

  /** A second one that goes its own way. Throws inside a transaction. */
  fork(): MockBackend {
    if (this.journal.isOpen) throw new Error('a mock IOMMU cannot be forked in the middle of a transaction')
    const copy = new MockBackend()
    copy.#devices = this.#devices.fork(forkDevice)
    copy.domains = this.domains.fork(forkDomain)
    copy.#viommus = this.#viommus.fork(forkViommu)
    copy.#bufferPages = this.#bufferPages
    return copy
  }

  /** All of it as plain objects in a fixed order, for fingerprints. */
  snapshot(): unknown {
    return {
      devices: this.#devices.snapshot(deviceSnapshot),
      domains: this.domains.snapshot(domainSnapshot),
      viommus: this.#viommus.snapshot(viommuSnapshot),
      bufferPages: this.#bufferPages,
    }
  }

  /** Plugs a new device in; returns its DeviceID. */
  addDevice(options: MockDeviceOptions): number {
    const deviceId = this.#devices.nextNumber
    this.#devices.add(deviceId, makeDevice(deviceId, options), this.journal)
    return deviceId
  }

  /** Unplugs a device that is on no domain. */
  removeDevice(deviceId: number): void {
    this.#devices.remove(deviceId, this.journal)
  }

  /** The four words that stand in for a device's caches. */
  deviceCache(deviceId: number): Uint32Array {
    return this.#devices.get(deviceId).cache.slice()
  }

  /** Memory for a buffer that the mock exports, in one piece. It lies above all other memory, and is never given twice. */
  bufferMemory(pages: number): PhysicalRun {
    const first = firstBufferAddress + BigInt(this.#bufferPages) * BigInt(pageBytes)
    this.#bufferPages += pages
    return { first, pages }
  }

  /** Where events of a device go: to the vIOMMU of the nested domain that it is on. */
  eventSource(deviceId: number): EventSource | undefined {
    return this.#devices.get(deviceId).events
  }

  device(deviceId: number): BackendDevice | undefined {
    return this.#devices.find(deviceId)?.info
  }

  groupMembers(group: number): readonly number[] {
    return this.#devices.find(group) === undefined ? [] : [group]
  }

  /** A mock device that no HWPT is for is blocked, whoever owns it. */
  claimGroup(_group: number): Outcome<undefined> {
    return done
  }

  releaseGroup(group: number): Outcome<undefined> {
    if (this.#devices.get(group).isTransient) this.removeDevice(group)
    return done
  }

  hwInfo(
    _device: BackendDevice,
    type: number,
  ): Outcome<{ readonly type: number; readonly bytes: Uint8Array }> {
    if (type !== 0 && type !== mockHwInfoType) {
      return refuse('mock-hw-info-type', `the mock driver has no description of type ${type}`)
    }
    const bytes = writeStruct(mockHwInfoLayout, { flags: 0, testRegister: mockRegisterValue })
    return accept({ type: mockHwInfoType, bytes })
  }

  allocatePaging(device: BackendDevice, request: HwptRequest): Outcome<PagingDomain> {
    const domain = makePaging(this.domains.nextNumber, device, request)
    if (isRefusal(domain)) return domain
    this.domains.add(domain.paging.number, domain, this.journal)
    return accept(domain.paging)
  }

  allocateNestedOnParent(
    _device: BackendDevice,
    parent: DomainNumber,
    request: HwptRequest,
  ): Outcome<DomainNumber> {
    return this.#addNested(makeNested(this.paging(parent).paging.number, undefined, request))
  }

  allocateNestedOnViommu(viommu: number, request: HwptRequest): Outcome<DomainNumber> {
    return this.#addNested(makeNested(this.#viommus.get(viommu).parent, viommu, request))
  }

  attach(deviceIds: readonly number[], pasid: number, domain: DomainNumber): Outcome<undefined> {
    const target = this.#target(domain)
    const devices = deviceIds.map((deviceId) => this.#devices.get(deviceId))
    for (const device of devices) {
      const refused = pasid === 0 ? refuseAttach(device, target) : refusePasid(device, pasid)
      if (refused) return refused
    }
    for (const device of devices) putOn(device, pasid, target, this.journal)
    return done
  }

  detach(deviceIds: readonly number[], pasid: number): Outcome<undefined> {
    for (const deviceId of deviceIds) takeOff(this.#devices.get(deviceId), pasid, this.journal)
    return done
  }

  hasViommu(_device: BackendDevice, type: number): boolean {
    return type === mockViommuType
  }

  createViommu(request: ViommuRequest): Outcome<BackendViommu> {
    const viommu = makeViommu(request)
    if (isRefusal(viommu)) return viommu
    const number = this.#viommus.nextNumber
    this.#viommus.add(number, viommu, this.journal)
    return accept(viommu.region === undefined ? { number } : { number, region: viommu.region })
  }

  regionOf(viommu: number): Region | undefined {
    return this.#viommus.get(viommu).region
  }

  destroyViommu(viommu: number): Outcome<undefined> {
    this.#viommus.remove(viommu, this.journal)
    return done
  }

  addVdevice(viommu: number, device: BackendDevice, virtualId: bigint): Outcome<undefined> {
    this.journal.set(this.#viommus.get(viommu).devices, virtualId, device.deviceId)
    return done
  }

  removeVdevice(viommu: number, _device: BackendDevice, virtualId: bigint): Outcome<undefined> {
    this.journal.delete(this.#viommus.get(viommu).devices, virtualId)
    return done
  }

  invalidateNested(domain: DomainNumber, array: UserDataArray): Outcome<Invalidated> {
    const { iotlb } = this.nested(domain)
    this.keepForUndo(iotlb)
    return accept(invalidateIotlb(iotlb, array))
  }

  invalidateViommu(viommu: number, array: UserDataArray): Outcome<Invalidated> {
    const { devices } = this.#viommus.get(viommu)
    const cacheOf = (virtualId: bigint): Uint32Array | undefined => {
      const deviceId = devices.get(virtualId)
      if (deviceId === undefined) return undefined
      const { cache } = this.#devices.get(deviceId)
      this.keepForUndo(cache)
      return cache
    }
    return accept(invalidateDeviceCaches(cacheOf, array))
  }

  hasHwQueue(_viommu: number, type: number): boolean {
    return type === mockHwQueueType
  }

  createHwQueue(request: HwQueueRequest): Outcome<{ readonly dependsOn?: number }> {
    const viommu = this.#viommus.get(request.viommu)
    const refused = refuseQueue(viommu, request, this.translate(viommu.parent, request.iova))
    if (refused) return refused
    const dependency = request.index === 0 ? {} : { dependsOn: request.index - 1 }
    this.journal.set(viommu.queues, request.index, dependency)
    return accept(dependency)
  }

  destroyHwQueue(viommu: number, index: number): Outcome<undefined> {
    this.journal.delete(this.#viommus.get(viommu).queues, index)
    return done
  }

  /** The test command reports for the devices, and wants to know at once what became of it. */
  takeReports(): Outcome<readonly Report[]> {
    return accept([])
  }

  /** Nobody waits for the answer. */
  respond(_device: BackendDevice, _response: PageResponse): Outcome<undefined> {
    return done
  }

  #addNested(domain: MockNested | Refusal): Outcome<DomainNumber> {
    if (isRefusal(domain)) return domain
    const number = this.domains.nextNumber
    this.domains.add(number, domain, this.journal)
    return accept(number)
  }

  #target(number: DomainNumber): AttachTarget {
    const domain = this.domains.get(number)
    const viommu =
      domain.kind === 'nested' && domain.viommu !== undefined ? this.#viommus.get(domain.viommu) : undefined
    return { number, domain, viommu }
  }
}
