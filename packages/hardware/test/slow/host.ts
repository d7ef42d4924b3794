import { bit, bits, frame, mask } from './bits.js'
import { deepestHostLevel } from './dte.js'
import type { Dte } from './dte.js'
import { denied, notPresent, pageFault, present, reservedBits } from './faults.js'
import type { Walk } from './walk.js'

export interface HostResult {
  spa: bigint
  sizeLog2: number
  readable: boolean
  writable: boolean
  /** The entry that maps the page; undefined without host table. */
  leaf: bigint | undefined
}

const ACCESSED = 1n << 5n
const DIRTY = 1n << 6n

/** Section 3.2. */
export function shift(level: number): number {
  return 12 + 9 * (level - 1)
}

/** Section 3.4: A/D needs the feature, Control.HADUpdate and DTE.HAD. */
function accessedEnabled(walk: Walk, dte: Dte): boolean {
  const update = bits(walk.machine.registers.control, 47, 46)
  return (
    bit(walk.machine.features.efr, 49) && (update === 1n || update === 3n) && (dte.had === 1 || dte.had === 3)
  )
}

function dirtyEnabled(walk: Walk, dte: Dte): boolean {
  const update = bits(walk.machine.registers.control, 47, 46)
  return bit(walk.machine.features.efr, 52) && update === 3n && dte.had === 3
}

/** A write through the leaf (by the request, or of guest accessed/dirty bits). */
export function markDirty(walk: Walk, dte: Dte, result: HostResult): void {
  if (result.leaf !== undefined && dirtyEnabled(walk, dte)) walk.setBits(result.leaf, DIRTY)
}

/**
 * Section 3.3. access: what the access wants; implied: a read of a GCR3 or guest table, not the request
 * itself. The caller has made sure that Mode is 1-6 and not deeper than HATS allows.
 */
export function hostWalk(
  walk: Walk,
  dte: Dte,
  address: bigint,
  access: 'read' | 'write',
  implied: boolean,
): HostResult {
  const { switches } = walk

  // 1. level = DTE.Mode, table = DTE.root; the width
  let level = dte.mode
  let table = dte.hostRoot
  if (level < 6 && address >> BigInt(shift(level + 1)) !== 0n) {
    throw pageFault(walk, 'host-above-width', switches['above-width'] === 'pr1' ? present : notPresent)
  }

  const noDtePermission = implied && switches['implied-dte-perm'] === 'never'
  let readable = dte.ir || noDtePermission
  let writable = dte.iw || noDtePermission
  const directories: bigint[] = []

  const checkPermission = (): void => {
    if (access === 'read' && !readable) throw pageFault(walk, 'host-no-read', denied)
    if (access === 'write' && !writable) throw pageFault(walk, 'host-no-write', denied)
  }

  while (true) {
    // 2. read the entry
    const indexMask = level === 6 ? 0x7fn : 0x1ffn
    const entryAddress = table + 8n * ((address >> BigInt(shift(level))) & indexMask)
    const entry = walk.readEntry(entryAddress)

    // 3. present
    if (!bit(entry, 0)) throw pageFault(walk, 'host-not-present', notPresent)

    // 4. reserved bits
    const nextLevel = Number(bits(entry, 11, 9))
    const isLeaf = nextLevel === 0 || nextLevel === 7
    let reserved = isLeaf ? mask(58, 52) : mask(60, 52)
    const migration = bit(walk.machine.registers.control, 56) && bit(walk.machine.features.efr2, 2)
    if (isLeaf && migration) reserved &= ~mask(58, 57)
    if ((entry & reserved) !== 0n) throw pageFault(walk, 'host-reserved-bits', reservedBits)

    // 5. permission
    readable = readable && bit(entry, 61)
    writable = writable && bit(entry, 62)
    if (switches['perm-order'] === 'each-level') checkPermission()

    // 6. and 7. leaf
    if (isLeaf) {
      const sizeLog2 = nextLevel === 0 ? defaultSize(walk, entry, level) : encodedSize(walk, entry, level)
      checkPermission()
      const offsetMask = (1n << BigInt(sizeLog2)) - 1n
      if (accessedEnabled(walk, dte)) {
        if (switches['host-dir-a'] === 'set') for (const each of directories) walk.setBits(each, ACCESSED)
        walk.setBits(entryAddress, ACCESSED)
      }
      const spa = (frame(entry) & ~offsetMask) | (address & offsetMask)
      return { spa, sizeLog2, readable, writable, leaf: entryAddress }
    }

    // 8. directory
    if (nextLevel > deepestHostLevel(walk.machine.features.efr)) {
      const flags = switches['next-level-beyond-hats'] === 'rz1' ? reservedBits : present
      throw pageFault(walk, 'host-next-level-beyond-hats', flags)
    }
    if (nextLevel >= level) throw pageFault(walk, 'host-bad-next-level', present)
    for (let position = shift(nextLevel + 1); position < shift(level); position++) {
      if (bit(address, position)) throw pageFault(walk, 'host-skipped-bits', present)
    }
    directories.push(entryAddress)

    // 9. descend
    table = frame(entry)
    level = nextLevel
  }
}

/** Rule 6: NextLevel 0. */
function defaultSize(walk: Walk, entry: bigint, level: number): number {
  if (level === 6) throw pageFault(walk, 'host-leaf-at-6', present)
  if (level === 4 && walk.switches['leaf-512g'] === 'refused') {
    throw pageFault(walk, 'host-leaf-512g', present)
  }
  const size = shift(level)
  if (walk.switches['leaf-low-bits'] === 'reserved' && (frame(entry) & ((1n << BigInt(size)) - 1n)) !== 0n) {
    throw pageFault(walk, 'host-leaf-low-bits', reservedBits)
  }
  return size
}

/** Rule 7: NextLevel 7. */
function encodedSize(walk: Walk, entry: bigint, level: number): number {
  const address = frame(entry)
  let lowestZero = 12
  while (bit(address, lowestZero)) lowestZero++
  const size = lowestZero + 1
  if (size <= shift(level) || size >= shift(level + 1)) throw pageFault(walk, 'host-bad-size', present)
  if (level === 6) throw pageFault(walk, 'host-leaf-at-6', present)
  if (size > 51 && walk.switches['nl7-above-2p51'] === 'invalid')
    throw pageFault(walk, 'host-bad-size', present)
  return size
}
