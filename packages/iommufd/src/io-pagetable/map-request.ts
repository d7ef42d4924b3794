/**
 * What is asked of an IO address space when memory is mapped.
 *
 * @packageDocumentation
 */
import type { PageSource } from '../process.js'
import type { Dmabuf } from './dmabuf.js'
import type { PinCharge } from './pin-accounts.js'

/** An area, as others see it. */
export interface AreaView {
  readonly iova: bigint
  readonly length: bigint
  readonly readable: boolean
  readonly writeable: boolean
}

/** How memory is mapped. */
export interface Placement {
  readonly length: bigint
  /** `undefined`: the lowest that is free. */
  readonly iova: bigint | undefined
  readonly readable: boolean
  readonly writeable: boolean
}

/** IOAS_MAP and IOAS_MAP_FILE. */
export interface MapSource extends Placement {
  /** Its page 0 holds the first byte. */
  readonly source: PageSource
  readonly startInPage: number
  /** Address of the first byte, or its offset in the file. */
  readonly startAddress: bigint
  readonly isFile: boolean
  readonly charge: PinCharge
}

/** IOAS_MAP_FILE of a dma-buf. */
export interface MapDmabuf extends Placement {
  readonly dmabuf: Dmabuf
  /** First byte. */
  readonly start: bigint
}

/** IOAS_COPY. */
export interface CopyAreas {
  readonly from: bigint
  readonly length: bigint
  /** `undefined`: the lowest that is free. */
  readonly to: bigint | undefined
  readonly readable: boolean
  readonly writeable: boolean
}
