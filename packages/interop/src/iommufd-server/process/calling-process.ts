/**
 * A program at the other end of a connection, as the one who makes a call.
 *
 * @packageDocumentation
 */
import type { CallingProcess, Capabilities, ForeignFile, OpenFile } from '@nestwalk/iommufd'
import type { CallMemory } from './call-memory.js'
import type { ProcessMemory } from './process-memory.js'

/** Linux include/uapi/linux/capability.h. */
const capabilityBit = { ipcLock: 14n, rawIo: 17n, sysResource: 24n } as const

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
    private readonly process: ProcessMemory,
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
    return this.process.lockableBytes()
  }

  file(descriptor: number): OpenFile | ForeignFile | undefined {
    return this.files.ours(descriptor) ?? this.files.foreign(descriptor)
  }
}
