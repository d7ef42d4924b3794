/**
 * What the driver does to memory and to the chip, as values: one effect is one step that others can observe.
 *
 * A DMA, a command, another processor may fall between any two of them.
 *
 * @packageDocumentation
 */
import type { Spa } from '@nestwalk/bits'
import type { CommandFields } from '@nestwalk/hardware'
import type { DeviceFeature } from './device.js'

/** A store of one quad-word, or of two in one 128-bit access. */
export interface StoreEffect {
  readonly kind: 'store'
  readonly address: Spa
  /** Lowest first. */
  readonly words: readonly [bigint] | readonly [bigint, bigint]
  /** What is written, for people: "DTE 00:03.0, lower half". */
  readonly what: string
}

/** A quad-word stored at `count` places `strideBytes` apart: a cleared page, a run of equal entries, pages in a row. */
export interface FillEffect {
  readonly kind: 'fill'
  readonly address: Spa
  readonly count: number
  readonly strideBytes: number
  readonly word: bigint
  /** How much higher the word is at each next place. Absent: it is the same at all. */
  readonly step?: bigint
  readonly what: string
}

/** A command put into the ring of an IOMMU. */
export interface CommandEffect {
  readonly kind: 'command'
  readonly iommu: number
  readonly command: CommandFields
  /** Why it is needed, for people. */
  readonly why: string
}

/** A COMPLETION_WAIT, and waiting for its store: everything queued before on that IOMMU is then done. */
export interface WaitEffect {
  readonly kind: 'wait'
  readonly iommu: number
}

/** A 64-bit register write. */
export interface RegisterEffect {
  readonly kind: 'register'
  readonly iommu: number
  readonly offset: number
  readonly value: bigint
  readonly what: string
}

/** A write of 32 bits to the configuration space of an IOMMU's PCI function. */
export interface ConfigurationEffect {
  readonly kind: 'configuration'
  readonly iommu: number
  readonly offset: number
  readonly value: bigint
  readonly what: string
}

/** A feature turned on or off in a device's own configuration space. A device that loses ATS forgets what it cached. */
export interface FeatureEffect {
  readonly kind: 'feature'
  readonly deviceId: number
  readonly feature: DeviceFeature
  readonly isOn: boolean
}

export type Effect =
  StoreEffect | FillEffect | CommandEffect | WaitEffect | RegisterEffect | ConfigurationEffect | FeatureEffect
