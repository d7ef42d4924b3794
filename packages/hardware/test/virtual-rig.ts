/** The parts of a chip with a hardware vIOMMU, put together as the chip does, and guests in it for tests to work on. */
import type { CommandOutcome } from '../src/queue/command-outcome.js'
import { encode } from '@nestwalk/bits'
import { deviceId, domainId, load64, SparseMemory, store64 } from '../src/index.js'
import type { FeatureRegisters, SwitchChoices } from '../src/index.js'
import { createParts, forkParts } from '../src/chip-parts.js'
import type { ChipParts } from '../src/chip-parts.js'
import { entriesOf } from '../src/iotlb-entries.js'
import { Commands } from '../src/queue/commands.js'
import { Translator } from '../src/walk/translate.js'
import {
  deviceMapControlLayout,
  domainMapControlLayout,
  VirtualIommus,
  VirtualState,
} from '../src/virtual/index.js'
import { defaultVirtualSwitches } from '../src/virtual/index.js'
import type { VirtualOptions, VirtualSwitches } from '../src/virtual/index.js'
import { place, register } from './chip.js'
import type { Dte } from './chip.js'

import {
  behind,
  guestRoot,
  guestSpa,
  hostDte,
  onControl,
  ownDeviceId,
  ownRoot,
  page,
  privateAt,
  ring,
  ringOn,
  translateDevice,
  vfc,
  virtualControl,
  virtualFeatures,
} from './virtual-places.js'
import type { Pair } from './virtual-places.js'
export * from './virtual-places.js'

const rights = 3n << 61n

export interface RigOptions extends VirtualOptions {
  readonly features?: FeatureRegisters
  readonly switches?: Partial<SwitchChoices>
  readonly choices?: Partial<VirtualSwitches>
  readonly control?: bigint
  readonly sizeBytes?: number
}

export class VirtualRig {
  readonly translator: Translator
  readonly virtual: VirtualIommus
  readonly commands: Commands

  private constructor(
    readonly parts: ChipParts,
    readonly state: VirtualState,
    private readonly choices: VirtualSwitches,
    private nextTable: bigint,
  ) {
    const { memory, registers, features, switches, caches, deviceTableCache, pci } = parts
    const platform = { snp: false, translationRangeReserved: false, tablePageCache: false }
    this.translator = new Translator(
      memory,
      registers,
      caches,
      deviceTableCache,
      features,
      switches,
      platform,
    )
    this.virtual = new VirtualIommus({
      ...parts,
      choices,
      state,
      deviceTable: this.translator.deviceTable,
      iommuDeviceId: pci.identity.iommuDeviceId,
    })
    const { translator, virtual } = this
    this.commands = new Commands({ ...parts, translator, viommu: virtual, remoteIotlbs: true })
  }

  static create(options: RigOptions = {}): VirtualRig {
    const memory = SparseMemory.create(options.sizeBytes ?? 2 ** 40)
    const parts = createParts({
      memory,
      features: options.features ?? virtualFeatures,
      switches: options.switches ?? {},
      pci: { iommuDeviceId: ownDeviceId },
    })
    const state = VirtualState.create(memory.words, options)
    const rig = new VirtualRig(parts, state, { ...defaultVirtualSwitches, ...options.choices }, 0xa000000n)
    rig.writeMmio(register.deviceTableBase, place.deviceTable | 0x1ffn)
    rig.writeMmio(register.commandBase, place.commandRing | (8n << 56n))
    rig.writeMmio(register.eventBase, place.eventLog | (8n << 56n))
    rig.setDte(ownDeviceId, hostDte(ownRoot, 0x77))
    rig.writeMmio(register.control, options.control ?? onControl)
    return rig
  }

  get memory(): SparseMemory {
    return this.parts.memory
  }

  fork(): VirtualRig {
    const memory = this.memory.fork()
    return new VirtualRig(
      forkParts(this.parts, memory),
      this.state.forkOnto(memory.words),
      this.choices,
      this.nextTable,
    )
  }

  fingerprint(): string {
    return this.memory.words.fingerprint().join()
  }

  writeMmio(offset: number, value: bigint): void {
    this.memory.words.activate()
    if (this.parts.registers.writeMmio(offset, 8, value)) this.translator.controlChanged()
  }

  readMmio(offset: number): bigint {
    return this.parts.registers.readMmio(offset, 8)
  }

