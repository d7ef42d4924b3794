/**
 * A kernel with devices behind a modelled AMD IOMMU: chip, driver and iommufd in one.
 *
 * @packageDocumentation
 */
import { spa } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'
import { Driver, runEffects } from '@nestwalk/driver'
import type { DomainIdPolicy } from '@nestwalk/driver'
import { Iommu, nestingFeatures, SparseMemory } from '@nestwalk/hardware'
import { AmdBackend } from '../amd/amd-backend.js'
import type { AmdBackendOptions } from '../amd/amd-backend.js'
import { InternalError } from '@nestwalk/driver'
import type { Outcome } from '../outcome.js'
import type { GroupRule } from '../kernel-state.js'
import { deviceDma, deviceDmaCommand } from './device-dma.js'
import { Kernel } from './kernel.js'
import type { DeviceCall } from './kernel.js'
import { MachineMemory } from './machine-memory.js'

/** A device of the machine: `/dev/vfio/devices/vfioN` in the order of the list. */
export interface AmdKernelDevice {
  readonly deviceId: number
  readonly group: number
  /** How many PASIDs it has: a power of two, or 0. */
  readonly pasids?: number
}

export interface AmdKernelOptions extends AmdBackendOptions {
  /** Default: two devices in a group of their own each, and two that share one. */
  readonly devices?: readonly AmdKernelDevice[]
  /** How the driver chooses DomainIDs. */
  readonly policy?: DomainIdPolicy
  /**
   * How the members of a group move. Default: as Linux, all together; with `extensions` each by itself, as a guest sees
   * them (gap U16).
   */
  readonly groupRule?: GroupRule
  /**
   * The chip sees the memory of the programs that the kernel serves: it walks guests' tables there, and devices reach it.
   * Their pages must have physical addresses from {@link firstProgramAddress} on. A machine like that cannot be forked.
   */
  readonly seesPrograms?: boolean
}

/** What stands behind an AMD kernel. */
export interface AmdMachine {
  readonly kernel: Kernel
  readonly driver: Driver
  readonly iommu: Iommu
  readonly memory: SparseMemory
}

const usualDevices: readonly AmdKernelDevice[] = [
  { deviceId: 0x0100, group: 1 },
  { deviceId: 0x0200, group: 2 },
  { deviceId: 0x0300, group: 3 },
  { deviceId: 0x0301, group: 3 },
]

/** Memory that the host's driver takes its pages from; what programs map has other addresses. */
const driverPages: { readonly first: Spa; readonly pages: number } = {
  first: spa(0x10_0000n),
  pages: 0x10_0000,
}
const memoryBytes = 2 ** 34

/** Below this physical address lies the machine's own memory, above it that of programs. */
export const firstProgramAddress = BigInt(memoryBytes)

/** Boots a machine with one IOMMU. */
export function amdMachine(options: AmdKernelOptions = {}): AmdMachine {
  const { devices = usualDevices, policy, seesPrograms = false, ...more } = options
  const { groupRule = more.extensions === true ? 'per-member' : 'whole-group', ...backendOptions } = more
  const programs = new MachineMemory(memoryBytes)
  const memory = seesPrograms ? SparseMemory.over(programs) : SparseMemory.create(memoryBytes)
  const iommu = Iommu.create({ memory, features: nestingFeatures })
  const ports = [iommu]
  const made = Driver.create({
    ports,
    memory,
    pages: driverPages,
    ...(policy === undefined ? {} : { policy }),
  })
  if (!made.ok) throw new InternalError(made.why)
  const driver = made.value
  const carryOut = (outcome: Outcome<unknown>): void => {
    if (!outcome.ok) throw new InternalError(outcome.why)
    const left = runEffects(driver, outcome.effects, () => iommu.step())
    if (left > 0) throw new InternalError(`the IOMMU does not carry out ${left} effects`)
  }
  carryOut(made)
  for (const { deviceId, group, pasids = 0 } of devices)
    carryOut(driver.probe(deviceId, group, 0, pasids === 0 ? {} : { maxPasids: pasids }))
  const backend = AmdBackend.create(driver, backendOptions)
  const dma: DeviceCall = (deviceId, call) => deviceDma({ iommu, memory }, deviceId, call)
  const kernel = Kernel.create({
    ...{ backend, carryOut, groupRule, devices: devices.map(({ deviceId }) => deviceId) },
    ...(more.extensions === true ? { deviceCalls: new Map([[deviceDmaCommand, dma]]) } : {}),
  })
  programs.serve(kernel.iommufd)
  return { kernel, driver, iommu, memory }
}
