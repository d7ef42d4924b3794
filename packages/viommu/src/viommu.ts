/**
 * The guest's IOMMU: what a VMM presents to a guest, made of iommufd calls.
 *
 * The guest sees the port of an IOMMU: registers, with tables and rings in its own memory. Its writes trap; the VMM takes
 * the guest's commands one at a time and turns each into calls. Devices whose entries have guest tables are attached to
 * nested HWPTs made of those entries as they are; nothing is shadowed.
 *
 * @packageDocumentation
 */
import {
  decodeDte,
  featuresOf,
  FunctionRegisters,
  PciFunction,
  RegisterFile,
  store64,
} from '@nestwalk/hardware'
import type {
  AccessBytes,
  Command,
  ConfigBytes,
  InterruptMessage,
  IommuPort,
  Memory,
  Words,
} from '@nestwalk/hardware'
import { featuresOfHwInfo, guestCommandArray, guestEntryData } from '@nestwalk/iommufd'
import type { Context, Effect, Errno, ObjectId, Outcome } from '@nestwalk/iommufd'
import {
  commandHardwareError,
  everythingOf,
  finishCommand,
  haltQueue,
  illegalCommandError,
  nextCommand,
  placesCommands,
} from './guest-command-queue.js'
import { isOn, wantedFor } from './guest-entry.js'
import type { Wanted } from './guest-entry.js'
import { guestFeatures } from './guest-features.js'

/** Status.ComWaitInt and Control.ComWaitIntEn. */
const comWaitInt = 1 << 2
const comWaitIntEn = 1 << 4

/** A device that the VM owns. */
export interface GuestDevice {
  /** DeviceID that the guest knows it by. */
  readonly virtualId: number
  /** The DEVICE in the VMM's iommufd context. */
  readonly device: ObjectId
}

/** What a virtual IOMMU is made with. */
export interface ViommuOptions {
  readonly context: Context
  /** Guest-physical memory. */
  readonly memory: Memory
  /** The machine's words, in which the guest's registers are kept. */
  readonly words: Words
  /** The vIOMMU object, and the nest parent that it was made on. */
  readonly viommu: ObjectId
  readonly parent: ObjectId
  readonly devices: readonly GuestDevice[]
}

/** One step of the VMM: what it did for the guest, and what the host's kernel now has to carry out. */
export interface ViommuStep {
  /** For people: "guest command INVALIDATE_DEVTAB_ENTRY 00:03.0". */
  readonly what: string
  readonly effects: readonly Effect[]
  /** Set when the kernel refused the call. */
  readonly errno: Errno | undefined
}

/** A call that is still to be made, as plain data. */
type Task =
  | { readonly do: 'configure'; readonly virtualId: number }
  | {
      readonly do: 'attach'
      readonly virtualId: number
      readonly to: ObjectId | undefined
      readonly nested: Nested | undefined
    }
  | { readonly do: 'destroy'; readonly hwpt: ObjectId }
  | { readonly do: 'invalidate'; readonly words: readonly [bigint, bigint] }
  | { readonly do: 'invalidate-all' }
  | { readonly do: 'finish-command' }

/** The nested HWPT of a device, and the guest entry that it was made of. */
interface Nested {
  readonly hwpt: ObjectId
  readonly entry: readonly bigint[]
}

/** See the file's comment. */
export class VirtualIommu implements IommuPort {
  private readonly face: FunctionRegisters

  private constructor(
    private readonly options: ViommuOptions,
    private readonly file: RegisterFile,
    private readonly pci: PciFunction,
    /** The nested HWPT of each device that has one, by virtual ID. */
    private readonly nested: Map<number, Nested>,
    private tasks: Task[],
    private wasOn: boolean,
    /** Nested HWPTs of no use that could not be destroyed yet: another device of the group is still on them. */
    private leftOver: readonly ObjectId[],
  ) {
    this.face = new FunctionRegisters(file, pci)
  }

  /** A virtual IOMMU that is off: the guest's devices reach its memory untranslated. */
  static create(options: ViommuOptions): Outcome<VirtualIommu> {
    const [first] = options.devices
    if (first === undefined) throw new RangeError('a virtual IOMMU needs at least one device')
    const info = options.context.hwInfo(first.device)
    if (!info.ok) return info
    const features = featuresOf(guestFeatures(featuresOfHwInfo(info.value.bytes)))
    const file = RegisterFile.create(options.words, features)
    const pci = PciFunction.create(options.words, { features })
    const tasks = options.devices.map(({ virtualId }): Task => ({ do: 'configure', virtualId }))
    return { ok: true, value: new VirtualIommu(options, file, pci, new Map(), tasks, false, []), effects: [] }
  }

  readMmio(offset: number, bytes: AccessBytes): bigint {
    this.options.words.activate()
    return this.face.readMmio(offset, bytes)
  }

