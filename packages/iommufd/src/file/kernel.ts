/**
 * A kernel that programs use by its files: `/dev/iommu`, `/dev/vfio/vfio`, `/dev/vfio/devices/vfioN`.
 *
 * @packageDocumentation
 */
import { ioctls } from '../abi/ioctl-table.js'
import type { Ioctl } from '../abi/ioctl.js'
import type { IommuBackend } from '../backend.js'
import { Iommufd } from '../iommufd.js'
import type { GroupRule } from '../kernel-state.js'
import type { FileResult, IoctlCall, OpenableKernel, OpenFile } from '../open-file.js'
import type { Outcome } from '../outcome.js'
import { FailureInjection } from './failure-injection.js'
import { IommuFile } from './iommu-file.js'
import { SharedContext } from './shared-context.js'
import { VfioDeviceFile } from './vfio-device-file.js'

/** A call on the file of a bound device. */
export type DeviceCall = (deviceId: number, call: IoctlCall) => FileResult

export interface KernelOptions {
  readonly backend: IommuBackend
  /** Carries the effects of a driver out, where it has any. */
  readonly carryOut?: (outcome: Outcome<unknown>) => void
  /** Calls that not every kernel has: IOMMU_TEST_CMD. */
  readonly testCalls?: readonly Ioctl[]
  /** DeviceIDs that `/dev/vfio/devices/vfioN` stands for, by N. */
  readonly devices?: readonly number[]
  readonly groupRule?: GroupRule
  /** Calls on a bound device's file that Linux does not have, by command word. */
  readonly deviceCalls?: ReadonlyMap<number, DeviceCall>
}

/** See the file's comment. */
export class Kernel implements OpenableKernel {
  readonly iommufd: Iommufd
  /** The highest number of a call. */
  readonly lastNumber: number
  private readonly calls: ReadonlyMap<number, Ioctl>
  private readonly failures = new FailureInjection()

  private constructor(private readonly options: KernelOptions) {
    const { backend, testCalls = [], groupRule = 'whole-group' } = options
    this.iommufd = Iommufd.create(backend, { groupRule, shouldFail: () => this.failures.shouldFail() })
    const calls = [...ioctls, ...testCalls]
    this.calls = new Map(calls.map((ioctl) => [ioctl.number, ioctl]))
    this.lastNumber = Math.max(...this.calls.keys())
  }

  static create(options: KernelOptions): Kernel {
    return new Kernel(options)
  }

  /** The call with a number. */
  ioctl(number: number): Ioctl | undefined {
    return this.calls.get(number)
  }

  openIommu(): OpenFile {
    return IommuFile.open(new SharedContext(this, this.iommufd.open()))
  }

  /** A context that starts with the accounting of VFIO's type 1: per process. */
  openVfioContainer(): OpenFile {
    const context = this.iommufd.open()
    context.accounting = 'mm'
    return IommuFile.open(new SharedContext(this, context))
  }

  openVfioDevice(n: number): OpenFile | undefined {
    const deviceId = this.options.devices?.[n]
    return deviceId === undefined ? undefined : new VfioDeviceFile(this, deviceId)
  }

  /** A call on a bound device's file that Linux does not have. */
  deviceCall(cmd: number): DeviceCall | undefined {
    return this.options.deviceCalls?.get(cmd)
  }

  /** Has the effects of a call carried out. */
  settle<T>(outcome: Outcome<T>): Outcome<T> {
    if (outcome.ok && outcome.effects.length > 0) this.options.carryOut?.(outcome)
    return outcome
  }

  /** Hands on what the IOMMUs have reported, where there are some; queues of guests are read with that. */
  deliverReports(): void {
    if (this.options.carryOut !== undefined) this.settle(this.iommufd.deliverReports())
  }

  /**
   * A process makes a call: its failures are asked for. What devices have reported until then is handed on before
   * anything changes, for it is for whom they belong to now.
   */
  enter(process: number): void {
    this.failures.enter(process)
    this.deliverReports()
  }

  pinned(memory: number): number {
    return this.iommufd.accounts.pinned(memory)
  }

  locked(memory: number): number {
    return this.iommufd.accounts.locked(memory)
  }

  armFailure(process: number, count: number): void {
    this.failures.arm(process, count)
  }

  failuresLeft(process: number): number {
    return this.failures.left(process)
  }
}
