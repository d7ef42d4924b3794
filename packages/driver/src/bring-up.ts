/**
 * Bring-up of the IOMMUs of one driver: where device table, rings and logs lie, and how the chip is turned on.
 *
 * The order is Linux's: rings and table first, features before the enable bit, everything flushed after it.
 *
 * @packageDocumentation
 */
import type { Spa } from '@nestwalk/bits'
import { encode, spa } from '@nestwalk/bits'
import { commandBufferBaseLayout } from '@nestwalk/hardware'
import { controlLayout, decodeEfr, decodeEfr2, encodeDte, mmio } from '@nestwalk/hardware'
import type { IommuPort } from '@nestwalk/hardware'
import { CommandRing, ringEntries, ringLengthLog2 } from './command-ring.js'
import { InternalError } from './outcome.js'
import { pageBytes } from './page-allocator.js'
import type { PageAllocator } from './page-allocator.js'
import type { Plan } from './plan.js'

const entryBytes = 32n

/** Where the tables and rings of a driver lie. */
export interface Layout {
  readonly deviceTable: Spa
  /** Entries of the device table; a multiple of 128. */
  readonly entries: number
  readonly rings: readonly CommandRing[]
}
