/**
 * A process at the other end of a control connection.
 *
 * @packageDocumentation
 */
import type { ProcessMemory } from './process/process-memory.js'

export interface Client {
  readonly pid: number
  readonly uid: number
  readonly memory: ProcessMemory
  /** Files that its last call has opened; it attaches to them before it calls again. */
  unattached: readonly bigint[]
  /** Its mappings of regions. */
  readonly mappings: Set<bigint>
}

/** A call that was refused, for people. */
export interface RefusedCall {
  readonly pid: number
  /** What was called, with its number: `ioctl 0x3b85`. */
  readonly call: string
  readonly errno: string
  readonly rule: string | undefined
  readonly why: string | undefined
}
