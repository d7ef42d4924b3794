/**
 * What the manual says that a chip does with a case.
 *
 * Where the manual lets a chip answer in more than one way, as after an edit that is not invalidated, it follows the chip
 * that it checks, if that gave one of those answers.
 *
 * @packageDocumentation
 */
import { arenaDevices, arenaFeatures, control, register, status } from '../arena.js'
import { ringBytes, ringLengthLog2 } from '../differential-case.js'
import type { MemoryImage } from '../memory-image.js'
import type { DmaOperation } from '../operations.js'
import type { DmaAnswer } from '../our-machine.js'
import { isGuestNested, isLegalByManual, opcode, opcodeOf, rangeOf } from './command-rules.js'
import { dte1, eventCode } from './entry-bits.js'
import { askManual, entryOf, hasTable, neededFor, outcomeByEntry } from './manual-walk.js'
import type { Asked, DeviceEntry, Outcome } from './manual-walk.js'
import { Reading } from './reading.js'
import { pointersOf, writableBits } from './register-rules.js'
import { Remembered } from './remembered.js'
import type { ChoiceReason } from './remembered.js'

const clearedByOne = status.eventOverflow | status.eventLogInt | status.comWaitInt | 0x68e60n

/** See the file's comment. */
export class ManualMachine extends Reading {
  /** Which DMA, counted from 0, had more than one right answer. */
  readonly choices = new Map<number, ChoiceReason>()
  private readonly remembered = new Remembered()
  /** Devices whose page fault was logged since their entry was invalidated. */
  private readonly reported = new Set<number>()
  private isHalted = false
  private isLogStopped = false

  /** @param followed - what the chip that is checked answered, in order */
  constructor(
    image: MemoryImage,
    private readonly followed: readonly DmaAnswer[],
  ) {
    super(image)
  }

  override store(address: bigint, value: bigint): void {
    this.remembered.edited()
    super.store(address, value)
  }

  writeRegister(offset: number, bytes: 4 | 8, value: bigint): void {
    const at = offset & ~7
    if (at === register.efr) return
    if (at === register.status) {
      if ((offset & 4) === 0) this.clearStatus(value & clearedByOne)
      return
    }
    const isLocked = (at === register.commandBase || at === register.commandHead) && this.commandsRun
    if (isLocked) return
    const before = this.get(register.control)
    this.set(at, this.merged(offset, bytes, value) & writableBits(at))
    for (const pointer of pointersOf(at)) this.set(pointer, 0n)
    if (at === register.control) this.enabled(this.get(at) & ~before)
    this.runCommands()
  }

  readRegister(offset: number): bigint {
    if (offset === register.efr) return arenaFeatures.efr
    if (offset !== register.status) return this.get(offset)
    const running = (this.logRuns ? status.eventLogRun : 0n) | (this.commandsRun ? status.cmdBufRun : 0n)
    return this.get(offset) | running
  }

  dma(operation: DmaOperation): void {
    const { deviceId } = arenaDevices[operation.device] ?? { deviceId: 0 }
    const { iova, write } = operation
    const answer = this.isOn
      ? this.chosen({ deviceId, iova, write })
      : { address: iova, eventCode: 0, q1: 0n }
    if (answer.eventCode !== 0) this.reportRefusal(deviceId, answer)
    this.answer(operation, answer.address)
  }

  /** The followed chip's answer if it is one of the right ones; what memory says now if not. */
  private chosen(asked: Asked): ManualAnswer {
    const answers = this.rightAnswers(asked)
    const followed = this.followed[this.destinations.length]
    const [first = { address: undefined, eventCode: 0, q1: 0n }] = answers
    const other = answers.find((each) => !isSame(each, first))
    if (other !== undefined) this.choices.set(this.destinations.length, other.reason ?? 'not-invalidated')
    return answers.find((each) => followed !== undefined && isSame(each, followed)) ?? first
  }

  /** What memory says now, first; then what caches may say. */
  private rightAnswers(asked: Asked): ManualAnswer[] {
    const entry = entryOf(this.load, this.settings, asked.deviceId)
    const cached = this.remembered.entriesOf(asked.deviceId).flatMap((each) => this.byEntry(each, asked))
    if (!isEntry(entry)) return [{ ...entry, q1: 0n }, ...cached]
    const answers = this.byEntry(entry, asked)
    this.remembered.keepEntry(asked.deviceId, entry)
    return [...answers, ...cached]
  }

