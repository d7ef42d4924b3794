/**
 * One whole machine: memory, the IOMMU, the host's kernel, virtual machines with their guests, devices.
 *
 * It moves in steps that others can watch; between two of them a device may make a request. A machine can be forked.
 *
 * @packageDocumentation
 */
import { iova, spa } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'
import { Driver, InternalError } from '@nestwalk/driver'
import type { DomainIdPolicy, Effect, Outcome } from '@nestwalk/driver'
import { Iommu, SparseMemory } from '@nestwalk/hardware'
import { AmdBackend, Iommufd } from '@nestwalk/iommufd'
import type { GroupRule } from '@nestwalk/iommufd'
import { hasCommands, nextCommandOf } from './command-ring-view.js'
import { FreshView, refused } from './fresh-view.js'
import type { Answer } from './fresh-view.js'
import type { DmaEvent, MachineEvent } from './machine-event.js'
import { must } from './must.js'
import type { Action, DeviceSpec, MachineSpec } from './spec.js'
import { VirtualMachine } from './virtual-machine.js'

/** What a machine is made with besides its parts. */
export interface MachineOptions {
  readonly policy: DomainIdPolicy
  /** Default: each member of a group for itself, as a guest sees its devices. */
  readonly groupRule?: GroupRule
}

const memoryBytes = 0x1000_0000
/** The host kernel's own pages: 1 MiB to 9 MiB. */
const hostPages = { first: spa(0x10_0000n), pages: 2048 }
const freshPage = spa(0x8_0000n)
/** Where the memory of the first VM lies; each has 32 MiB to itself. */
const firstVm = 0x200_0000n
const lastDeviceId = 0xff

/** Steps that a machine may take before somebody has to look why it does not come to rest. */
const settleSteps = 1_000_000

interface Parts {
  readonly spec: MachineSpec
  readonly memory: SparseMemory
  readonly iommu: Iommu
  readonly driver: Driver
  readonly iommufd: Iommufd
  readonly vms: readonly VirtualMachine[]
  readonly fresh: FreshView
}

/** See the file's comment. */
export class Machine {
  private constructor(
    private readonly parts: Parts,
    /** Effects of the host's kernel that are still to be carried out. */
    private pending: readonly Effect[],
  ) {}

  /** A machine with everything booted: host, VMs, guests; the guests' devices are known and blocked. */
  static create(spec: MachineSpec, options: MachineOptions): Machine {
    if (spec.vms.length > 7) throw new RangeError(`${spec.vms.length} VMs do not fit: at most 7`)
    const memory = SparseMemory.create(memoryBytes)
    const iommu = Iommu.create({ memory })
    const made = Driver.create({
      ports: [iommu],
      memory,
      pages: hostPages,
      policy: options.policy,
      lastDeviceId,
    })
    const driver = must(made)
    const fresh = FreshView.create(memory, freshPage)
    const backend = AmdBackend.create(driver, { extensions: true })
    const iommufd = Iommufd.create(backend, { groupRule: options.groupRule ?? 'per-member' })
    const vms: VirtualMachine[] = []
    const machine = new Machine(
      { spec, memory, iommu, driver, iommufd, vms, fresh },
      made.ok ? made.effects : [],
    )
    machine.settle()
    const runHost = (effects: readonly Effect[]): void => machine.runHost(effects)
    for (const { deviceId, group } of spec.devices) {
      const probed = driver.probe(deviceId, group)
      must(probed)
      runHost(probed.ok ? probed.effects : [])
    }
    const hostIds = new Map(spec.devices.map(({ name, deviceId }) => [name, deviceId]))
    spec.vms.forEach((vmSpec, i) => {
      const base = spa(firstVm * BigInt(i + 1))
      vms.push(VirtualMachine.create(vmSpec, base, memory, iommufd, hostIds, runHost))
    })
    machine.settle()
    for (const vm of vms) machine.bootGuest(vm)
    return machine
  }

  get iommu(): Iommu {
    return this.parts.iommu
  }
  get driver(): Driver {
    return this.parts.driver
  }
  get memory(): SparseMemory {
    return this.parts.memory
  }
  get vms(): readonly VirtualMachine[] {
    return this.parts.vms
  }
  get spec(): MachineSpec {
    return this.parts.spec
  }

