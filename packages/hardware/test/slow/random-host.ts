import { bit, bits, frame, mask } from './bits.js'
import { shift } from './host.js'
import type { World } from './random-world.js'

export interface HostTable {
  mode: number
  root: bigint
}

export function hostWidth(mode: number): number {
  return mode === 6 ? 64 : shift(mode + 1)
}

function indexOf(address: bigint, level: number): bigint {
  return (address >> BigInt(shift(level))) & (level === 6 ? 0x7fn : 0x1ffn)
}

function skippedBits(address: bigint, level: number, nextLevel: number): boolean {
  if (nextLevel === level - 1) return false
  return (address & mask(shift(level) - 1, shift(nextLevel + 1))) !== 0n
}

/** Bits that a walk ignores, and FC, U, A, D. */
function noise(world: World, leaf: boolean): bigint {
  const { random } = world
  let value = random.some(0.2, mask(4, 1) | mask(8, 7) | mask(63, 63)) | random.some(0.4, mask(5, 5))
  if (leaf) value |= random.some(0.3, mask(60, 59)) | random.some(0.4, mask(6, 6))
  return value
}

/** Makes the table translate the address, if what is there allows it. low: the page must be in low memory. */
export function ensureHost(
  world: World,
  table: HostTable,
  address: bigint,
  low: boolean,
): bigint | undefined {
  let level = table.mode
  let page = table.root
  if (address >> BigInt(hostWidth(level)) !== 0n) return undefined
  while (true) {
    const entryAddress = page + 8n * indexOf(address, level)
    let entry = world.words.get(entryAddress) ?? 0n
    if (!bit(entry, 0)) {
      entry = newEntry(world, page, address, level, low)
      world.put(entryAddress, entry, 'host')
    } else {
      world.entries.set(entryAddress, 'host')
    }
    const nextLevel = Number(bits(entry, 11, 9))
    if (nextLevel === 0 || nextLevel === 7) {
      let size = shift(level)
      if (nextLevel === 7) for (size = 13; bit(entry, size - 1); size++);
      const offset = mask(size - 1, 0)
      return (frame(entry) & ~offset) | (address & offset)
    }
    if (nextLevel >= level || skippedBits(address, level, nextLevel)) return undefined
    page = frame(entry)
    level = nextLevel
  }
}

function newEntry(world: World, page: bigint, address: bigint, level: number, low: boolean): bigint {
  const { random } = world
  const natural = [0, 1, 0.17, 0.1, 0.05, 0.05, 0][level]!
  const encoded = [0, 0.25, 0.1, 0.08, 0.08, 0.08, 0][level]!
  if (level < 6 && !(low && level > 3) && random.chance(encoded)) {
    const made = encodedLeaf(world, page, address, level, low)
    if (made !== undefined) return made
  }
  if (level < 6 && !(low && level > 3) && random.chance(natural)) {
    return 1n | leafRights(world, low) | noise(world, true) | leafFrame(world, shift(level), low)
  }
  let nextLevel = level - 1
  const deepSkip = random.chance(0.35)
  while (nextLevel > 1 && !skippedBits(address, level, nextLevel - 1) && (deepSkip || random.chance(0.3))) {
    nextLevel--
  }
  const rights = random.flag(0.995, 1n << 61n) | random.flag(0.99, 1n << 62n)
  return 1n | rights | noise(world, false) | (BigInt(nextLevel) << 9n) | world.freePage()
}

function leafRights(world: World, low: boolean): bigint {
  return world.random.flag(0.97, 1n << 61n) | world.random.flag(low ? 0.9 : 0.85, 1n << 62n)
}

function leafFrame(world: World, size: number, low: boolean): bigint {
  const { random } = world
  const offset = mask(size - 1, 0)
  const width = low || random.chance(0.6) ? 33 : 52
  const base = random.bits(width) & ~offset & mask(51, 12)
  // Address bits below the size of a NextLevel-0 leaf
  return size > 12 && random.chance(0.1) ? base | (random.bits(52) & offset & mask(51, 12)) : base
}

/** A NextLevel-7 leaf with all its copies; undefined if one of their places is taken. */
function encodedLeaf(
  world: World,
  page: bigint,
  address: bigint,
  level: number,
  low: boolean,
): bigint | undefined {
  const { random } = world
  const size = shift(level) + 1 + random.below(Math.min(8, 51 - shift(level)))
  const copies = 1 << (size - shift(level))
  const first = indexOf(address, level) & ~BigInt(copies - 1)
  for (let n = 0; n < copies; n++) {
    if (world.words.has(page + 8n * (first + BigInt(n)))) return undefined
  }
  const base = random.bits(low || random.chance(0.6) ? 33 : 52) & ~mask(size - 1, 0)
  const code = size === 13 ? 0n : mask(size - 2, 12)
  const entry = 1n | leafRights(world, low) | mask(11, 9) | base | code
  for (let n = 0; n < copies; n++) world.put(page + 8n * (first + BigInt(n)), entry | noise(world, true))
  return world.words.get(page + 8n * indexOf(address, level))
}