  /** A trapped write. What follows from it is done by {@link step}. */
  writeMmio(offset: number, bytes: AccessBytes, value: bigint): void {
    this.options.words.activate()
    const couldRun = this.file.commandsRun
    this.face.writeMmio(offset, bytes, value)
    if (!couldRun && placesCommands(offset)) this.abandonCommand()
    const on = isOn(this.file)
    if (on === this.wasOn) return
    this.wasOn = on
    this.configureAll()
  }

  takeInterrupt(): InterruptMessage | undefined {
    this.options.words.activate()
    return this.face.takeInterrupt()
  }

  /** Reads configuration space of the function that the guest sees: an aligned access below 256. */
  readConfig(offset: number, bytes: ConfigBytes): number {
    this.options.words.activate()
    return this.face.readConfig(offset, bytes)
  }

  writeConfig(offset: number, bytes: ConfigBytes, value: number): void {
    this.options.words.activate()
    this.face.writeConfig(offset, bytes, value)
  }

  /** Makes the next call for the guest; `undefined` when there is nothing to do. Its effects come before the next step. */
  step(): ViommuStep | undefined {
    this.options.words.activate()
    const task = this.tasks.shift()
    return task === undefined ? this.takeCommand() : this.carryOut(task)
  }

  /** Whether {@link step} has nothing to do. */
  get isIdle(): boolean {
    this.options.words.activate()
    return this.tasks.length === 0 && nextCommand(this.file, this.options.memory).kind === 'none'
  }

  /** The same virtual IOMMU on a fork of its machine. */
  fork(place: Pick<ViommuOptions, 'context' | 'memory' | 'words'>): VirtualIommu {
    const file = this.file.forkOnto(place.words)
    return new VirtualIommu(
      { ...this.options, ...place },
      file,
      this.pci.forkOnto(place.words),
      new Map(this.nested),
      [...this.tasks],
      this.wasOn,
      this.leftOver,
    )
  }

  /** What the future depends on besides registers and objects, as plain data in a fixed order. */
  snapshot(): unknown {
    return [[...this.nested].sort(([a], [b]) => a - b), this.tasks, this.wasOn, this.leftOver]
  }

  private takeCommand(): ViommuStep | undefined {
    const { memory } = this.options
    const next = nextCommand(this.file, memory)
    switch (next.kind) {
      case 'none':
        return undefined
      case 'unreadable':
        haltQueue(this.file, memory, commandHardwareError(next.address))
        return done(`guest command ring unreadable at GPA 0x${next.address.toString(16)}`)
      case 'illegal':
        haltQueue(this.file, memory, illegalCommandError(next.address))
        return done(`illegal guest command at GPA 0x${next.address.toString(16)}`)
      case 'command':
        return this.take(next.command, next.words)
    }
  }

  private take(command: Command, words: readonly [bigint, bigint]): ViommuStep {
    const finish: Task = { do: 'finish-command' }
    switch (command.kind) {
      case 'CompletionWait':
        if (command.store && !store64(this.options.memory, command.storeAddress, command.storeData)) {
          haltQueue(this.file, this.options.memory, commandHardwareError(command.storeAddress))
          return done('guest COMPLETION_WAIT outside its memory')
        }
        if (command.interrupt) this.file.report(comWaitInt, comWaitIntEn)
        finishCommand(this.file)
        return done('guest COMPLETION_WAIT')
      case 'InvalidateDevtabEntry':
        this.tasks.push({ do: 'configure', virtualId: command.deviceId }, finish)
        return done('guest INVALIDATE_DEVTAB_ENTRY')
      case 'InvalidateIommuPages':
        this.tasks.push({ do: 'invalidate', words }, finish)
        return done(`guest INVALIDATE_IOMMU_PAGES, DomainID ${command.domainId}`)
      case 'InvalidateIommuAll':
        this.configureAll()
        this.tasks.push({ do: 'invalidate-all' }, finish)
        return done('guest INVALIDATE_IOMMU_ALL')
      default:
        // No interrupt table is virtualised, so there is nothing to drop.
        finishCommand(this.file)
        return done(`guest ${command.kind}`)
    }
  }

  private carryOut(task: Task): ViommuStep {
    switch (task.do) {
      case 'configure':
        return this.configure(task.virtualId)
      case 'attach':
        return this.attach(task.virtualId, task.to, task.nested)
      case 'destroy':
        return this.destroy(task.hwpt)
      case 'invalidate': {
        const done = this.options.context.invalidate(this.options.viommu, guestCommandArray([task.words]))
        return this.result('forward the invalidation', done)
      }
      case 'invalidate-all': {
        const calls = this.guestDomainIds().map((id): Task => ({ do: 'invalidate', words: everythingOf(id) }))
        this.tasks = [...calls, ...this.tasks]
        return done('invalidate all guest DomainIDs')
      }
      case 'finish-command':
        finishCommand(this.file)
        return done('guest command done')
    }
  }

