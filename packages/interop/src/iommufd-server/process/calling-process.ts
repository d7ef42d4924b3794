/**
 * A program at the other end of a connection, as the one who makes a call.
 *
 * @packageDocumentation
 */
import { readFileSync } from 'node:fs'
import type { CallingProcess, Capabilities, ForeignFile, OpenFile } from '@nestwalk/iommufd'
import type { CallMemory } from './call-memory.js'

/** Linux include/uapi/linux/capability.h. */
const capabilityBit = { ipcLock: 14n, rawIo: 17n, sysResource: 24n } as const

/** RLIM_INFINITY. */
const unlimited = (1n << 64n) - 1n

/** What a mask of effective capabilities holds of those that matter. */
function capabilitiesOf(mask: bigint): Capabilities {
  const has = (bit: bigint): boolean => (mask & (1n << bit)) !== 0n
  return {
    ipcLock: has(capabilityBit.ipcLock),
    sysResource: has(capabilityBit.sysResource),
    rawIo: has(capabilityBit.rawIo),
  }
}

/** Finds files of the caller. */
export interface FileFinder {
  /** A file of ours. */
  ours(descriptor: number): OpenFile | undefined
  foreign(descriptor: number): ForeignFile | undefined
}

/** See the file's comment. Good for one call. */
export class Caller implements CallingProcess<OpenFile> {
  constructor(
    private readonly pid: number,
    readonly uid: number,
    private readonly capabilityMask: bigint,
    readonly memory: CallMemory,
    private readonly files: FileFinder,
  ) {}

  get capabilities(): Capabilities {
    return capabilitiesOf(this.capabilityMask)
  }

  /** RLIMIT_MEMLOCK: the soft limit. */
  get lockableBytes(): bigint {
    return lockableBytesOf(this.pid)
  }

  file(descriptor: number): OpenFile | ForeignFile | undefined {
    return this.files.ours(descriptor) ?? this.files.foreign(descriptor)
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
