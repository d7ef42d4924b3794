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
import type { Decoded } from '@nestwalk/bits'
import { controlLayout, eventLogBaseLayout, registers, statusLayout } from '@nestwalk/hardware'
import type { IommuPort } from '@nestwalk/hardware'
import type { Plan } from './plan.js'

type RegisterName = keyof typeof registers

const statusBit = (bits: Partial<Decoded<typeof statusLayout>>): bigint => encode(statusLayout, bits)[0] ?? 0n
const controlBit = (bits: Partial<Decoded<typeof controlLayout>>): bigint =>
  encode(controlLayout, bits)[0] ?? 0n

/** One of the logs: its registers, and its bits in Status and Control. */
interface Log {
  readonly base: RegisterName
  readonly head: RegisterName
  readonly tail: RegisterName
  readonly status: { readonly interrupt: bigint; readonly overflow: bigint; readonly run: bigint }
  readonly control: { readonly log: bigint; readonly interrupt: bigint }
}

export const eventLog: Log = {
  base: 'eventLogBase',
  head: 'eventHead',
  tail: 'eventTail',
  status: {
    interrupt: statusBit({ eventLogInt: true }),
    overflow: statusBit({ eventOverflow: true }),
    run: statusBit({ eventLogRun: true }),
  },
  control: { log: controlBit({ eventLogEn: true }), interrupt: controlBit({ eventIntEn: true }) },
}

export const pageRequestLog: Log = {
  base: 'pprLogBase',
  head: 'pprHead',
  tail: 'pprTail',
  status: {
    interrupt: statusBit({ pprInt: true }),
    overflow: statusBit({ pprOverflow: true }),
    run: statusBit({ pprLogRun: true }),
  },
  control: { log: controlBit({ pprLogEn: true }), interrupt: controlBit({ pprIntEn: true }) },
}

/** An entry: two quad-words, the lower one first. */
export type LogEntry = readonly [bigint, bigint]

const entryBytes = 16n
/** Bits 63:60 of an entry are its code, which is 0 as long as it is not written. */
const codeShift = 60n

/** See the file's comment. It lives for one operation. */
export class LogReader {
  constructor(
    private readonly plan: Plan,
    private readonly port: IommuPort,
    private readonly iommu: number,
    private readonly log: Log,
  ) {}

  /**
   * Takes what the log holds now, and restarts it if it had been full.
   *
   * @param take - is given each entry, once the place that it stood in belongs to hardware again
   * @returns false if an entry was announced that has not arrived in memory yet: look again (errata 732 and 733)
   */
  read(take: (entry: LogEntry) => void): boolean {
    const { interrupt, overflow, run } = this.log.status
    const status = this.load('status')
    const seen = status & (interrupt | overflow)
    if (seen !== 0n) this.store('status', seen)
    const isComplete = this.takeAll(take)
    if ((status & overflow) !== 0n && (status & run) === 0n) this.restart()
    return isComplete
  }

  private takeAll(take: (entry: LogEntry) => void): boolean {
    // Logs are coded alike. What bring-up wrote says where this one lies.
    const { base, lengthLog2 } = decode(eventLogBaseLayout, BigUint64Array.of(this.load(this.log.base)))
    const bytes = entryBytes << BigInt(lengthLog2)
    const tail = this.load(this.log.tail) % bytes
    for (let head = this.load(this.log.head) % bytes; head !== tail;) {
      const at = spa(base + head)
      const entry: LogEntry = [this.plan.load(at), this.plan.load(spa(at + 8n))]
      if (entry[0] >> codeShift === 0n) return false
      // The next entry in this place must not be taken for written before it is.
      this.plan.storeHalf(at, 0n, 0n, 'log entry, cleared')
      head = (head + entryBytes) % bytes
      this.store(this.log.head, head)
      take(entry)
    }
    return true
  }

  /** Off and on: entries were lost, and no more are written until then. */
  private restart(): void {
    const { log, interrupt } = this.log.control
    const control = this.load('control')
    this.store('control', control & ~log)
    this.store('control', control & ~log & ~interrupt)
    this.store('status', this.log.status.overflow)
    this.store('control', control & ~log)
    this.store('control', control)
  }

  private load(register: RegisterName): bigint {
    return this.port.readMmio(registers[register].offset, 8)
  }

  private store(register: RegisterName, value: bigint): void {
    const { offset, name } = registers[register]
    this.plan.register(this.iommu, offset, value, name)
  }
}
