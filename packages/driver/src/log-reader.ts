/**
 * Reading a log that an IOMMU writes: the event log and the page request (PPR) log.
 *
 * Linux drivers/iommu/amd/iommu.c, `amd_iommu_handle_irq`, `iommu_poll_events`, `iommu_poll_ppr_log`, and init.c,
 * `amd_iommu_restart_log`: the status bits are cleared first, so that an entry that comes later raises them again; then
 * each entry is cleared and given back; and a log that had been full is started again.
 *
 * @packageDocumentation
 */
import { decode, encode, spa } from '@nestwalk/bits'
import type { RecordLayout } from '@nestwalk/bits'
import { controlLayout, eventLogBaseLayout, pprLogBaseLayout, registers, statusLayout } from '@nestwalk/hardware'
import type { IommuPort } from '@nestwalk/hardware'
import type { Plan } from './plan.js'

/** One of the logs, as its registers and bits are called. */
export interface Log {
  readonly base: 'eventLogBase' | 'pprLogBase'
  readonly baseLayout: typeof eventLogBaseLayout | typeof pprLogBaseLayout
  readonly head: 'eventHead' | 'pprHead'
  readonly tail: 'eventTail' | 'pprTail'
  readonly interrupt: 'eventLogInt' | 'pprInt'
  readonly overflow: 'eventOverflow' | 'pprOverflow'
  readonly run: 'eventLogRun' | 'pprLogRun'
  readonly enable: 'eventLogEn' | 'pprLogEn'
  readonly interruptEnable: 'eventIntEn' | 'pprIntEn'
}

export const eventLog: Log = {
  base: 'eventLogBase',
  baseLayout: eventLogBaseLayout,
  head: 'eventHead',
  tail: 'eventTail',
  interrupt: 'eventLogInt',
  overflow: 'eventOverflow',
  run: 'eventLogRun',
  enable: 'eventLogEn',
  interruptEnable: 'eventIntEn',
}

export const pageRequestLog: Log = {
  base: 'pprLogBase',
  baseLayout: pprLogBaseLayout,
  head: 'pprHead',
  tail: 'pprTail',
  interrupt: 'pprInt',
  overflow: 'pprOverflow',
  run: 'pprLogRun',
  enable: 'pprLogEn',
  interruptEnable: 'pprIntEn',
}

/** An entry: two quad-words, the lower one first. */
export type LogEntry = readonly [bigint, bigint]

const entryBytes = 16n
/** Bits 63:60 of an entry, which are zero in one that is not written yet. */
const codeShift = 60n

/** See the file's comment. */
export class LogReader {
  constructor(
    private readonly plan: Plan,
    private readonly port: IommuPort,
    private readonly iommu: number,
    private readonly log: Log,
  ) {}

  /**
   * Takes what the log holds now, and restarts it if it had been full. What comes later is for the next time, so whoever
   * was called by an interrupt goes on until a reading has no effects.
   *
   * @param take - is given each entry, once the place that it stood in belongs to hardware again
   * @returns false if an entry was announced that has not arrived in memory yet: look again (errata 732 and 733)
   */
  read(take: (entry: LogEntry) => void): boolean {
    const status = decode(statusLayout, BigUint64Array.of(this.load('status')))
    const { interrupt, overflow, run } = this.log
    const seen = { [interrupt]: status[interrupt], [overflow]: status[overflow] }
    if (status[interrupt] || status[overflow]) this.store('status', this.word(statusLayout, seen))
    const isComplete = this.takeAll(take)
    if (status[overflow] && !status[run]) this.restart(seen)
    return isComplete
  }

  private takeAll(take: (entry: LogEntry) => void): boolean {
    const { base, lengthLog2 } = decode(this.log.baseLayout, BigUint64Array.of(this.load(this.log.base)))
    const bytes = entryBytes << BigInt(lengthLog2)
    const tail = this.load(this.log.tail) % bytes
    for (let head = this.load(this.log.head) % bytes; head !== tail;) {
      const at = spa(base + head)
      const entry: LogEntry = [this.plan.load(at), this.plan.load(spa(at + 8n))]
      if (entry[0] >> codeShift === 0n) return false
      // An entry that is read before hardware has written it must not look like the one before.
      this.plan.storeHalf(at, 0n, 0n, `${registers[this.log.base].name}, entry cleared`)
      head = (head + entryBytes) % bytes
      this.store(this.log.head, head)
      take(entry)
    }
    return true
  }

  /** Off, and on again: entries were lost, and none is written until then. */
  private restart(seen: Readonly<Record<string, boolean>>): void {
    const { enable, interruptEnable, interrupt } = this.log
    const old = decode(controlLayout, BigUint64Array.of(this.load('control')))
    const control = (changed: Partial<typeof old>): void =>
      this.store('control', this.word(controlLayout, { ...old, ...changed }))
    control({ [enable]: false })
    control({ [enable]: false, [interruptEnable]: false })
    this.store('status', this.word(statusLayout, { ...seen, [interrupt]: false }))
    control({ [enable]: false })
    control({})
  }

  private load(register: keyof typeof registers): bigint {
    return this.port.readMmio(registers[register].offset, 8)
  }

  private store(register: keyof typeof registers, value: bigint): void {
    const { offset, name } = registers[register]
    this.plan.register(this.iommu, offset, value, name)
  }

  private word(layout: RecordLayout, fields: Readonly<Record<string, unknown>>): bigint {
    return encode(layout, fields as never)[0] ?? 0n
  }
}
