/**
 * A VM for tests, whose guest is raw: it writes registers and memory word by word, by the numbers of the manual. Nothing of
 * the driver package is on the guest's side.
 */
import { gpa, hex, spa } from '@nestwalk/bits'
import { Driver, runEffects, viommuMap } from '@nestwalk/driver'
import type { DomainIdPolicy } from '@nestwalk/driver'
import { GuestMemory, Iommu, load64, SparseMemory, store64 } from '@nestwalk/hardware'
import type { Translation } from '@nestwalk/hardware'
import { AmdBackend, amdViommuType, hwptFlags, Iommufd } from '@nestwalk/iommufd'
import type { Context, Effect, GroupRule, ObjectId, Outcome } from '@nestwalk/iommufd'
import { expect } from 'vitest'
import { VirtualIommu } from '../src/index.js'
import type { ViommuStep } from '../src/index.js'

export const register = {
  deviceTableBase: 0x0,
  commandBase: 0x8,
  eventBase: 0x10,
  control: 0x18,
  efr: 0x30,
  efr2: 0x1a0,
  commandHead: 0x2000,
  commandTail: 0x2008,
  eventHead: 0x2010,
  eventTail: 0x2018,
  status: 0x2020,
} as const

export const controlBit = {
  iommuEn: 1n << 0n,
  eventLogEn: 1n << 2n,
  eventIntEn: 1n << 3n,
  comWaitIntEn: 1n << 4n,
  cmdBufEn: 1n << 12n,
  gtEn: 1n << 16n,
} as const

export const statusBit = { eventLogInt: 2n, comWaitInt: 4n, eventLogRun: 8n, cmdBufRun: 16n } as const

export const on = controlBit.iommuEn | controlBit.eventLogEn | controlBit.cmdBufEn | controlBit.gtEn

/** Where the guest's things lie, in guest-physical addresses. */
export const place = {
  deviceTable: 0x10000n,
  commandRing: 0x20000n,
  eventLog: 0x21000n,
  completion: 0x22000n,
  /** Two GCR3 tables, each with the tables of PASID 0 in the four pages after it. */
  gcr3: [0x30000n, 0x40000n],
} as const

const memoryBytes = 0x100_0000n

/** What page 5000 of the guest leads to: a guest page of its own by either GCR3 table. */
export const targets = [0x105000n, 0x205000n] as const

/** DeviceIDs that the guest knows its devices by. */
export const v1 = 0x08
/** In the second page of the device table. */
export const v2 = 0x90
/** And what the host calls them; they share a group. */
const hostIds = new Map([
  [v1, 0x41],
  [v2, 0x42],
])

export const flags = { v: 1n, tv: 2n, gIoV: 1n << 54n, gv: 1n << 55n, ir: 1n << 61n, iw: 1n << 62n } as const
const usual = flags.v | flags.tv | flags.ir | flags.iw

/** GCR3 root bits 14:12, 30:15 and 51:31 in their three places. */
export const rootBits = (root: bigint): readonly [bigint, bigint] => [
  ((root >> 12n) & 7n) << 58n,
  (((root >> 15n) & 0xffffn) << 16n) | ((root >> 31n) << 43n),
]

/** A guest's entry with guest tables for all requests. */
export function nestedEntry(domainId: number, root: bigint = place.gcr3[0]): readonly bigint[] {
  const [low, high] = rootBits(root)
  return [usual | flags.gv | flags.gIoV | low, BigInt(domainId) | high, 0n, 0n]
}

export const passing: readonly bigint[] = [0n, 0n, 0n, 0n]
export const blocked: readonly bigint[] = [flags.v, 0n, 0n, 0n]
/** V, TV, both rights, no tables: an address is a guest-physical one. */
export const identity: readonly bigint[] = [usual, 9n, 0n, 0n]

export const command = {
  wait: (data: bigint, extra = 1n): readonly bigint[] => [(1n << 60n) | place.completion | extra, data],
  devtab: (deviceId: number): readonly bigint[] => [(2n << 60n) | BigInt(deviceId), 0n],
  pages: (domainId: number, hi = 0x7fff_ffff_ffff_f003n): readonly bigint[] => [
    (3n << 60n) | (BigInt(domainId) << 32n),
    hi,
  ],
  interrupts: (deviceId: number): readonly bigint[] => [(5n << 60n) | BigInt(deviceId), 0n],
  all: [8n << 60n, 0n] as readonly bigint[],
}

export interface VmOptions {
  readonly groupRule?: GroupRule
  readonly policy?: DomainIdPolicy
  /** Host tables made before the VM: they take the lowest DomainIDs. */
  readonly tablesBefore?: number
}

interface Parts {
  readonly memory: SparseMemory
  readonly iommu: Iommu
  readonly driver: Driver
  readonly iommufd: Iommufd
  readonly guest: GuestMemory
  readonly viommu: VirtualIommu
  readonly parent: ObjectId
  readonly viommuId: ObjectId
}

const firstSpa = 0x200_0000n

export class Vm {
  private constructor(private readonly parts: Parts) {}

