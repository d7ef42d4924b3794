/**
 * What happens on a machine, step by step.
 *
 * @packageDocumentation
 */
import type { Effect } from '@nestwalk/driver'
import type { Tag } from '@nestwalk/hardware'
import type { RingCommand } from './command-ring-view.js'
import type { Answer } from './fresh-view.js'

/** Something that happened. */
export type MachineEvent =
  | { readonly kind: 'host-effect'; readonly effect: Effect }
  | { readonly kind: 'guest-effect'; readonly vm: string; readonly effect: Effect }
  | { readonly kind: 'vmm'; readonly vm: string; readonly what: string; readonly errno: string | undefined }
  | { readonly kind: 'command'; readonly command: RingCommand }
  /** A kernel stopped waiting for an IOMMU that does not move. */
  | { readonly kind: 'gave-up'; readonly who: string; readonly effect: Effect }
  | DmaEvent

/** A request of a device, what it got, and what it should have got. */
export interface DmaEvent {
  readonly kind: 'dma'
  readonly device: string
  readonly gva: bigint
  readonly write: boolean
  readonly got: Answer
  /** Where the address came from. */
  readonly from: 'walk' | 'iotlb' | 'identity' | 'untranslated' | 'refused'
  /** The tag that the translation is filed under. */
  readonly tag: Tag | undefined
  /** The device whose request filled the IOTLB entry that answered. */
  readonly filledBy: string | undefined
  /** What a walk without caches gives for this device now. */
  readonly expected: Answer
  /** The VM that owns the device, and the one whose memory it got; `undefined`: nobody's. */
  readonly vm: string
  readonly owner: string | undefined
}
