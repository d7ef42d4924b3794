import { bit, frame, mask } from './bits.js'
import { shift } from './host.js'
import { ensureHost, hostWidth } from './random-host.js'
import type { HostTable } from './random-host.js'
import type { World } from './random-world.js'

export interface GuestSetting {
  /** undefined: Mode 0, guest-physical is system-physical. */
  host: HostTable | undefined
  rootIsGpa: boolean
  glx: number
  levels: number
  gcr3Root: bigint
  nxSup: boolean
}

/** A page-aligned or exact guest-physical address below 2^52 that the host table may map. */
function guestPhysical(world: World, setting: GuestSetting): bigint {
  if (setting.host === undefined) return world.random.bits(world.random.chance(0.7) ? 34 : 52)
  return world.sparseAddress(Math.min(52, hostWidth(setting.host.mode)))
}

function locate(world: World, setting: GuestSetting, pointer: bigint, isGpa: boolean): bigint | undefined {
  return isGpa && setting.host !== undefined ? ensureHost(world, setting.host, pointer, true) : pointer
}

/** A new table page: its pointer. */
export function newTable(world: World, setting: GuestSetting, isGpa: boolean): bigint {
  if (!isGpa || setting.host === undefined) return world.freePage()
  let pointer = 0n
  for (let attempt = 0; attempt < 12; attempt++) {
    pointer = guestPhysical(world, setting) & ~0xfffn
    const spa = ensureHost(world, setting.host, pointer, true)
    // A page without entries so far, if possible
    if (spa !== undefined && spa < world.memorySize && !world.tablePages.includes(spa)) {
      world.tablePages.push(spa)
      break
    }
  }
  return pointer
}

/** Makes GCR3 and guest tables for the address; the guest-physical address, if they come to one. */
export function ensureGuest(
  world: World,
  setting: GuestSetting,
  pasid: number,
  address: bigint,
): bigint | undefined {
  const { random } = world
  let pointer = setting.gcr3Root
  for (let level = setting.glx; level >= 0; level--) {
    const entryGpa = pointer + 8n * BigInt((pasid >> (9 * level)) & 0x1ff)
    const entryAddress = locate(world, setting, entryGpa, setting.rootIsGpa)
    if (entryAddress === undefined) return undefined
    let entry = world.words.get(entryAddress) ?? 0n
    if (!bit(entry, 0)) entry = 1n | newTable(world, setting, level === 0 || setting.rootIsGpa)
    world.put(entryAddress, entry, 'gcr3')
    pointer = frame(entry)
  }

  for (let level = setting.levels; level >= 1; level--) {
    const entryGpa = pointer + 8n * ((address >> BigInt(shift(level))) & 0x1ffn)
    const entryAddress = locate(world, setting, entryGpa, true)
    if (entryAddress === undefined) return undefined
    let entry = world.words.get(entryAddress) ?? 0n
    if (!bit(entry, 0)) entry = newEntry(world, setting, level)
    world.put(entryAddress, entry, 'guest')
    if (level === 1 || bit(entry, 7)) {
      const offset = mask(shift(level) - 1, 0)
      const gpa = (frame(entry) & ~offset) | (address & offset)
      if (setting.host !== undefined) ensureHost(world, setting.host, gpa, random.chance(0.3))
      return gpa
    }
    pointer = frame(entry)
  }
  return undefined
}

function newEntry(world: World, setting: GuestSetting, level: number): bigint {
  const { random } = world
  const isLeaf = level === 1 || (level === 2 && random.chance(0.25)) || (level === 3 && random.chance(0.12))
  // Ignored: PWT, PCD, G, AVL
  let entry = 1n | random.some(0.2, mask(4, 3) | mask(11, 8) | mask(62, 52)) | random.flag(0.6, 1n << 5n)
  if (!isLeaf) {
    entry |= random.flag(0.97, 1n << 1n) | random.flag(0.97, 1n << 2n) | random.some(0.3, 1n << 6n)
    if (setting.nxSup) entry |= random.flag(0.03, 1n << 63n)
    return entry | newTable(world, setting, true)
  }
  entry |= random.flag(0.85, 1n << 1n) | random.flag(0.92, 1n << 2n) | random.flag(0.5, 1n << 6n)
  if (setting.nxSup) entry |= random.flag(0.15, 1n << 63n)
  // PS above level 1, PAT at level 1 and at bit 12 of a large leaf
  entry |= level === 1 ? random.some(0.2, 1n << 7n) : (1n << 7n) | random.some(0.2, 1n << 12n)
  return entry | (guestPhysical(world, setting) & ~mask(shift(level) - 1, 0))
}