  /** A VM with two devices; its guest has not touched its IOMMU yet. */
  static create(options: VmOptions = {}): Vm {
    const memory = SparseMemory.create(0x1000_0000)
    const iommu = Iommu.create({ memory })
    const made = Driver.create({
      ports: [iommu],
      memory,
      pages: { first: spa(0x100000n), pages: 512 },
      policy: options.policy ?? viommuMap,
      lastDeviceId: 0xff,
    })
    if (!made.ok) throw new Error(made.why)
    const driver = made.value
    const run = <T>(outcome: Outcome<T>): T => accepted(driver, iommu, outcome)
    run(made)
    for (const hostId of hostIds.values()) run(driver.probe(hostId, 1))
    for (let i = 0; i < (options.tablesBefore ?? 0); i++) run(driver.allocateHostTable())
    const iommufd = Iommufd.create(AmdBackend.create(driver, { extensions: true }), {
      groupRule: options.groupRule ?? 'per-member',
    })
    const context = iommufd.open()
    const devices = [...hostIds].map(([virtualId, hostId]) => ({
      virtualId,
      device: run(context.bind(hostId)),
    }))
    const device = devices[0]!.device
    const ioas = run(context.ioasAlloc())
    const slot = { gpa: gpa(0n), length: memoryBytes, spa: spa(firstSpa) }
    const rights = { readable: true, writeable: true }
    run(context.ioasMap({ ioas, iova: slot.gpa, memory: slot.spa, length: slot.length, ...rights }))
    const parent = run(context.hwptAlloc({ device, pageTable: ioas, flags: hwptFlags.nestParent }))
    const viommuId = run(context.viommuAlloc({ device, parent, type: amdViommuType }))
    const guest = new GuestMemory(memory, [slot])
    const words = memory.words
    const viommu = run(
      VirtualIommu.create({ context, memory: guest, words, viommu: viommuId, parent, devices }),
    )
    const vm = new Vm({ memory, iommu, driver, iommufd, guest, viommu, parent, viommuId })
    vm.writeTables()
    return vm
  }

  /** A VM whose guest has its IOMMU on, with these entries. */
  static boot(entries: readonly (readonly [number, readonly bigint[]])[], options: VmOptions = {}): Vm {
    const vm = Vm.create(options)
    for (const [virtualId, entry] of entries) vm.setEntry(virtualId, entry)
    vm.turnOn()
    vm.settle()
    return vm
  }

  get viommu(): VirtualIommu {
    return this.parts.viommu
  }
  get driver(): Driver {
    return this.parts.driver
  }
  get context(): Context {
    return this.parts.iommufd.context(0)!
  }
  get parent(): ObjectId {
    return this.parts.parent
  }

  // The guest's hands.

  read(offset: number): bigint {
    return this.viommu.readMmio(offset, 8)
  }

  write(offset: number, value: bigint): void {
    this.viommu.writeMmio(offset, 8, value)
  }

  load(address: bigint): bigint {
    return load64(this.parts.guest, address) ?? 0n
  }

  store(address: bigint, ...words: readonly bigint[]): void {
    words.forEach((word, i) => store64(this.parts.guest, address + BigInt(i * 8), word))
  }

  setEntry(virtualId: number, entry: readonly bigint[]): void {
    this.store(place.deviceTable + BigInt(virtualId * 32), ...entry)
  }

  /** Points the registers to device table, ring and log, and turns all on. */
  turnOn(control = on): void {
    // MSI enable, in the message control word of the capability.
    this.viommu.writeConfig(0x66, 2, 1)
    this.write(register.deviceTableBase, place.deviceTable | 1n)
    this.write(register.commandBase, place.commandRing | (8n << 56n))
    this.write(register.eventBase, place.eventLog | (8n << 56n))
    this.write(register.control, control)
  }

  /** Puts commands into the ring and moves the tail. */
  enqueue(...commands: readonly (readonly bigint[])[]): void {
    for (const words of commands) {
      const tail = this.read(register.commandTail)
      this.store(place.commandRing + tail, ...words)
      this.write(register.commandTail, (tail + 16n) % 4096n)
    }
  }

  /** Events in the guest's log since the last call. */
  takeEvents(): (readonly [bigint, bigint])[] {
    const events: (readonly [bigint, bigint])[] = []
    let head = this.read(register.eventHead)
    for (; head !== this.read(register.eventTail); head = (head + 16n) % 4096n) {
      events.push([this.load(place.eventLog + head), this.load(place.eventLog + head + 8n)])
    }
    this.write(register.eventHead, head)
    return events
  }

  /** All that a guest can see of its IOMMU: registers, and its memory up to the tables. */
  seen(): string {
    const registers = Array.from({ length: 0x600 }, (_, i) => this.read(i * 8))
    const memory = Array.from({ length: 0x50000 / 8 }, (_, i) => this.load(BigInt(i * 8)))
    return [...registers, ...memory].map((word) => word.toString(16)).join()
  }

  // The VMM, the host's kernel and the chip.

