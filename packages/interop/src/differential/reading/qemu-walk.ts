/**
 * How QEMU 11.1 walks a host table, and where that is not what the manual says.
 *
 * Found by reading hw/i386/amd_iommu.c and by running it. Levels count from 1 here as in the manual.
 *
 * @packageDocumentation
 */
import type { Departure } from '../departures.js'
import {
  codedSizeLog2,
  directoryReserved,
  frameOf,
  indexOf,
  isPresent,
  leafReserved,
  modeOf,
  nextLevelOf,
  placed,
  rightsOf,
  shiftOf,
} from './entry-bits.js'
import { hasBits, leafSizeLog2, neededFor } from './manual-walk.js'
import type { Asked, Load } from './manual-walk.js'

/** What a walk gave. */
export interface QemuWalk {
  /** Undefined: refused, and logged as a page fault. */
  readonly address: bigint | undefined
  /** Rights of the leaf, which QEMU keeps with the page. */
  readonly rights: bigint
  readonly sizeLog2: number
  /** An entry could not be read: that is logged before the page fault. */
  readonly unreadable: boolean
}

const refusal: QemuWalk = { address: undefined, rights: 0n, sizeLog2: 12, unreadable: false }

/** @param note - takes each departure from the manual that the walk makes */
export function walkQemu(
  load: Load,
  q0: bigint,
  asked: Asked,
  note: (departure: Departure) => void,
): QemuWalk {
  const { iova } = asked
  const mode = modeOf(q0)
  let granted = rightsOf(q0)
  if (granted === 0n || (mode < 6 && iova >> BigInt(shiftOf(mode + 1)) !== 0n)) return refusal
  let table = q0
  let level = mode
  for (;;) {
    const entry = load(frameOf(table) + indexOf(iova, level) * 8n)
    // A word of ones stands for one that could not be read.
    if (entry === undefined || entry === 0xffff_ffff_ffff_ffffn) {
      if (entry === undefined) note('unreadable-entry-twice')
      return { ...refusal, unreadable: entry === undefined }
    }
    granted &= rightsOf(entry)
    if (granted === 0n || isLeaf(entry)) return lastEntry({ entry, level, granted }, asked, note)
    if (!isPresent(entry)) return refusal
    noteEntry(entry, level, note)
    const nextLevel = nextLevelOf(entry)
    if (nextLevel >= level) return refusal
    if (hasBits(iova, shiftOf(nextLevel + 1), shiftOf(level))) note('skipped-bits-unchecked')
    level = nextLevel
    table = entry
  }
}

/** What comes of the entry at which QEMU stops: a leaf, or one that leaves neither right. */
function lastEntry(
  { entry, level, granted }: { readonly entry: bigint; readonly level: number; readonly granted: bigint },
  asked: Asked,
  note: (departure: Departure) => void,
): QemuWalk {
  const needed = neededFor(asked)
  const own = rightsOf(entry)
  if (!isPresent(entry) || (own & needed) === 0n) return refusal
  noteEntry(entry, level, note)
  if ((granted & needed) === 0n) note('rights-of-last-entry')
  const isCoded = nextLevelOf(entry) === 7 && granted !== 0n
  const sizeLog2 = isCoded ? codedSizeLog2(entry, 62) : shiftOf(level)
  return { address: placed(frameOf(entry), asked.iova, sizeLog2), rights: own, sizeLog2, unreadable: false }
}

const isLeaf = (entry: bigint): boolean => nextLevelOf(entry) === 0 || nextLevelOf(entry) === 7

/** What the manual refuses, or reads otherwise, in an entry at a level. */
function noteEntry(entry: bigint, level: number, note: (departure: Departure) => void): void {
  if (isLeaf(entry)) {
    if ((entry & leafReserved) !== 0n) note('reserved-entry-bits')
    if (leafSizeLog2(entry, level) === undefined) note('leaf-sizes-unchecked')
    return
  }
  if ((entry & directoryReserved) !== 0n) note('reserved-entry-bits')
}