  put(...entries: readonly Pair[]): void {
    for (const [address, value] of entries) store64(this.memory, address, value)
  }

  load(address: bigint): bigint {
    return load64(this.memory, address) ?? -1n
  }

  setDte(deviceId: number, words: Dte): void {
    words.forEach((word, n) => this.put([place.deviceTable + BigInt(deviceId * 32 + n * 8), word]))
    this.memory.words.activate()
    this.parts.deviceTableCache.invalidate(deviceId)
  }

  /** Maps a page of 4 KiB in a table of three levels. */
  map(root: bigint, address: bigint, spa: bigint, granted = rights): void {
    let table = root
    for (const level of [3, 2]) {
      const at = table + (((address >> BigInt(3 + 9 * level)) & 0x1ffn) << 3n)
      if (this.load(at) === 0n) {
        this.put([at, rights | this.nextTable | (BigInt(level - 1) << 9n) | 1n])
        this.nextTable += 0x1000n
      }
      table = this.load(at) & 0xffffffffff000n
    }
    this.put([table + (((address >> 12n) & 0x1ffn) << 3n), granted | spa | 1n])
  }

  mapPrivate(address: bigint, bytes: bigint, granted = rights): void {
    for (let at = 0n; at < bytes; at += 0x1000n) {
      this.map(ownRoot, address + at, behind(address + at) & 0xffffffffff000n, granted)
    }
  }

  /** Takes a page out of private memory, or makes it read-only. */
  unmapPrivate(address: bigint, granted = 0n): void {
    this.map(ownRoot, address, behind(address) & 0xffffffffff000n, granted)
    if (granted === 0n) this.clearLeaf(ownRoot, address)
  }

  /** Points a private page to where there is no memory. */
  losePrivate(address: bigint): void {
    this.map(ownRoot, address, 0xfffff00000000n)
  }

  mapGuest(guestId: number, gpa: bigint, granted = rights): void {
    this.map(guestRoot(guestId), gpa, guestSpa(guestId, gpa), granted)
  }

  loseGuest(guestId: number, gpa: bigint): void {
    this.map(guestRoot(guestId), gpa, 0xfffff00000000n)
  }

  unmapGuest(guestId: number, gpa: bigint): void {
    this.clearLeaf(guestRoot(guestId), gpa)
  }

  /** A guest with all it needs: maps, rings, 1 MiB of memory, queues that run. */
  addGuest(guestId: number): void {
    this.mapPrivate(privateAt.devices(guestId), 0x100000n)
    this.mapPrivate(privateAt.domains(guestId), 0x80000n)
    const { commands, events, eventsB, ppr, pprB } = privateAt
    for (const at of [commands, events, eventsB, ppr, pprB]) this.mapPrivate(at(guestId), 0x2000n)
    for (let gpa = 0n; gpa < 0x100000n; gpa += 0x1000n) this.mapGuest(guestId, gpa)
    this.setDte(translateDevice(guestId), hostDte(guestRoot(guestId), 0x80 + guestId))
    this.control(guestId, vfc.misc, BigInt(translateDevice(guestId)) << 16n)
    this.control(guestId, vfc.eventB, ring.eventsB)
    this.control(guestId, vfc.pprB, ring.pprB)
    this.control(guestId, vfc.command, ring.commands | ringOn)
    this.control(guestId, vfc.event, ring.events | ringOn | 0x80n)
    this.control(guestId, vfc.ppr, (ring.ppr << 4n) | ringOn | 0x80n | 0x400n)
  }

  control(guestId: number, offset: number, value: bigint): void {
    this.virtual.writeVfControl(guestId * 64 + offset, 8, value)
  }

  readControl(guestId: number, offset: number): bigint {
    return this.virtual.readVfControl(guestId * 64 + offset, 8)
  }

  page(guestId: number, offset: number): bigint {
    return this.virtual.readVf(guestId * 4096 + offset, 8)
  }

  setPage(guestId: number, offset: number, value: bigint): void {
    this.virtual.writeVf(guestId * 4096 + offset, 8, value)
  }

  mapDevice(guestId: number, guest: number, host: number, valid = true): void {
    const ids = { guestDeviceId: deviceId(guest), hostDeviceId: deviceId(host) }
    const [entry = 0n] = encode(deviceMapControlLayout, { ...ids, valid, write: true })
    this.control(guestId, vfc.device, entry)
  }

