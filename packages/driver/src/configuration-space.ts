/**
 * The configuration space of an IOMMU's PCI function: where its registers are, and what its feature registers leave out.
 *
 * AMD 48882 rev 3.10, IOMMU capability block (id 0Fh, type 3).
 *
 * @packageDocumentation
 */
import { decode, flag, uint } from '@nestwalk/bits'
import type { Decoded, RecordLayout } from '@nestwalk/bits'
import { refuse } from './outcome.js'
import type { Refusal } from './outcome.js'

/** Reads and writes of 1, 2 or 4 bytes, aligned; what is not there reads as 0. */
export interface ConfigurationSpace {
  readConfig(offset: number, bytes: 1 | 2 | 4): number
  writeConfig(offset: number, bytes: 1 | 2 | 4, value: number): void
}

const headerLayout = {
  name: 'IOMMU capability header',
  source: 'AMD 48882 rev 3.10, IOMMU capability block',
  wordCount: 1,
  fields: {
    id: uint(7, 0),
    type: uint(18, 16),
    /** Devices may have TLBs of their own (ATS). */
    iotlbSup: flag(24),
    /** Entries that are not present may be cached: an emulated IOMMU. */
    npCache: flag(26),
    /** The feature registers are there. */
    efrSup: flag(27),
  },
} as const satisfies RecordLayout

const iommuCapability = { id: 0x0f, type: 3 } as const

/** Offsets in the block. */
export const capabilityOffset = { header: 0, baseLo: 4, baseHi: 8 } as const

/** What the block says. */
export interface IommuCapability extends Pick<
  Decoded<typeof headerLayout>,
  'iotlbSup' | 'npCache' | 'efrSup'
> {
  /** Where the registers answer, once they do. */
  readonly registerBase: bigint
  /** The registers answer, and their base is locked until reset. */
  readonly registersAnswer: boolean
}

/** Reads the block at an offset. ENODEV if there is none. */
export function readCapability(space: ConfigurationSpace, at: number): IommuCapability | Refusal {
  const word = (offset: number): bigint => BigInt(space.readConfig(at + offset, 4) >>> 0)
  const { id, type, ...flags } = decode(headerLayout, BigUint64Array.of(word(capabilityOffset.header)))
  if (id !== iommuCapability.id || type !== iommuCapability.type) {
    return refuse('ENODEV', 'no-iommu-capability', `there is no IOMMU capability at 0x${at.toString(16)}`)
  }
  const lo = word(capabilityOffset.baseLo)
  const { iotlbSup, npCache, efrSup } = flags
  return {
    iotlbSup,
    npCache,
    efrSup,
    registerBase: (word(capabilityOffset.baseHi) << 32n) | (lo & ~0x3fffn),
    registersAnswer: (lo & 1n) === 1n,
  }
}