  /** Reads every entry anew. An entry that is still to be read will be read as it then stands: once is enough. */
  private configureAll(): void {
    for (const { virtualId } of this.options.devices) {
      if (this.tasks.some((task) => task.do === 'configure' && task.virtualId === virtualId)) continue
      this.tasks.push({ do: 'configure', virtualId })
    }
  }

  /** The guest has pointed the stopped queue elsewhere: the command that was in work does not move the new head. */
  private abandonCommand(): void {
    this.tasks = this.tasks.filter((task) => task.do !== 'finish-command')
  }

  /** Reads the guest's entry of a device and queues the calls that make it so. */
  private configure(virtualId: number): ViommuStep {
    const device = this.options.devices.find((each) => each.virtualId === virtualId)
    if (device === undefined) return done('the guest has no such device')
    const wanted = wantedFor(this.file, this.options.memory, virtualId)
    const old = this.nested.get(virtualId)
    if (wanted.kind === 'nested') return this.nest(device, wanted, old)
    const to = wanted.kind === 'parent' ? this.options.parent : undefined
    this.queueAttach(virtualId, to, undefined, old)
    return done(wanted.kind === 'parent' ? 'guest tables off' : 'device blocked by the guest')
  }

  private nest(
    device: GuestDevice,
    wanted: Extract<Wanted, { kind: 'nested' }>,
    old: Nested | undefined,
  ): ViommuStep {
    if (old?.entry.every((word, i) => word === wanted.entry[i]) === true)
      return done('the entry is as before')
    const { context, viommu } = this.options
    const made = context.hwptAlloc({
      device: device.device,
      pageTable: viommu,
      data: guestEntryData(wanted.entry),
    })
    if (!made.ok) {
      // What the kernel refuses, hardware would refuse too: the device stays blocked.
      this.queueAttach(device.virtualId, undefined, undefined, old)
      return { what: 'allocate a nested HWPT', effects: [], errno: made.errno }
    }
    const nested = { hwpt: made.value, entry: wanted.entry }
    this.queueAttach(device.virtualId, made.value, nested, old)
    return this.result('allocate a nested HWPT', made)
  }

  /** The next calls come before whatever is queued already. */
  private queueAttach(
    virtualId: number,
    to: ObjectId | undefined,
    nested: Nested | undefined,
    old: Nested | undefined,
  ): void {
    const calls: Task[] = [{ do: 'attach', virtualId, to, nested }]
    if (old !== undefined) calls.push({ do: 'destroy', hwpt: old.hwpt })
    this.tasks = [...calls, ...this.tasks]
  }

  private attach(virtualId: number, to: ObjectId | undefined, nested: Nested | undefined): ViommuStep {
    const { context, devices } = this.options
    const device = devices.find((each) => each.virtualId === virtualId)
    if (device === undefined) return done('the guest has no such device')
    this.retryLeftOver()
    if (nested === undefined) this.nested.delete(virtualId)
    else this.nested.set(virtualId, nested)
    if (to === undefined) return this.result('block the device', context.detach(device.device))
    const bound = context.object(device.device)
    const isAttached = bound?.kind === 'device' && bound.attachments.has(0)
    const moved = isAttached ? context.replace(device.device, to) : context.attach(device.device, to)
    if (!moved.ok) {
      // Without a place to go the device is blocked, and a nested HWPT made for it is of no use.
      this.nested.delete(virtualId)
      this.queueAttach(virtualId, undefined, undefined, nested)
    }
    return this.result(
      nested === undefined ? 'attach to the nest parent' : 'attach to the nested HWPT',
      moved,
    )
  }

  private destroy(hwpt: ObjectId): ViommuStep {
    const destroyed = this.options.context.destroy(hwpt)
    if (!destroyed.ok) this.leftOver = [...this.leftOver, hwpt]
    return this.result(`destroy HWPT ${hwpt}`, destroyed)
  }

  /** A device has moved, so what it kept in use may be free now. */
  private retryLeftOver(): void {
    const again = this.leftOver.map((hwpt): Task => ({ do: 'destroy', hwpt }))
    this.leftOver = []
    this.tasks = [...again, ...this.tasks]
  }

  /** The guest DomainIDs in use, ascending. */
  private guestDomainIds(): number[] {
    const ids = [...this.nested.values()].map(({ entry }) => decodeDte(BigUint64Array.from(entry)).domainId)
    return [...new Set<number>(ids)].sort((a, b) => a - b)
  }

  private result(what: string, outcome: Outcome<unknown>): ViommuStep {
    return outcome.ok
      ? { what, effects: outcome.effects, errno: undefined }
      : { what, effects: [], errno: outcome.errno }
  }
}

const done = (what: string): ViommuStep => ({ what, effects: [], errno: undefined })
