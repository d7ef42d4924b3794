/**
 * A program at the other end of a connection, as the one who makes a call.
 *
 * @packageDocumentation
 */
import { readFileSync } from 'node:fs'
import type { CallingProcess, Capabilities, ForeignFile, OpenFile } from '@nestwalk/iommufd'
import type { CallMemory } from './call-memory.js'
import type { ForeignFiles } from './foreign-file.js'

/** Linux include/uapi/linux/capability.h. */
const capabilityBit = { ipcLock: 14n, rawIo: 17n, sysResource: 24n } as const

/** RLIM_INFINITY. */
const unlimited = (1n << 64n) - 1n

/** What a mask of effective capabilities holds of those that matter. */
export function capabilitiesOf(mask: bigint): Capabilities {
  const has = (bit: bigint): boolean => (mask & (1n << bit)) !== 0n
  return {
    ipcLock: has(capabilityBit.ipcLock),
    sysResource: has(capabilityBit.sysResource),
    rawIo: has(capabilityBit.rawIo),
  }
}

export interface CallerParts {
  readonly pid: number
  readonly uid: number
  readonly capabilities: bigint
  readonly memory: CallMemory
  /** The file of ours that a descriptor stands for. */
  readonly caught: (descriptor: number) => OpenFile | undefined
  readonly foreign: ForeignFiles
}

/** See the file's comment. Good for one call. */
export class Caller implements CallingProcess<OpenFile> {
  readonly uid: number
  readonly memory: CallMemory

  constructor(private readonly parts: CallerParts) {
    this.uid = parts.uid
    this.memory = parts.memory
  }

  get capabilities(): Capabilities {
    return capabilitiesOf(this.parts.capabilities)
  }

  /** RLIMIT_MEMLOCK: the soft limit. */
  get lockableBytes(): bigint {
    return lockableBytesOf(this.parts.pid)
  }

  file(descriptor: number): OpenFile | ForeignFile | undefined {
    const { pid, caught, foreign } = this.parts
    return caught(descriptor) ?? foreign.find(pid, descriptor)
  }
}

function lockableBytesOf(pid: number): bigint {
  try {
    const limits = readFileSync(`/proc/${pid}/limits`, 'latin1')
    const soft = /^Max locked memory\s+(\d+|unlimited)/m.exec(limits)?.[1] ?? '0'
    return soft === 'unlimited' ? unlimited : BigInt(soft)
  } catch {
    return 0n
  }
}
