/**
 * A virtual machine and its VMM: guest memory, the iommufd objects behind it, the virtual IOMMU and the guest's driver.
 *
 * The guest's operating system is the same driver package as the host's kernel, over the virtual IOMMU's port.
 *
 * @packageDocumentation
 */
import { gpa, spa } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'
import { Driver } from '@nestwalk/driver'
import type { DomainNumber, Effect } from '@nestwalk/driver'
import { GuestMemory } from '@nestwalk/hardware'
import type { SparseMemory } from '@nestwalk/hardware'
import { amdViommuType, hwptFlags } from '@nestwalk/iommufd'
import type { Context, Iommufd, ObjectId, Outcome } from '@nestwalk/iommufd'
import { VirtualIommu } from '@nestwalk/viommu'
import type { GuestDevice } from '@nestwalk/viommu'
import { must } from './must.js'
import type { VmSpec } from './spec.js'

/** Memory of each VM: guest-physical from 0. */
const vmBytes = 0x100_0000n

/** Guest-physical pages that the guest's driver may use for tables and rings: 1 MiB to 3 MiB. */
const driverPages = { first: spa(0x10_0000n), pages: 512 }

/** Highest DeviceID of a guest. */
const lastVirtualId = 0xff

/** Carries effects of the host's kernel out, to the end. */
export type RunHost = (effects: readonly Effect[]) => void

interface Parts {
  readonly spec: VmSpec
  readonly base: Spa
  readonly memory: GuestMemory
  readonly context: Context
  readonly parent: ObjectId
  readonly viommu: VirtualIommu
  readonly driver: Driver
  /** The guest's domains by the names that actions use. */
  readonly domains: Map<string, DomainNumber>
}

/** See the file's comment. */
export class VirtualMachine {
  /** Effects of the guest's driver that are still to be carried out. */
  pending: readonly Effect[] = []

  private constructor(private readonly parts: Parts) {}

  /**
   * Builds the VM as a VMM does: devices bound, memory mapped into an IOAS, a nest parent on it, every device attached to
   * the nest parent, a vIOMMU with a vDEVICE for each. The guest has not booted: its driver's bring-up is pending.
   *
   * @param base - where its memory lies in the host's
   * @param hostIds - DeviceIDs on the host by device name
   */
  static create(
    spec: VmSpec,
    base: Spa,
    host: SparseMemory,
    iommufd: Iommufd,
    hostIds: ReadonlyMap<string, number>,
    runHost: RunHost,
  ): VirtualMachine {
    const call = <T>(outcome: Outcome<T>): T => {
      const value = must(outcome)
      if (outcome.ok) runHost(outcome.effects)
      return value
    }
    const memory = new GuestMemory(host, [{ gpa: gpa(0n), length: vmBytes, spa: base }])
    const context = iommufd.open()
    const devices = spec.devices.map(({ name, virtualId }): GuestDevice => {
      const hostId = hostIds.get(name)
      if (hostId === undefined)
        throw new RangeError(`${spec.name} is given ${name}, which the machine does not have`)
      return { virtualId, device: call(context.bind(hostId)) }
    })
    const [first] = devices
    if (first === undefined) throw new RangeError(`${spec.name} has no device`)
    const ioas = call(context.ioasAlloc())
    call(
      context.ioasMap({
        ioas,
        iova: gpa(0n),
        length: vmBytes,
        memory: base,
        readable: true,
        writeable: true,
      }),
    )
    const parent = call(
      context.hwptAlloc({ device: first.device, pageTable: ioas, flags: hwptFlags.nestParent }),
    )
    for (const { device } of devices) call(context.attach(device, parent))
    const viommuId = call(context.viommuAlloc({ device: first.device, parent, type: amdViommuType }))
    for (const { device, virtualId } of devices)
      call(context.vdeviceAlloc(viommuId, device, BigInt(virtualId)))
    const viommu = must(
      VirtualIommu.create({ context, memory, words: host.words, viommu: viommuId, parent, devices }),
    )
    const made = Driver.create({ ports: [viommu], memory, pages: driverPages, lastDeviceId: lastVirtualId })
    const driver = must(made)
    const vm = new VirtualMachine({ spec, base, memory, context, parent, viommu, driver, domains: new Map() })
    vm.pending = made.ok ? made.effects : []
    return vm
  }

  get name(): string {
    return this.parts.spec.name
  }
  get driver(): Driver {
    return this.parts.driver
  }
  get viommu(): VirtualIommu {
    return this.parts.viommu
  }
  get memory(): GuestMemory {
    return this.parts.memory
  }

  /** Number of the nest parent in the host's driver. */
  get hostTable(): DomainNumber {
    const hwpt = this.parts.context.object(this.parts.parent)
    if (hwpt?.kind !== 'paging-hwpt') throw new RangeError(`${this.name} lost its nest parent`)
    return hwpt.domain.number
  }

  /** DeviceID that the guest knows a device by; `undefined` if the device is not its own. */
  virtualIdOf(device: string): number | undefined {
    return this.parts.spec.devices.find(({ name }) => name === device)?.virtualId
  }

  /** Names of the VM's devices. */
  get devices(): readonly string[] {
    return this.parts.spec.devices.map(({ name }) => name)
  }

  owns(address: Spa): boolean {
    return address >= this.parts.base && address < this.parts.base + vmBytes
  }

  hasDomain(name: string): boolean {
    return this.parts.domains.has(name)
  }

  /** Gives a domain of the guest's driver the name that actions use. */
  nameDomain(name: string, number: DomainNumber): void {
    this.parts.domains.set(name, number)
  }

  /** Number of a named domain in the guest's driver. RangeError if there is none. */
  domain(name: string): DomainNumber {
    const number = this.parts.domains.get(name)
    if (number === undefined) throw new RangeError(`${this.name} has no domain ${name}`)
    return number
  }

  /** The same VM on a fork of the machine. */
  fork(host: SparseMemory, iommufd: Iommufd): VirtualMachine {
    const { parts } = this
    const context = iommufd.context(parts.context.number)
    if (context === undefined) throw new RangeError(`the fork lost the context of ${this.name}`)
    const memory = parts.memory.forkOnto(host)
    const viommu = parts.viommu.fork({ context, memory, words: host.words })
    const driver = parts.driver.fork({ ports: [viommu], memory })
    const vm = new VirtualMachine({
      ...parts,
      context,
      memory,
      viommu,
      driver,
      domains: new Map(parts.domains),
    })
    vm.pending = this.pending
    return vm
  }

  /** What the future depends on besides memory, chip and iommufd, as plain data in a fixed order. */
  snapshot(): unknown {
    const { viommu, driver, domains } = this.parts
    return [this.name, viommu.snapshot(), driver.snapshot(), [...domains].sort(), this.pending]
  }
}
