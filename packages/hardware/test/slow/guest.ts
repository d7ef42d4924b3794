import { bit, frame, mask } from './bits.js'
import type { Dte } from './dte.js'
import { denied, notPresent, pageFault, present, reservedBits } from './faults.js'
import { hostWalk, markDirty, shift } from './host.js'
import type { HostResult } from './host.js'
import type { Walk } from './walk.js'

export interface GuestResult {
  gpa: bigint
  sizeLog2: number
  writable: boolean
  /** Throws if the guest tables do not allow the request; for the switch perm-order. */
  checkPermission: () => void
}

const ACCESSED = 1n << 5n
const DIRTY = 1n << 6n

/** Where a guest-physical address lies, for the access to a GCR3 or guest table there. */
function locate(walk: Walk, dte: Dte, gpa: bigint): HostResult {
  if (dte.mode !== 0) {
    walk.onBehalfOf = gpa
    const result = hostWalk(walk, dte, gpa, 'read', true)
    walk.onBehalfOf = undefined
    return result
  }
  const dtePermission = walk.switches['implied-dte-perm'] === 'always'
  if (dtePermission && !dte.ir) throw pageFault(walk, 'implied-dte-no-read', denied)
  return { spa: gpa, sizeLog2: 64, readable: true, writable: dte.iw || !dtePermission, leaf: undefined }
}

/** Section 4.2, canonical check. */
function checkAddress(walk: Walk, width: number): void {
  const { iova } = walk.request
  const signExtended =
    walk.pasid !== undefined && (walk.pasid > 0 || walk.switches['pasid0-tagged'] === 'sign-extended')
  const upper = iova >> BigInt(signExtended ? width - 1 : width)
  const allOnes = (1n << BigInt(64 - width + 1)) - 1n
  if (upper === 0n || (signExtended && upper === allOnes)) return
  throw pageFault(
    walk,
    'guest-not-canonical',
    walk.switches['non-canonical'] === 'pr1' ? present : notPresent,
  )
}

/** Section 4.3: the guest CR3 of the PASID. */
function gcr3Walk(walk: Walk, dte: Dte, pasid: number): bigint {
  const rootIsGpa = bit(walk.machine.registers.control, 58)
  let pointer = dte.gcr3Root
  let pointerIsGpa = rootIsGpa
  for (let level = dte.glx; level >= 0; level--) {
    const index = BigInt((pasid >> (9 * level)) & 0x1ff)
    const entryGpa = pointer + 8n * index
    const entryAddress = pointerIsGpa ? locate(walk, dte, entryGpa).spa : entryGpa
    const entry = walk.readEntry(entryAddress)
    if (!bit(entry, 0)) throw pageFault(walk, 'gcr3-not-present', notPresent)
    if ((entry & (mask(11, 1) | mask(63, 52))) !== 0n)
      throw pageFault(walk, 'gcr3-reserved-bits', reservedBits)
    pointer = frame(entry)
    pointerIsGpa = rootIsGpa || walk.switches['gcr3-next-pointer'] === 'gpa'
  }
  return pointer
}

/** Section 4.1: the reserved bits of a present entry. */
function hasReservedBits(walk: Walk, entry: bigint, level: number): boolean {
  if (bit(entry, 63) && !bit(walk.machine.features.efr, 3)) return true
  if (!bit(entry, 7) || level === 1) return false
  if (level === 2) return (entry & mask(20, 13)) !== 0n
  if (level === 3) return (entry & mask(29, 13)) !== 0n
  return true
}

/** Sections 4.2 and 4.5, down to the guest-physical address of the request. */
export function guestWalk(walk: Walk, dte: Dte): GuestResult {
  const { request, switches } = walk
  const { efr } = walk.machine.features
  const { control } = walk.machine.registers

  // The PASID against the coverage of the GCR3 table
  const covered = [9, 18, 20][dte.glx] ?? 20
  const pasid = walk.pasid ?? 0
  if (pasid >> covered !== 0 && switches['pasid-beyond-glx'] !== 'ignored') {
    const flags = switches['pasid-beyond-glx'] === 'pr1' ? present : notPresent
    throw pageFault(walk, 'pasid-beyond-glx', flags)
  }

  const levels = dte.guestPagingMode === 1 ? 5 : 4
  checkAddress(walk, shift(levels + 1))

  let table = gcr3Walk(walk, dte, pasid)

  let writable = true
  let user = true
  let executable = true
  const checkPermission = (): void => {
    const honoursReadWrite = walk.user || switches['supervisor-write'] === 'honours-rw'
    if (request.write && !writable && honoursReadWrite) throw pageFault(walk, 'guest-no-write', denied)
    if (walk.user && !user && bit(efr, 37)) throw pageFault(walk, 'guest-no-user', denied)
    if (walk.execute && !executable && bit(efr, 3)) throw pageFault(walk, 'guest-no-execute', denied)
  }

  for (let level = levels; level >= 1; level--) {
    const index = (request.iova >> BigInt(shift(level))) & 0x1ffn
    const where = locate(walk, dte, table + 8n * index)
    const entry = walk.readEntry(where.spa)
    if (!bit(entry, 0)) throw pageFault(walk, 'guest-not-present', notPresent)
    if (hasReservedBits(walk, entry, level)) throw pageFault(walk, 'guest-reserved-bits', reservedBits)

    writable = writable && bit(entry, 1)
    user = user && bit(entry, 2)
    executable = executable && !bit(entry, 63)
    if (switches['perm-order'] === 'each-level') checkPermission()
    const isLeaf = level === 1 || bit(entry, 7)
    if (isLeaf && switches['perm-order'] === 'leaf') checkPermission()

    // Accessed and dirty bits, through the host table
    let wanted = 0n
    if (!bit(control, 54)) wanted |= ACCESSED
    if (isLeaf && request.write && !bit(control, 48)) wanted |= DIRTY
    const changes = (entry & wanted) !== wanted
    const needsWrite =
      (switches['guest-ad-perm'] === 'when-changing' && changes) ||
      (switches['guest-ad-perm'] === 'always' && wanted !== 0n)
    if (needsWrite && !where.writable) {
      walk.onBehalfOf = dte.mode === 0 ? undefined : table + 8n * index
      throw pageFault(walk, 'guest-ad-no-write', denied)
    }
    if (changes) {
      markDirty(walk, dte, where)
      walk.setBits(where.spa, wanted)
    }

    if (isLeaf) {
      const offsetMask = (1n << BigInt(shift(level))) - 1n
      const gpa = (frame(entry) & ~offsetMask) | (request.iova & offsetMask)
      return { gpa, sizeLog2: shift(level), writable, checkPermission }
    }
    table = frame(entry)
  }
  throw new Error('unreachable: level 1 is always a leaf')
}
