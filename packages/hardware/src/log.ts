/**
 * The three logs that hardware writes: events, page requests, guest interrupts. Each names its registers and bits.
 *
 * AMD 48882 rev 3.10, event log, PPR log, guest virtual APIC log; the first two may be doubled.
 *
 * @packageDocumentation
 */
import { controlLo, mmio, status } from './mmio.js'

/** The registers of one ring. */
export interface LogRing {
  readonly base: number
  readonly head: number
  readonly tail: number
  /** Status bit that tells of an entry that found the ring full. */
  readonly overflow: number
}

/** One log: one ring, or two that take turns. */
export interface Log {
  /** Which of the three: 0, 1, 2. */
  readonly index: number
  /** Control bits, low word. */
  readonly enable: number
  readonly interruptEnable: number
  readonly interruptStatus: number
  readonly runStatus: number
  /** Status bit that tells that ring B is in use. */
  readonly activeStatus: number
  readonly a: LogRing
  /** Undefined for a log that cannot be doubled. */
  readonly b: LogRing | undefined
  /** Which of the IOMMU's interrupts tells of it; see {@link interruptLine}. */
  readonly line: number
}

/** The interrupts that an IOMMU raises for itself, as bits. */
export const interruptLine = { general: 1, ppr: 2, ga: 4 } as const

export const eventLog: Log = {
  index: 0,
  enable: controlLo.eventLogEn,
  interruptEnable: controlLo.eventIntEn,
  interruptStatus: status.eventLogInt,
  runStatus: status.eventLogRun,
  activeStatus: status.eventLogActive,
  a: {
    base: mmio.eventBase,
    head: mmio.eventHead,
    tail: mmio.eventTail,
    overflow: status.eventOverflow,
  },
  b: {
    base: mmio.eventBBase,
    head: mmio.eventBHead,
    tail: mmio.eventBTail,
    overflow: status.eventOverflowB,
  },
  line: interruptLine.general,
}

export const pprLog: Log = {
  index: 1,
  enable: controlLo.pprLogEn,
  interruptEnable: controlLo.pprIntEn,
  interruptStatus: status.pprInt,
  runStatus: status.pprLogRun,
  activeStatus: status.pprLogActive,
  a: { base: mmio.pprBase, head: mmio.pprHead, tail: mmio.pprTail, overflow: status.pprOverflow },
  b: { base: mmio.pprBBase, head: mmio.pprBHead, tail: mmio.pprBTail, overflow: status.pprOverflowB },
  line: interruptLine.ppr,
}

export const gaLog: Log = {
  index: 2,
  enable: controlLo.gaLogEn,
  interruptEnable: controlLo.gaIntEn,
  interruptStatus: status.gaInt,
  runStatus: status.gaLogRun,
  activeStatus: 0,
  a: { base: mmio.gaBase, head: mmio.gaHead, tail: mmio.gaTail, overflow: status.gaOverflow },
  b: undefined,
  line: interruptLine.ga,
}

export const logs = [eventLog, pprLog, gaLog] as const
