/**
 * What a chip's performance counters are told, and their registers as software meets them.
 *
 * AMD 48882 rev 3.10, performance counters.
 *
 * @packageDocumentation
 */
import type { ChipParts } from './chip-parts.js'
import { counterSource } from './counters.js'
import type { AccessBytes } from './port.js'
import { logEvent } from './queue/event-log.js'
import { outcome, request, resultWord, source } from './walk/answer.js'
import { entryValid } from './walk/device-entry.js'
import { eventCode } from './walk/fault.js'
import type { Translator } from './walk/translate.js'

/** See the file's comment. */
export class ChipCounting {
  constructor(
    private readonly parts: ChipParts,
    private readonly translator: Translator,
  ) {}

  /** Whether any counter counts. */
  get isOn(): boolean {
    return this.parts.counters.isOn
  }

  readMmio(offset: number, bytes: AccessBytes): bigint {
    if (offset % bytes !== 0) return 0n
    const [lo, hi] = this.parts.counters.read(offset & ~7)
    if (bytes === 4) return BigInt(((offset & 4) === 0 ? lo : hi) >>> 0)
    return (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0)
  }

  writeMmio(offset: number, bytes: AccessBytes, value: bigint): void {
    if (offset % bytes !== 0) return
    const at = offset & ~7
    const [oldLo, oldHi] = this.parts.counters.read(at)
    const first = Number(BigInt.asIntN(32, value))
    if (bytes === 8) this.parts.counters.write(at, first, Number(BigInt.asIntN(32, value >> 32n)))
    else if ((offset & 4) === 0) this.parts.counters.write(at, first, oldHi)
    else this.parts.counters.write(at, oldLo, first)
  }

  count(what: number, amount: number, deviceId: number, domainId: number, pasid: number): void {
    const { counters, registers, memory } = this.parts
    if (!counters.isOn) return
    counters.count(what, amount, deviceId, domainId, pasid, (note) => {
      logEvent(registers, memory, Int32Array.of(0, eventCode.eventCounterZero << 28, 0, note))
    })
  }

  /** Counts what the translation just made amounts to. */
  countTranslation(became: number, deviceId: number, pasid: number, flags: number): void {
    const { result, deviceTable } = this.translator
    const reads = result[resultWord.reads]!
    const domainId = this.domainOf(deviceId)
    const tell = (what: number, amount = 1): void => this.count(what, amount, deviceId, domainId, pasid)
    // A prefetch looks things up, but no request is there to pass or to be aborted.
    const isRequest = (flags & request.prefetch) === 0
    if (isRequest && became === outcome.forwarded) tell(this.passKind(flags))
    if (isRequest && became === outcome.faulted) tell(counterSource.targetAbort)
    if (deviceTable.wasCached !== null) {
      tell(deviceTable.wasCached ? counterSource.dteHit : counterSource.dteMiss)
    }
    const from = result[resultWord.source]
    if (from !== source.walk && from !== source.iotlb) return
    tell(counterSource.translations)
    tell(from === source.iotlb ? counterSource.tlbHit : counterSource.tlbMiss)
    // What follows is about walks; what was counted for an earlier one is not counted again.
    if (from === source.iotlb) return
    const { hostReads, directoryHits, directoryMisses } = this.translator
    tell(counterSource.directoryHit, directoryHits)
    tell(counterSource.directoryMiss, directoryMisses)
    tell(counterSource.tableReads, reads)
    tell(counterSource.hostTableReads, Math.min(hostReads, reads))
    tell(counterSource.guestTableReads, Math.max(reads - hostReads, 0))
  }

  countInterrupt(deviceId: number): void {
    const hit = this.translator.deviceTable.wasCached
    if (hit === null) return
    const what = hit ? counterSource.interruptDteHit : counterSource.interruptDteMiss
    this.count(what, 1, deviceId, this.domainOf(deviceId), -1)
  }

  /**
   * Counts a command that was taken from the ring. One that halted the queue was not: the head still stands on it.
   *
   * @param opcode - of the command
   */
  countCommand(opcode: number): void {
    if (!this.parts.registers.commandsRun) return
    this.count(counterSource.commands, 1, -1, -1, -1)
    if (opcode >= 2 && opcode !== 6 && opcode !== 7 && opcode <= 8)
      this.count(counterSource.invalidations, 1, -1, -1, -1)
    if (opcode === 3 || opcode === 8) this.count(counterSource.tlbInvalidations, 1, -1, -1, -1)
  }

  /** DomainID of the device's entry; -1 if none was looked up, or it has V=0. */
  private domainOf(deviceId: number): number {
    if (this.translator.deviceTable.wasCached === null) return -1
    const { deviceTableCache, memory } = this.parts
    const pool = memory.words.array
    const slot = deviceTableCache.slotOf(deviceId)
    return (pool[slot]! & entryValid) === 0 ? -1 : pool[slot + 2]! & 0xffff
  }

  private passKind(flags: number): number {
    if ((flags & request.translated) !== 0) return counterSource.passedPretranslated
    const excluded = this.translator.result[resultWord.source] === source.exclusion
    return excluded ? counterSource.passedExcluded : counterSource.passedUntranslated
  }
}
