/**
 * The IOMMU's private address space: what it keeps for guests in memory, and where.
 *
 * Rests on AMD's posted kernel series for the hardware vIOMMU, not on shipped software. Hardware reaches it through the
 * device table entry of its own DeviceID, whose host table leads to the memory. The backing of the guests' registers
 * at 0 and the dirty status of command buffers at 400000h are not used: the model keeps registers on the chip.
 *
 * @packageDocumentation
 */

/** A part of the space: each guest has an equal piece of it. */
export interface PrivateArea {
  /** High word of where it starts; the low word is zero. */
  readonly hi: number
  /** log2 of the bytes of a guest's piece. */
  readonly pieceLog2: number
}

export const privateArea = {
  deviceMap: { hi: 0x10, pieceLog2: 20 },
  domainMap: { hi: 0x20, pieceLog2: 19 },
  commands: { hi: 0x28, pieceLog2: 19 },
  pprLog: { hi: 0x30, pieceLog2: 19 },
  pprLogB: { hi: 0x38, pieceLog2: 19 },
  eventLog: { hi: 0x40, pieceLog2: 19 },
  eventLogB: { hi: 0x48, pieceLog2: 19 },
} as const satisfies Record<string, PrivateArea>

/**
 * Low word of an address in a guest's piece.
 *
 * @param offset - below the size of the piece
 */
export const privateLo = ({ pieceLog2 }: PrivateArea, guestId: number, offset: number): number =>
  (guestId << pieceLog2) | offset

export const privateHi = ({ hi, pieceLog2 }: PrivateArea, guestId: number): number =>
  hi + (guestId >>> (32 - pieceLog2))