  /**
   * Takes one step: the host's kernel first, then the chip, the VMMs, the guests. `undefined` at rest.
   *
   * Only what must wait for another waits, so at rest everything that was asked for has been done.
   */
  step(): MachineEvent | undefined {
    // A guest that starts to wait has given its VMM something to do.
    return (
      this.stepHost() ??
      this.stepChip() ??
      this.stepVmm() ??
      this.stepGuest() ??
      this.stepVmm() ??
      this.giveUp()
    )
  }

  /** Steps until the machine is at rest. */
  settle(): MachineEvent[] {
    const events: MachineEvent[] = []
    for (let i = 0; i < settleSteps; i++) {
      const event = this.step()
      if (event === undefined) return events
      events.push(event)
    }
    throw new InternalError(`the machine is not at rest after ${settleSteps} steps`)
  }

  /** Carries an action out, to the end. RefusedError if a guest's own driver refuses it. */
  perform(action: Action): MachineEvent[] {
    if (action.do === 'dma') return [this.dma(action.device, action.gva, action.write)]
    this.begin(action)
    return this.settle()
  }

  /** A device makes a request, at this very moment. */
  dma(device: string, gva: bigint, write: boolean): DmaEvent {
    const vm = this.vmOf(device)
    const { deviceId } = this.deviceNamed(device)
    const expected = this.expected(device, gva, write)
    const answer = this.parts.iommu.request({ deviceId, iova: iova(gva), write })
    const common = { kind: 'dma', device, gva, write, expected, vm: vm.name } as const
    if (answer.kind === 'fault') {
      return {
        ...common,
        got: refused,
        from: 'refused',
        tag: undefined,
        filledBy: undefined,
        owner: undefined,
      }
    }
    const address = answer.kind === 'translated' ? answer.spa : spa(BigInt.asUintN(52, answer.address))
    return {
      ...common,
      got: { kind: 'frame', address },
      from: answer.kind === 'translated' ? answer.from : 'untranslated',
      tag: answer.kind === 'translated' ? answer.tag : undefined,
      filledBy: answer.kind === 'translated' ? this.nameOf(answer.filler) : undefined,
      owner: this.ownerOf(address),
    }
  }

  /** What a request should get: the guest's tables as they are, without any cache. */
  expected(device: string, gva: bigint, write: boolean): Answer {
    return this.parts.fresh.answer(this.vmOf(device), device, gva, write, this.parts.driver)
  }

  /** The VM whose memory an address belongs to. */
  ownerOf(address: Spa): string | undefined {
    return this.parts.vms.find((vm) => vm.owns(address))?.name
  }

  /** The VM that a device is passed to. RangeError if there is none. */
  vmOf(device: string): VirtualMachine {
    const vm = this.parts.vms.find((each) => each.devices.includes(device))
    if (vm === undefined) throw new RangeError(`no VM has a device ${device}`)
    return vm
  }

  /** A copy that goes its own way. Memory, registers and caches cost nothing until one side changes them. */
  fork(): Machine {
    const memory = this.parts.memory.fork()
    const iommu = this.parts.iommu.forkOnto(memory)
    const driver = this.parts.driver.fork({ ports: [iommu], memory })
    const backend = AmdBackend.create(driver, { extensions: true })
    const iommufd = this.parts.iommufd.fork(backend)
    const vms = this.parts.vms.map((vm) => vm.fork(memory, iommufd))
    const fresh = this.parts.fresh.forkOnto(memory)
    return new Machine({ spec: this.parts.spec, memory, iommu, driver, iommufd, vms, fresh }, this.pending)
  }

  /** What the future depends on, as a text: equal for machines that cannot be told apart. */
  fingerprint(): string {
    const [lo, hi] = this.parts.memory.words.fingerprint()
    const books = [
      this.parts.driver.snapshot(),
      this.parts.iommufd.snapshot(),
      this.parts.vms.map((vm) => vm.snapshot()),
      this.pending,
    ]
    const plain = (_key: string, value: unknown): unknown =>
      typeof value === 'bigint' ? `0x${value.toString(16)}` : value
    return `${(hi >>> 0).toString(16)}:${(lo >>> 0).toString(16)}:${JSON.stringify(books, plain)}`
  }

  private bootGuest(vm: VirtualMachine): void {
    for (const name of vm.devices) {
      const virtualId = vm.virtualIdOf(name) ?? 0
      this.guestDoes(vm, vm.driver.probe(virtualId, virtualId))
      this.settle()
    }
  }