  /** One step of the VMM, with its effects carried out. */
  step(): ViommuStep | undefined {
    const step = this.viommu.step()
    if (step !== undefined) this.carryOut(step.effects)
    return step
  }

  /** At most so many steps. */
  someSteps(count: number): ViommuStep[] {
    const steps: ViommuStep[] = []
    while (steps.length < count) {
      const step = this.step()
      if (step === undefined) break
      steps.push(step)
    }
    return steps
  }

  /** Steps until the VMM has nothing to do, at most so often. */
  settle(atMost = 2000): ViommuStep[] {
    const steps: ViommuStep[] = []
    for (let step = this.step(); step !== undefined; step = this.step()) {
      steps.push(step)
      if (steps.length > atMost) throw new Error(`not at rest after ${atMost} steps: ${step.what}`)
    }
    expect(this.viommu.isIdle).toBe(true)
    return steps
  }

  carryOut(effects: readonly Effect[]): void {
    const { driver, iommu } = this.parts
    expect(runEffects(driver, effects, () => iommu.step())).toBe(0)
  }

  run<T>(outcome: Outcome<T>): T {
    return accepted(this.driver, this.parts.iommu, outcome)
  }

  /** Where the tables lead a device, in guest-physical terms: `105000`, or `fault`. */
  leads(virtualId: number, address = 0x5000n, write = false): string {
    const deviceId = hostIds.get(virtualId)!
    return this.told(this.parts.iommu.walkFresh({ deviceId, iova: address, write }))
  }

  /** As {@link leads}, by a request that caches may answer. */
  request(virtualId: number, address = 0x5000n): string {
    const deviceId = hostIds.get(virtualId)!
    return this.told(this.parts.iommu.request({ deviceId, iova: address }))
  }

  /** The DomainID in the hardware's entry of a device. */
  hostDomainId(virtualId: number): number {
    const at = this.driver.deviceTable + BigInt(hostIds.get(virtualId)! * 32 + 8)
    return Number((load64(this.parts.memory, at) ?? 0n) & 0xffffn)
  }

  /** What a device is attached to: the parent, a nested HWPT's number, or nothing. */
  attachedTo(virtualId: number): ObjectId | 'parent' | undefined {
    for (let id = 1; id < 64; id++) {
      const object = this.context.object(id)
      if (object?.kind !== 'device' || object.deviceId !== hostIds.get(virtualId)) continue
      const to = object.attachments.get(0)
      return to === this.parent ? 'parent' : to
    }
    return undefined
  }

  nestedCount(): number {
    const ids = Array.from({ length: 64 }, (_, id) => id)
    return ids.filter((id) => this.context.object(id)?.kind === 'nested-hwpt').length
  }

  /** Everything that matters for the future, as text. */
  state(): string {
    const { memory, driver, iommufd, viommu } = this.parts
    const all = [memory.words.fingerprint(), driver.snapshot(), iommufd.snapshot(), viommu.snapshot()]
    return JSON.stringify(all, (_, each: unknown) => (typeof each === 'bigint' ? hex(each) : each))
  }

  fork(): Vm {
    const memory = this.parts.memory.fork()
    const iommu = this.parts.iommu.forkOnto(memory)
    const driver = this.driver.fork({ ports: [iommu], memory })
    const iommufd = this.parts.iommufd.fork(AmdBackend.create(driver, { extensions: true }))
    const guest = this.parts.guest.forkOnto(memory)
    const viommu = this.viommu.fork({ context: iommufd.context(0)!, memory: guest, words: memory.words })
    return new Vm({ ...this.parts, memory, iommu, driver, iommufd, guest, viommu })
  }

  /** Stops the VM: devices closed, then everything destroyed. */
  stop(): void {
    const { context } = this
    for (let id = 1; id < 64; id++) if (context.object(id)?.kind === 'device') this.run(context.unbind(id))
    for (let round = 0; round < 4; round++) {
      for (let id = 1; id < 64; id++) {
        const destroyed = context.destroy(id)
        if (destroyed.ok) this.run(destroyed)
      }
    }
  }

  /** Page 5000 by either GCR3 table, four levels; and a GCR3 table entry for PASID 0. */
  private writeTables(): void {
    place.gcr3.forEach((root, i) => {
      const tables = [1n, 2n, 3n, 4n].map((n) => root + n * 0x1000n)
      this.store(root, tables[0]! | 1n)
      for (let n = 0; n < 3; n++) this.store(tables[n]!, tables[n + 1]! | 7n)
      this.store(tables[3]! + 5n * 8n, targets[i]! | 7n)
    })
  }

  private told(translation: Translation): string {
    if (translation.kind !== 'translated') return translation.kind
    const address = translation.spa - firstSpa
    return address >= 0n && address < memoryBytes ? address.toString(16) : 'outside the VM'
  }
}

function accepted<T>(driver: Driver, iommu: Iommu, outcome: Outcome<T>): T {
  if (!outcome.ok) throw new Error(`${outcome.errno} ${outcome.rule}: ${outcome.why}`)
  expect(runEffects(driver, outcome.effects, () => iommu.step())).toBe(0)
  return outcome.value
}
