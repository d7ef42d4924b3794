/**
 * The logs of a guest: what says that one runs, where its rings are, and how an entry is written.
 *
 * Rests on AMD's posted kernel series for the hardware vIOMMU, not on shipped software: the series shows the registers.
 * Full rings, overflow, restart and doubled logs are taken to be as AMD 48882 rev 3.10 has them for the host's logs.
 *
 * @packageDocumentation
 */
import { interruptLine } from '../log.js'
import { status } from '../mmio.js'
import type { Guest } from './guest-records.js'
import { guestWord } from './guest-records.js'
import { queueEnable, queueInterruptEnable, vf, vfControl } from './guest-registers.js'
import { errorSource } from './host-events.js'
import { privateArea } from './private-space.js'
import type { PrivateArea } from './private-space.js'

/** One ring of a log. */
export interface GuestRing {
  /** Offsets in the guest's page. */
  readonly head: number
  readonly tail: number
  /** Status bit that tells of an entry that found the ring full. */
  readonly overflow: number
  /** Lowest bit of the length code in the log's control register. */
  readonly lengthShift: number
  /** Control register with the ring's base, and the lowest bit of base bits 51:12 there less twelve. */
  readonly base: number
  readonly baseShift: number
  readonly area: PrivateArea
}

/** One log: two rings, of which one is in use. */
export interface GuestLog {
  /** Control register. */
  readonly control: number
  readonly interruptStatus: number
  readonly runStatus: number
  readonly activeStatus: number
  /** Words of the record. */
  readonly stopped: number
  readonly inB: number
  /** Lowest bit of the dual mode in the control register. */
  readonly dualShift: number
  readonly a: GuestRing
  readonly b: GuestRing
  /** Bit of {@link interruptLine}. */
  readonly line: number
  /** Source of VIOMMU_HARDWARE_ERROR. */
  readonly source: number
}

export const guestEventLog: GuestLog = {
  control: vfControl.event,
  interruptStatus: status.eventLogInt,
  runStatus: status.eventLogRun,
  activeStatus: status.eventLogActive,
  stopped: guestWord.eventStopped,
  inB: guestWord.eventInB,
  dualShift: 10,
  a: {
    head: vf.eventHead,
    tail: vf.eventTail,
    overflow: status.eventOverflow,
    lengthShift: 0,
    base: vfControl.event,
    baseShift: 0,
    area: privateArea.eventLog,
  },
  b: {
    head: vf.eventBHead,
    tail: vf.eventBTail,
    overflow: status.eventOverflowB,
    lengthShift: 4,
    base: vfControl.eventBBase,
    baseShift: 0,
    area: privateArea.eventLogB,
  },
  line: interruptLine.general,
  source: errorSource.eventLog,
}

export const guestPprLog: GuestLog = {
  control: vfControl.ppr,
  interruptStatus: status.pprInt,
  runStatus: status.pprLogRun,
  activeStatus: status.pprLogActive,
  stopped: guestWord.pprStopped,
  inB: guestWord.pprInB,
  dualShift: 11,
  a: {
    head: vf.pprHead,
    tail: vf.pprTail,
    overflow: status.pprOverflow,
    lengthShift: 0,
    base: vfControl.ppr,
    baseShift: 4,
    area: privateArea.pprLog,
  },
  b: {
    head: vf.pprBHead,
    tail: vf.pprBTail,
    overflow: status.pprOverflowB,
    lengthShift: 4,
    base: vfControl.pprBBase,
    baseShift: 0,
    area: privateArea.pprLogB,
  },
  line: interruptLine.ppr,
  source: errorSource.pprLog,
}

export const guestLogs = [guestEventLog, guestPprLog] as const

/** Length code of a ring: 8 to 15 are legal, for 2^code entries of 16 bytes. */
const lengthOf = (guest: Guest, log: GuestLog, ring: GuestRing): number =>
  (guest.controlLo(log.control) >>> ring.lengthShift) & 15

/** The ring that is in use. */
export const ringOf = (guest: Guest, log: GuestLog): GuestRing => (guest.get(log.inB) === 1 ? log.b : log.a)

/** What the guest wants: the log is enabled, and its ring has a legal length. */
export const isOn = (guest: Guest, log: GuestLog): boolean =>
  (guest.controlLo(log.control) & queueEnable) !== 0 && lengthOf(guest, log, ringOf(guest, log)) >= 8

export const isStopped = (guest: Guest, log: GuestLog): boolean => guest.get(log.stopped) === 1

/** 0 ring A, 1 ring B, 2 both in turn. */
export const dualMode = (guest: Guest, log: GuestLog): number =>
  (guest.controlLo(log.control) >>> log.dualShift) & 3

/** Low word of a ring's base, a GPA. */
export const baseLo = (guest: Guest, { base, baseShift }: GuestRing): number =>
  baseShift === 0
    ? guest.controlLo(base) & 0xfffff000
    : ((guest.controlLo(base) >>> baseShift) | (guest.controlHi(base) << (32 - baseShift))) & 0xfffff000

export const baseHi = (guest: Guest, { base, baseShift }: GuestRing): number =>
  (guest.controlHi(base) >>> baseShift) & 0xfffff

/** Bytes from the ring's start to where the next entry goes. */
export const tailOf = (guest: Guest, log: GuestLog, ring: GuestRing): number =>
  guest.page(ring.tail) & maskOf(guest, log, ring)

export function isFull(guest: Guest, log: GuestLog, ring: GuestRing): boolean {
  const mask = maskOf(guest, log, ring)
  return ((guest.page(ring.tail) + 16 - guest.page(ring.head)) & mask) === 0
}

/** The entry at the tail has been written: moves on and tells the guest. */
export function advance(guest: Guest, log: GuestLog, ring: GuestRing): void {
  guest.setPage(ring.tail, (guest.page(ring.tail) + 16) & maskOf(guest, log, ring))
  report(guest, log, log.interruptStatus)
}

/**
 * The ring is full: tells the guest.
 *
 * @returns whether the log goes on in its other ring
 */
export function overflow(guest: Guest, log: GuestLog, mayDouble: boolean): boolean {
  const full = ringOf(guest, log)
  report(guest, log, full.overflow)
  const other = full === log.a ? log.b : log.a
  const swaps =
    mayDouble &&
    dualMode(guest, log) === 2 &&
    (guest.page(vf.status) & other.overflow) === 0 &&
    lengthOf(guest, log, other) >= 8
  if (swaps) guest.set(log.inB, other === log.b ? 1 : 0)
  else guest.set(log.stopped, 1)
  return swaps
}

function report(guest: Guest, log: GuestLog, bits: number): void {
  guest.setPage(vf.status, guest.page(vf.status) | bits)
  if ((guest.controlLo(log.control) & queueInterruptEnable) !== 0) {
    guest.set(guestWord.interrupts, guest.get(guestWord.interrupts) | log.line)
  }
}

const maskOf = (guest: Guest, log: GuestLog, ring: GuestRing): number =>
  ((16 << lengthOf(guest, log, ring)) - 1) & ~15
