/**
 * Tables that make sense, in a megabyte: a device table, rings, and the deepest walks that there are. Software ruins
 * them word by word, and puts pages of them right again at times, or soon nothing would work any more.
 */
import { store64 } from '../../src/index.js'
import type { SparseMemory } from '../../src/index.js'
import type { Random } from '../slow/random.js'
import { memoryBytes, nearly, wildWord } from './wild.js'

/** Page numbers. */
export const groundPage = {
  deviceTable: 0,
  commands: 4,
  eventLog: 5,
  eventLogB: 6,
  pprLog: 7,
  pprLogB: 8,
  gaLog: 9,
  /** Of levels 6 to 1. */
  host: 10,
  /** Of three levels. */
  gcr3: 16,
  /** Of levels 5 to 1. */
  guest: 19,
  interrupts: 24,
  backing: 28,
} as const

const deviceTablePages = 4
const deviceBytes = 32
const tablePages = groundPage.backing - groundPage.host
const page = (number: number): bigint => BigInt(number) << 12n

/** A device's entry, legal with the features that most chips of a campaign have. */
function entryOf(random: Random): readonly bigint[] {
  const mode = random.pick([0, 1, 3, 4, 6, 6, 6])
  const gcr3 = page(groundPage.gcr3 + random.pick([0, 0, 0, 1, 2]))
  const glx = BigInt(groundPage.gcr3 + 2 - Number(gcr3 >> 12n))
  const has = (probability: number, at: number): bigint => random.flag(probability, 1n << BigInt(at))
  const hasGuest = random.chance(0.7)
  const guest = hasGuest ? (1n << 55n) | (glx << 56n) | (((gcr3 >> 12n) & 7n) << 58n) | has(0.4, 54) : 0n
  const q0 =
    has(0.97, 0) |
    has(0.95, 1) |
    (random.pick([0n, 1n, 3n, 3n]) << 7n) |
    (BigInt(mode) << 9n) |
    page(mode === 0 ? 0 : groundPage.host + 6 - mode) |
    guest |
    has(0.9, 61) |
    has(0.9, 62)
  const q1 =
    BigInt(random.below(8)) |
    (hasGuest ? ((gcr3 >> 15n) & 0xffffn) << 16n : 0n) |
    has(0.8, 32) |
    has(0.1, 33) |
    has(0.1, 34) |
    (random.bits(2) << 35n) |
    has(0.2, 38) |
    has(0.2, 39) |
    (random.bits(2) << 40n)
  const table = page(groundPage.interrupts + random.below(4))
  const q2 =
    has(0.8, 0) |
    (BigInt(3 + random.below(7)) << 1n) |
    has(0.1, 5) |
    table |
    (random.bits(1) << 54n) |
    (random.bits(5) << 56n) |
    (random.pick([0n, 1n, 2n, 2n, 2n]) << 60n)
  return [q0, q1, q2, 0n]
}

/** Half of an interrupt table entry of 128 bits, remapped or for a guest, or two entries of 32 bits. */
function interruptEntry(random: Random, isUpper: boolean): bigint {
  if (isUpper) return page(groundPage.backing + random.below(4)) | random.bits(8)
  const isGuest = random.chance(0.3)
  const flags = isGuest ? random.bits(5) << 2n : random.bits(2) << 5n
  const entry = 1n | random.flag(0.2, 2n) | flags | (isGuest ? 0x80n : 0n) | (random.bits(16) << 8n)
  return random.chance(0.9) ? entry | (entry << 32n) : random.bits(64)
}

/** What a word of a page is when all makes sense; undefined where nothing is laid out. */
function laidOut(random: Random, number: number, index: number): bigint | undefined {
  if (number >= groundPage.host && number < groundPage.gcr3) {
    const level = groundPage.gcr3 - number
    const rights = random.flag(0.98, 1n << 61n) | random.flag(0.95, 1n << 62n)
    if (level > 1) return page(number + 1) | (BigInt(level - 1) << 9n) | rights | 1n
    return page(index % (memoryBytes >> 12)) | rights | 1n
  }
  if (number >= groundPage.gcr3 && number < groundPage.guest) {
    const isLast = number === groundPage.guest - 1
    return page(isLast ? groundPage.guest + random.pick([0, 0, 0, 1]) : number + 1) | 1n
  }
  if (number >= groundPage.guest && number < groundPage.interrupts) {
    const isLeaf = number === groundPage.interrupts - 1
    return page(isLeaf ? 32 + (index % 220) : number + 1) | random.pick([7n, 7n, 7n, 7n, 5n, 3n])
  }
  if (number >= groundPage.interrupts && number < groundPage.backing)
    return interruptEntry(random, index % 2 === 1)
  return undefined
}

const put = (memory: SparseMemory, number: number, index: number, value: bigint): void => {
  store64(memory, page(number) + BigInt(index * 8), value)
}

/** Lays one page out. */
function layPage(memory: SparseMemory, random: Random, number: number): void {
  for (let index = 0; index < 512; index++) {
    const value = laidOut(random, number, index)
    if (value === undefined) return
    put(memory, number, index, value)
  }
}

function layDevice(memory: SparseMemory, random: Random, deviceId: number): void {
  const at = deviceId * deviceBytes
  if (at >= deviceTablePages << 12) return
  const bits = random.chance(0.8) ? 0 : 64
  entryOf(random).forEach((word, n) => {
    store64(memory, BigInt(at + n * 8), bits === 0 ? word : nearly(random, word, bits))
  })
}

export function layGround(memory: SparseMemory, random: Random): void {
  for (let n = 0; n < tablePages; n++) layPage(memory, random, groundPage.host + n)
  for (let deviceId = 0; deviceId < 512; deviceId++) layDevice(memory, random, deviceId)
}

/** Software stores something, mostly where tables are; or puts something right. */
export function disturbMemory(memory: SparseMemory, random: Random): void {
  if (random.chance(0.3)) layDevice(memory, random, random.below(random.pick([8, 8, 512])))
  else if (random.chance(0.2)) {
    layPage(memory, random, groundPage.host + random.below(tablePages))
  } else {
    const number = random.chance(0.5) ? random.below(32) : random.below((memoryBytes >> 12) + 2)
    put(memory, number, random.below(random.pick([8, 512])), wildWord(random))
  }
}