  private byEntry(entry: DeviceEntry, asked: Asked): ManualAnswer[] {
    const [, q1] = entry
    const own = { ...askManual(this.load, entry, this.settings, asked), q1 }
    if (outcomeByEntry(entry, this.settings, asked) !== undefined || !hasTable(entry)) return [own]
    const { deviceId, iova } = asked
    const domainId = Number(q1 & dte1.domain)
    const hits = this.remembered.answers(domainId, deviceId, iova, neededFor(asked))
    if (own.address !== undefined && own.page !== undefined) {
      this.remembered.keepPage({ domainId, deviceId, iova, address: own.address, ...own.page })
    }
    return [own, ...hits.map((hit) => ({ ...hit, eventCode: 0, q1 }))]
  }

  private get commandsRun(): boolean {
    const length = ringLengthLog2(this.get(register.commandBase))
    return this.isSet(control.iommuEn | control.cmdBufEn) && !this.isHalted && length >= 8
  }

  private get logRuns(): boolean {
    const length = ringLengthLog2(this.get(register.eventBase))
    return this.isSet(control.iommuEn | control.eventLogEn) && !this.isLogStopped && length >= 8
  }

  private enabled(turnedOn: bigint): void {
    if ((turnedOn & control.cmdBufEn) !== 0n) this.isHalted = false
    if ((turnedOn & control.eventLogEn) !== 0n) {
      this.isLogStopped = false
      this.clearStatus(status.eventOverflow)
    }
  }

  /** Page faults may be suppressed by the entry; other events may not. */
  private reportRefusal(deviceId: number, { eventCode: code, q1 }: ManualAnswer): void {
    if (code === eventCode.pageFault) {
      if ((q1 & dte1.suppressAll) !== 0n) return
      if ((q1 & dte1.suppressFurther) !== 0n && this.reported.has(deviceId)) return
      this.reported.add(deviceId)
    }
    this.log(code, deviceId)
  }

  /** The operands of events are left out: QEMU has none that could be compared. */
  private log(code: number, deviceId: number): void {
    if (!this.logRuns) return
    if (this.isLogFull) {
      this.isLogStopped = true
      this.setStatus(status.eventOverflow)
      return
    }
    this.append((BigInt(code) << 60n) | BigInt(deviceId), 0n)
    this.setStatus(status.eventLogInt)
  }

  private runCommands(): void {
    const inRing = BigInt(ringBytes(this.get(register.commandBase)) - 1)
    while (this.commandsRun) {
      const head = this.get(register.commandHead) & inRing
      if (head === (this.get(register.commandTail) & inRing)) return
      const at = this.placeOf(register.commandBase, head)
      const lo = this.load(at)
      const hi = this.load(at + 8n)
      if (lo === undefined || hi === undefined) this.halt(eventCode.commandError)
      else if (!isLegalByManual(lo, hi)) this.halt(eventCode.illegalCommand)
      else if (!this.carryOut(lo, hi)) this.halt(eventCode.commandError)
      else this.set(register.commandHead, this.next(register.commandBase, head))
    }
  }

  private halt(code: number): void {
    this.isHalted = true
    this.log(code, 0)
  }

  /** False if a store failed. */
  private carryOut(lo: bigint, hi: bigint): boolean {
    const named = Number(lo & 0xffffn)
    switch (opcodeOf(lo)) {
      case opcode.completionWait:
        if ((lo & 1n) !== 0n && !this.image.store64(lo & 0xf_ffff_ffff_fff8n, hi)) return false
        if ((lo & 2n) !== 0n) this.setStatus(status.comWaitInt)
        break
      case opcode.invalidateDevtabEntry:
        this.reported.delete(named)
        this.remembered.forgetEntry(named)
        break
      case opcode.invalidatePages:
        if (!isGuestNested(hi)) this.remembered.forgetPages(Number((lo >> 32n) & 0xffffn), rangeOf(hi))
        break
      case opcode.prefetch:
        if (!isGuestNested(hi)) this.prefetch(named, Number((lo >> 24n) & 0xffn), hi)
        break
      case opcode.invalidateAll:
        this.reported.clear()
        this.remembered.forgetAll()
        break
    }
    return true
  }

  /** Fills caches as reads would, and tells nobody. */
  private prefetch(deviceId: number, count: number, hi: bigint): void {
    const { first, sizeLog2 } = rangeOf(hi)
    for (let n = 0; n < count; n++) {
      const iova = BigInt.asUintN(64, first + (BigInt(n) << BigInt(Math.min(sizeLog2, 30))))
      this.rightAnswers({ deviceId, iova, write: false })
    }
  }
}

/** A right answer, and the second quad-word of the entry that gave it. */
interface ManualAnswer extends DmaAnswer {
  readonly q1: bigint
  /** Of one that memory does not give now. */
  readonly reason?: ChoiceReason
}

const isEntry = (found: DeviceEntry | Outcome): found is DeviceEntry => Array.isArray(found)

const isSame = (a: DmaAnswer, b: DmaAnswer): boolean => a.address === b.address && a.eventCode === b.eventCode
