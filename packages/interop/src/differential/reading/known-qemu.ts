/**
 * What QEMU 11.1 is known to do with a case: the agreed differences, carried out.
 *
 * Facts from hw/i386/amd_iommu.c and from running it, each under its name in `departures.ts`.
 *
 * @packageDocumentation
 */
import { arenaDevices, arenaFeatures, control, register, status } from '../arena.js'
import type { Departure } from '../departures.js'
import type { DmaOperation } from '../operations.js'
import type { MemoryImage } from '../memory-image.js'
import { isLegalByManual, isLegalByQemu, opcode, opcodeOf } from './command-rules.js'
import { dte, eventCode, modeOf } from './entry-bits.js'
import { entryAddress, isBeyondTable, loadEntry } from './manual-walk.js'
import type { DeviceEntry } from './manual-walk.js'
import { Reading } from './reading.js'
import { pointersOf, writableBits } from './register-rules.js'
import { KnownTranslator } from './known-translator.js'

/** Bits of an event that QEMU fills: DeviceID, code, and what it puts below the code. */
const eventOf = (code: number, deviceId: number, flags = 0): bigint =>
  (BigInt(code) << 60n) | (BigInt(flags) << 48n) | BigInt(deviceId)

const clearedByOne = 0x67n
/** EventLogRun, CmdBufRun, PprLogRun. */
const runningBits = 0x98n
const pointerBits = 0x7fff0n

/** See the file's comment. */
export class KnownQemu extends Reading {
  /** Departures of each step so far. */
  readonly noted: Set<Departure>[] = [new Set()]
  private readonly translator = new KnownTranslator(this.load, (departure) => {
    this.note(departure)
  })
  /** The command buffer's own pointers: its registers may show others. */
  private head = 0n
  private tail = 0n

  /** @param passing - whether devices' DMA passes at first */
  constructor(image: MemoryImage, passing: boolean) {
    super(image)
    for (const { deviceId } of arenaDevices) this.translator.translates(deviceId, !passing)
  }

  /** Begins to collect the departures of the next step. */
  nextStep(): void {
    this.noted.push(new Set())
  }

  writeRegister(offset: number, bytes: 4 | 8, value: bigint): void {
    const at = offset & ~7
    if (at === register.efr) return
    const whole = this.merged(offset, bytes, value)
    if (at === register.status) {
      this.writeStatus(offset, bytes, value)
      return
    }
    // QEMU knows this register, and does not store it.
    if (at === register.exclusionBase) {
      if (whole !== 0n) this.note('exclusion-ignored')
      return
    }
    if ((whole & ~writableBits(at)) !== 0n) this.note('reserved-register-bits')
    this.set(at, whole)
    this.written(at, bytes === 8 || (offset & 4) !== 0)
  }

  /** What a write does beside storing. @param isUpper - the upper half was written */
  private written(at: number, isUpper: boolean): void {
    const value = this.get(at)
    if (at === register.commandBase && isUpper) {
      this.head = 0n
      this.tail = 0n
    }
    if (at === register.eventBase) {
      this.set(register.eventHead, 0n)
      this.set(register.eventTail, 0n)
    } else if (pointersOf(at).some((pointer) => this.get(pointer) !== 0n)) this.note('bases-keep-pointers')
    if (at === register.commandHead) this.head = value & pointerBits
    if (at === register.commandTail) this.tail = value & pointerBits
    if (at === register.control || at === register.commandHead || at === register.commandTail)
      this.runCommands()
  }

  /** Other bits than those that writing 1 clears are stored, but those of what runs. */
  private writeStatus(offset: number, bytes: 4 | 8, value: bigint): void {
    const old = this.get(register.status)
    const half = (offset & 4) === 0 ? 0xffff_ffffn : 0xffff_ffff_0000_0000n
    const touched = bytes === 8 ? 0xffff_ffff_ffff_ffffn : half
    const moved = bytes === 4 && (offset & 4) !== 0 ? value << 32n : value
    const stored = moved & touched & ~runningBits
    if ((stored & ~clearedByOne) !== 0n) this.note('reserved-register-bits')
    const kept = old & (clearedByOne | ~touched)
    this.set(register.status, (kept | stored) & ~(moved & clearedByOne))
  }

  readRegister(offset: number): bigint {
    if (offset === register.efr) return arenaFeatures.efr
    if (offset !== register.status) return this.get(offset)
    const running =
      (this.isSet(control.iommuEn | control.eventLogEn) ? status.eventLogRun : 0n) |
      (this.isSet(control.iommuEn | control.cmdBufEn) ? status.cmdBufRun : 0n)
    return this.get(offset) | running
  }

