/**
 * iommufd over AMD IOMMUs: the driver's operations, as Linux's AMD driver offers them.
 *
 * Linux 7.3 drivers/iommu/amd/iommu.c, iommufd.c and nested.c. There a vIOMMU can be made and devices be named in it, but
 * nothing comes of it: nested HWPTs, invalidations and events are not wired. With `extensions` they are, by numbers and
 * structures of our own: docs/iommufd-extensions.md.
 *
 * @packageDocumentation
 */
import { iova as asIova, readStruct, writeStruct } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'
import { InternalError } from '@nestwalk/driver'
import type { Driver } from '@nestwalk/driver'
import type {
  AddressRange,
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
import { accept, isRefusal, refuse } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import {
  amdCommandQueueType,
  amdGuestDataType,
  amdGuestLayout,
  amdHwInfoLayout,
  amdHwInfoType,
  amdViommuType,
} from './abi.js'
import {
  attachDevices,
  attachPasid,
  claimGroup,
  detachDevices,
  detachPasid,
  membersOf,
  releaseGroup,
  together,
} from './amd-attachment.js'
import { describeDevice } from './amd-device.js'
import { allocateTable, describeTable } from './amd-domain.js'
import type { DefaultTable } from './amd-domain.js'
import { CommandQueues } from './command-queues.js'
import { invalidateByCommands } from './guest-commands.js'
import { answerDevice, takeFromAll } from './guest-reports.js'
import type { TakenReports } from './guest-reports.js'

export interface AmdBackendOptions {
  /** What Linux 7.3 has not wired: nested HWPTs, guest commands and events, tables behind PASIDs. Default: as Linux. */
  readonly extensions?: boolean
  /** The table of a HWPT without flags. Default: a host (v1) table. */
  readonly defaultTable?: DefaultTable
}

interface HwptRequest {
  readonly flags: number
  readonly data: UserData
}

/** See the file's comment. All that changes is in the driver, but for hardware queues. */
export class AmdBackend implements IommuBackend {
  readonly name = 'AMD'
  /** Nesting goes through a vIOMMU. */
  readonly nestsOnParent = false

  private constructor(
    private readonly driver: Driver,
    private readonly options: Required<AmdBackendOptions>,
    private readonly queues: CommandQueues,
  ) {}

  static create(driver: Driver, options: AmdBackendOptions = {}): AmdBackend {
    return new AmdBackend(
      driver,
      { extensions: false, defaultTable: 'host', ...options },
      CommandQueues.create(),
    )
  }

  get hasGuestPasidTables(): boolean {
    return this.options.extensions
  }

  device(deviceId: number): BackendDevice | undefined {
    const device = this.driver.device(deviceId)
    return device && describeDevice(this.driver, device)
  }

  groupMembers(group: number): readonly number[] {
    return membersOf(this.driver, group)
  }

  /** EINVAL too if firmware wants one of its devices to reach memory at all times. */
  claimGroup(group: number): Outcome<undefined> {
    return claimGroup(this.driver, group)
  }

  releaseGroup(group: number): Outcome<undefined> {
    return releaseGroup(this.driver, group)
  }

  transaction<T>(operations: () => T | Refusal): Outcome<T> {
    const before = this.queues.places
    const outcome = together(this.driver, operations)
    if (!outcome.ok) this.queues.places = before
    return outcome
  }

  hwInfo(
    { iommu }: BackendDevice,
    type: number,
  ): Outcome<{ readonly type: number; readonly bytes: Uint8Array }> {
    if (type !== 0 && type !== amdHwInfoType)
      return refuse('amd-hw-info-type', `hardware information of type ${type} is not AMD's`)
    const bytes = writeStruct(amdHwInfoLayout, this.driver.featureRegisters(iommu))
    return accept({ type: amdHwInfoType, bytes })
  }

  allocatePaging(device: BackendDevice, { flags, data }: HwptRequest): Outcome<PagingDomain> {
    const { defaultTable } = this.options
    const made = allocateTable(this.driver, device, { flags, data, defaultTable })
    return made.ok ? accept(describeTable(this.driver, made.value), made.effects) : made
  }

  allocateNestedOnParent(): never {
    throw new InternalError('on AMD a nested HWPT is made on a vIOMMU')
  }

  /** EOPNOTSUPP in Linux 7.3. */
  allocateNestedOnViommu(viommu: number, { data }: HwptRequest): Outcome<DomainNumber> {
    if (!this.options.extensions)
      return refuse('amd-nested-unwired', 'the AMD driver of Linux 7.3 makes no nested HWPT')
    if (data.type !== amdGuestDataType)
      return refuse('amd-nested-data-type', `driver data of type ${data.type} is no guest device table entry`)
    const { byteLength } = amdGuestLayout
    const bytes = data.copyIn(amdGuestDataType, byteLength, byteLength)
    if (isRefusal(bytes)) return bytes
    return this.driver.allocateNested(viommu, [...readStruct(amdGuestLayout, bytes).dte])
  }

  freeDomain(domain: DomainNumber): Outcome<undefined> {
    return this.driver.freeDomain(domain)
  }

  map(
    domain: DomainNumber,
    iova: bigint,
    physical: bigint,
    length: bigint,
    rights: { readonly read: boolean; readonly write: boolean },
    largestPage?: bigint,
  ): Outcome<undefined> {
    if (!rights.read && !rights.write)
      return refuse('amd-map-rights', `nobody may read or write what is mapped at 0x${iova.toString(16)}`)
    const limit = largestPage === undefined ? {} : { largestLog2: largestPage.toString(2).length - 1 }
    // The driver refuses a target of more than 52 bits.
    return this.driver.map(domain, asIova(iova), physical as Spa, length, { ...rights, ...limit })
  }

  unmap(domain: DomainNumber, iova: bigint, length: bigint): Outcome<bigint> {
    return this.driver.unmap(domain, asIova(iova), length)
  }

  translate(domain: DomainNumber, iova: bigint): bigint | undefined {
    return this.driver.translate(domain, asIova(iova))
  }

  pageAt(domain: DomainNumber, iova: bigint): AddressRange | undefined {
    return this.driver.pageAt(domain, asIova(iova))
  }

  setDirtyTracking(domain: DomainNumber, isOn: boolean): Outcome<undefined> {
    return this.driver.setDirtyTracking(domain, isOn)
  }

  readDirty(domain: DomainNumber, range: AddressRange, clears: boolean): Outcome<readonly AddressRange[]> {
    return this.driver.readDirty(domain, range, { clears })
  }

  attach(
    deviceIds: readonly number[],
    pasid: number,
    domain: DomainNumber,
    from: DomainNumber | undefined,
  ): Outcome<undefined> {
    if (pasid === 0) return attachDevices(this.driver, deviceIds, domain)
    if (!this.options.extensions)
      return refuse('amd-pasid-attach', 'the AMD driver of Linux 7.3 has only processes behind PASIDs')
    return attachPasid(this.driver, deviceIds, pasid, domain, from)
  }

  detach(deviceIds: readonly number[], pasid: number): Outcome<undefined> {
    return pasid === 0 ? detachDevices(this.driver, deviceIds) : detachPasid(this.driver, deviceIds, pasid)
  }

  /** Linux 7.3 does not look at the type. */
  hasViommu(_device: BackendDevice, type: number): boolean {
    return !this.options.extensions || type === amdViommuType
  }

  createViommu(request: ViommuRequest): Outcome<BackendViommu> {
    return this.transaction<BackendViommu>(() => {
      const made = this.driver.createViommu(request.parent, request.device.iommu)
      if (!made.ok) return made
      const region = this.options.extensions ? this.queues.addViommu(made.value, request) : undefined
      if (isRefusal(region)) return region
      return { number: made.value, ...(region && { region }) }
    })
  }

  destroyViommu(viommu: number): Outcome<undefined> {
    const done = this.driver.destroyViommu(viommu)
    if (done.ok) this.queues.removeViommu(viommu)
    return done
  }

  /** In Linux 7.3 the driver hears nothing of it. */
  addVdevice(viommu: number, { deviceId }: BackendDevice, virtualId: bigint): Outcome<undefined> {
    if (!this.options.extensions) return accept(undefined)
    return this.driver.nameDevice(viommu, Number(virtualId), deviceId)
  }

  removeVdevice(viommu: number, _device: BackendDevice, virtualId: bigint): Outcome<undefined> {
    if (!this.options.extensions) return accept(undefined)
    return this.driver.forgetName(viommu, Number(virtualId))
  }

  invalidateNested(): Outcome<Invalidated> {
    return refuse('amd-invalidate-nested', 'on AMD a guest invalidates through its vIOMMU')
  }

  /** EOPNOTSUPP in Linux 7.3. */
  invalidateViommu(viommu: number, array: UserDataArray): Outcome<Invalidated> {
    if (!this.options.extensions)
      return refuse('amd-invalidate-unwired', 'the AMD driver of Linux 7.3 takes no invalidations')
    return invalidateByCommands(this.driver, viommu, array)
  }

  hasHwQueue(_viommu: number, type: number): boolean {
    return this.options.extensions && type === amdCommandQueueType
  }

  createHwQueue(request: HwQueueRequest): Outcome<{ readonly dependsOn?: number }> {
    return this.queues.start(request) ?? accept({})
  }

  destroyHwQueue(viommu: number): Outcome<undefined> {
    this.queues.stop(viommu)
    return accept(undefined)
  }

  /** The page of registers of a vIOMMU: in a fork another one than in what it was forked from. */
  regionOf(viommu: number): Region | undefined {
    return this.queues.places.get(viommu)?.registers
  }

  /** Takes what hardware queues hold, then what is logged. */
  takeReports(): Outcome<readonly Report[]> {
    const taken = this.takeLogs()
    return taken.ok ? accept(taken.value.reports, taken.effects) : taken
  }

  /** As {@link takeReports}, with what the host alone hears of. */
  takeLogs(): Outcome<TakenReports> {
    return this.transaction<TakenReports>(() => {
      const stopped = this.queues.take(this.driver)
      if (isRefusal(stopped)) return stopped
      const taken = takeFromAll(this.driver)
      return isRefusal(taken) ? taken : { ...taken, reports: [...stopped, ...taken.reports] }
    })
  }

  respond({ deviceId }: BackendDevice, response: PageResponse): Outcome<undefined> {
    return answerDevice(this.driver, deviceId, response)
  }

  /** The same backend over a fork of its driver. */
  forkOnto(driver: Driver): AmdBackend {
    return new AmdBackend(driver, this.options, this.queues.fork())
  }

  /** What the future depends on besides the driver. */
  snapshot(): unknown {
    return this.queues.snapshot()
  }
}