  /**
   * Plans an action of a guest; {@link step} then carries it out. RefusedError if the guest's own driver refuses it.
   */
  begin(action: Exclude<Action, { do: 'dma' }>): void {
    const vm = this.parts.vms.find(({ name }) => name === action.vm)
    if (vm === undefined) throw new RangeError(`there is no VM ${action.vm}`)
    const { driver } = vm
    switch (action.do) {
      case 'guest-domain': {
        if (vm.hasDomain(action.domain))
          throw new RangeError(`${vm.name} has a domain ${action.domain} already`)
        const same = action.sameIdAs === undefined ? {} : { sameIdAs: vm.domain(action.sameIdAs) }
        const made = driver.allocateGuestTable(same)
        this.guestDoes(vm, made)
        vm.nameDomain(action.domain, must(made))
        break
      }
      case 'guest-map': {
        const rights = { read: true, write: true }
        // The guest takes its guest-physical memory for the system's.
        const target = spa(action.gpa)
        this.guestDoes(vm, driver.map(vm.domain(action.domain), iova(action.gva), target, 4096n, rights))
        break
      }
      case 'guest-unmap':
        this.guestDoes(vm, driver.unmap(vm.domain(action.domain), iova(action.gva), 4096n))
        break
      case 'guest-attach':
        this.guestDoes(vm, driver.attach(virtualIdIn(vm, action.device), vm.domain(action.domain)))
        break
      case 'guest-replace':
        this.guestDoes(vm, driver.replace(virtualIdIn(vm, action.device), vm.domain(action.domain)))
        break
      case 'guest-detach':
        this.guestDoes(vm, driver.detach(virtualIdIn(vm, action.device)))
    }
  }

  private guestDoes(vm: VirtualMachine, outcome: Outcome<unknown>): void {
    must(outcome)
    if (outcome.ok) vm.pending = [...vm.pending, ...outcome.effects]
  }

  private runHost(effects: readonly Effect[]): void {
    this.pending = [...this.pending, ...effects]
    while (this.pending.length > 0) {
      if (this.stepHost() === undefined && this.stepChip() === undefined) {
        throw new InternalError('the host waits for a chip that does not move')
      }
    }
  }

  private stepHost(): MachineEvent | undefined {
    const [effect] = this.pending
    if (effect === undefined || !this.parts.driver.apply(effect)) return undefined
    this.pending = this.pending.slice(1)
    return { kind: 'host-effect', effect }
  }

  private stepChip(): MachineEvent | undefined {
    const { iommu, memory } = this.parts
    if (!hasCommands(iommu)) return undefined
    const command = nextCommandOf(iommu, memory)
    return iommu.step() ? { kind: 'command', command } : undefined
  }

  private stepVmm(): MachineEvent | undefined {
    // A VMM's call returns when the kernel is done with the one before.
    if (this.pending.length > 0) return undefined
    for (const vm of this.parts.vms) {
      const done = vm.viommu.step()
      if (done === undefined) continue
      this.pending = done.effects
      return { kind: 'vmm', vm: vm.name, what: done.what, errno: done.errno }
    }
    return undefined
  }

  private stepGuest(): MachineEvent | undefined {
    for (const vm of this.parts.vms) {
      const [effect] = vm.pending
      if (effect === undefined || !vm.driver.apply(effect)) continue
      vm.pending = vm.pending.slice(1)
      return { kind: 'guest-effect', vm: vm.name, effect }
    }
    return undefined
  }

  /** Ends the wait of a kernel whose IOMMU does not move any more, as the kernel's time-out does. */
  private giveUp(): MachineEvent | undefined {
    const [effect] = this.pending
    if (effect !== undefined) {
      this.parts.driver.giveUp(effect)
      this.pending = this.pending.slice(1)
      return { kind: 'gave-up', who: 'host', effect }
    }
    for (const vm of this.parts.vms) {
      const [waiting] = vm.pending
      if (waiting === undefined) continue
      vm.driver.giveUp(waiting)
      vm.pending = vm.pending.slice(1)
      return { kind: 'gave-up', who: vm.name, effect: waiting }
    }
    return undefined
  }

  private deviceNamed(name: string): DeviceSpec {
    const device = this.parts.spec.devices.find((each) => each.name === name)
    if (device === undefined) throw new RangeError(`there is no device ${name}`)
    return device
  }

  private nameOf(deviceId: number): string | undefined {
    return this.parts.spec.devices.find((each) => each.deviceId === deviceId)?.name
  }
}

function virtualIdIn(vm: VirtualMachine, device: string): number {
  const virtualId = vm.virtualIdOf(device)
  if (virtualId === undefined) throw new RangeError(`${vm.name} has no device ${device}`)
  return virtualId
}