  mapDomain(guestId: number, guest: number, host: number, valid = true): void {
    const ids = { guestDomainId: domainId(guest), hostDomainId: domainId(host) }
    const [entry = 0n] = encode(domainMapControlLayout, { ...ids, valid, write: true })
    this.control(guestId, vfc.domain, entry)
  }

  step(guestId: number): boolean {
    return this.virtual.stepGuest(guestId, this.commands)
  }

  /** SPA of the start of a guest's command ring, wherever the mode has it. */
  commandRing(guestId: number): bigint {
    const isNested = (this.readMmio(register.control) & virtualControl.guestBuffersNested) !== 0n
    return isNested ? guestSpa(guestId, ring.commands) : behind(privateAt.commands(guestId))
  }

  /** Puts commands into a guest's ring and moves the tail. */
  enqueue(guestId: number, ...commands: readonly Pair[]): void {
    for (const [lo, hi] of commands) {
      const tail = this.page(guestId, page.commandTail)
      const at = this.commandRing(guestId) + tail
      this.put([at, lo], [at + 8n, hi])
      this.setPage(guestId, page.commandTail, (tail + 16n) & 0xfffn)
    }
  }

  /** Has a guest's commands carried out; tells how many steps moved. */
  command(guestId: number, ...commands: readonly Pair[]): number {
    this.enqueue(guestId, ...commands)
    let steps = 0
    while (this.step(guestId)) steps++
    return steps
  }

  /** Has one of the host's commands carried out. */
  hostCommand([lo, hi]: Pair): CommandOutcome {
    const half = (value: bigint): number => Number(BigInt.asIntN(32, value))
    return this.commands.carryOut(half(lo), half(lo >> 32n), half(hi), half(hi >> 32n), 0, 0)
  }

  /** Takes events out of the host's log. */
  hostEvents(): Pair[] {
    const head = this.readMmio(register.eventHead)
    const tail = this.readMmio(register.eventTail)
    this.writeMmio(register.eventHead, tail)
    return this.entries(place.eventLog, head, tail)
  }

  /** Takes events out of a guest's log. */
  guestEvents(guestId: number): Pair[] {
    const isNested = (this.readMmio(register.control) & virtualControl.guestBuffersNested) !== 0n
    const base = isNested ? guestSpa(guestId, ring.events) : behind(privateAt.events(guestId))
    const head = this.page(guestId, page.eventHead)
    const tail = this.page(guestId, page.eventTail)
    this.setPage(guestId, page.eventHead, tail)
    return this.entries(base, head, tail)
  }

  /** Starts a guest's queue again after an error, past the command that it stopped at. */
  restart(guestId: number): void {
    const control = this.readControl(guestId, vfc.command)
    this.control(guestId, vfc.command, control & ~0x100n)
    this.setPage(guestId, page.commandHead, this.page(guestId, page.commandTail))
    this.control(guestId, vfc.command, control)
  }

  /** Slot of a device's entry, read if it has to be. */
  slot(deviceId: number): number {
    this.memory.words.activate()
    return this.translator.deviceTable.entryOf(deviceId, false)
  }

  /** Fills the IOTLB by a request for a page of the device's table; the host's DomainID tags it. */
  touch(deviceId: number, iova: bigint): void {
    this.memory.words.activate()
    this.translator.translate(deviceId, -1, Number(BigInt.asIntN(32, iova)), Number(iova >> 32n), 0)
  }

  /** DomainIDs of the live IOTLB entries, each as often as it is there. */
  cachedDomains(): number[] {
    this.memory.words.activate()
    const found: number[] = []
    for (const { domainId } of entriesOf(this.parts.caches.iotlb)) found.push(domainId)
    return found.sort((a, b) => a - b)
  }

  cachedDevices(): number[] {
    this.memory.words.activate()
    return this.parts.deviceTableCache.deviceIds()
  }

  private entries(base: bigint, head: bigint, tail: bigint): Pair[] {
    const found: Pair[] = []
    for (let at = head; at !== tail; at = (at + 16n) & 0xfffn) {
      found.push([this.load(base + at), this.load(base + at + 8n)])
    }
    return found
  }

  private clearLeaf(root: bigint, address: bigint): void {
    let table = root
    for (const level of [3, 2]) {
      table = this.load(table + (((address >> BigInt(3 + 9 * level)) & 0x1ffn) << 3n)) & 0xffffffffff000n
    }
    this.put([table + (((address >> 12n) & 0x1ffn) << 3n), 0n])
  }
}