  dma(operation: DmaOperation): void {
    const { deviceId } = arenaDevices[operation.device] ?? { deviceId: 0 }
    const { iova, write, bytes } = operation
    const words = bytes / 4
    const asked = { deviceId, iova, write }
    const answer = this.translator.ask(asked, this.isOn, this.settings)
    // A refused request is split into words, and each asked for anew.
    const times = answer.address === undefined ? words : 1
    for (let n = 0; n < times; n++) {
      for (const code of answer.events) this.logRefusal(code, deviceId, write)
    }
    if (times > 1 && answer.events.length > 0) this.note('event-for-each-word')
    this.answer(operation, answer.address)
  }

  private note(departure: Departure): void {
    this.noted.at(-1)?.add(departure)
  }

  private logRefusal(code: number, deviceId: number, write: boolean): void {
    const hasNoBus = code === eventCode.pageFault || code === eventCode.pageTableError
    if (hasNoBus && deviceId > 0xff) this.note('event-without-bus')
    const interrupt = 8
    const flags = code === eventCode.pageFault ? interrupt | (write ? 2 : 1) : 0
    this.log(eventOf(code, hasNoBus ? deviceId & 0xff : deviceId, flags))
  }

  private log(event: bigint): void {
    if (!this.isSet(control.iommuEn | control.eventLogEn) || this.hasOverflowed) return
    const interrupts = this.isSet(control.eventIntEn)
    if (!interrupts) this.note('log-status-by-interrupt')
    if (this.isLogFull) {
      this.note('log-runs-when-full')
      if (interrupts) this.setStatus(status.eventOverflow)
      return
    }
    this.append(event, 0n)
    if (interrupts) this.setStatus(status.eventLogInt)
  }

  private runCommands(): void {
    if (!this.isSet(control.iommuEn | control.cmdBufEn)) return
    while (this.head !== this.tail) {
      const at = this.placeOf(register.commandBase, this.head)
      const lo = this.load(at)
      const hi = this.load(at + 8n)
      if (lo === undefined || hi === undefined) {
        this.note('fetch-failure-continues')
        this.log(eventOf(eventCode.commandError, 0))
      } else this.carryOut(lo, hi)
      this.head = this.next(register.commandBase, this.head)
      this.set(register.commandHead, this.head)
    }
  }

  private carryOut(lo: bigint, hi: bigint): void {
    const isLegal = isLegalByQemu(lo, hi)
    if (!isLegal) {
      this.note('illegal-command-continues')
      this.log(eventOf(eventCode.illegalCommand, 0, opcodeOf(lo)))
    } else if (!isLegalByManual(lo, hi)) this.note('command-bits-unchecked')
    const named = Number(lo & 0xffffn)
    switch (opcodeOf(lo)) {
      case opcode.completionWait:
        this.completionWait(lo, hi)
        break
      case opcode.invalidateDevtabEntry:
        if (isLegal) this.entryInvalidated(named)
        break
      case opcode.invalidatePages:
        this.translator.forgetDomain(Number((lo >> 32n) & 0xffffn))
        break
      case opcode.invalidateIotlbPages:
        if (isLegal) this.translator.forgetDevice(named, (hi & 1n) !== 0n ? undefined : hi >> 12n)
        break
      case opcode.invalidateAll:
        this.translator.forgetAll()
        break
    }
  }

  private completionWait(lo: bigint, hi: bigint): void {
    if ((lo & 1n) !== 0n && !this.image.store64(lo & 0xf_ffff_ffff_fff8n, hi))
      this.note('store-failure-ignored')
    if ((lo & 2n) !== 0n) this.setStatus(status.comWaitInt)
  }

  /** QEMU reads the entry, and decides whether the device translates from now on. */
  private entryInvalidated(deviceId: number): void {
    if (!arenaDevices.some((device) => device.deviceId === deviceId)) return
    const { deviceTable } = this.settings
    if (isBeyondTable(deviceTable, deviceId)) this.note('table-size-ignored')
    const entry = loadEntry(this.load, entryAddress(deviceTable, deviceId))
    const code = this.translator.troubleOf(entry)
    if (code !== 0) {
      this.note('invalidation-reads-entry')
      this.logRefusal(code, deviceId, false)
    }
    this.translator.translates(deviceId, code !== 0 || mayTranslate(entry))
  }
}

/** Whether QEMU puts the device's DMA through its IOMMU: not with V=0, nor with Mode 0. */
function mayTranslate(entry: DeviceEntry | undefined): boolean {
  if (entry === undefined) return true
  const [q0] = entry
  if ((q0 & dte.valid) === 0n) return false
  return (q0 & dte.translationValid) === 0n || modeOf(q0) !== 0
}
