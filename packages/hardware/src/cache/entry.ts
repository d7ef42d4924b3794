/**
 * The words of a cached entry: tag, frame, rights, and what it remembers.
 *
 * Eight words hold everything: addresses are whole pages, so what is small lies in the bits that they leave. The
 * readers take the pool and the entry's place; a caller that has both pays one load for a field.
 *
 * @packageDocumentation
 */
import { fingerprintSeeds, mix } from '../memory/words.js'

/** PASID argument for translations of the host table alone. */
export const withoutPasid = -1

/** Words of an entry. An enum, since bundlers put its values in place, which they do not do for other constants. */
export const enum EntryWord {
  /** Page number, low 32 bits. */
  pageLo = 0,
  /** Page number, high 20 bits; PASID bits 11:0 above. */
  pageHi = 1,
  /** DomainID; PASID bits 19:12 from bit 16; PASID valid 24; size from 25. Zero in no entry: no page has size 0. */
  tag = 2,
  /** Hashed caches: stamp of the fill; 0 once the entry was dropped by itself. */
  filledAt = 3,
  /** Frame, low word; level in bits 2:0, flags in bits 11:3. */
  frameLo = 4,
  /** Frame, high 20 bits; rights in bits 31:20. */
  frameHi = 5,
  /** DeviceID whose request filled the entry; no part of the tag, kept for those who watch. */
  filler = 6,
  /** Where the cache remembers GPAs: {@link maxGpas} blocks, two words each, size in bits 5:0, zero for none. */
  gpas = 8,
}

export const entryWords = 8

/** An entry remembers at most this many GPAs: of three GCR3 tables, five guest tables, and the leaf. */
export const maxGpas = 9

/** Words of an entry that remembers GPAs: a multiple of eight, for the hashed table. */
export const rememberingEntryWords = 32

/** What a fill without GPAs gives. */
export const noGpas = new Int32Array(0)

const enum Field {
  pasidValid = 0x1000000,
  sizeShift = 25,
  rights = -0x100000,
  level = 7,
  flags = 0x1ff,
}

/** High word of a page number with the PASID's low bits. */
export const tagHiOf = (pageHi: number, pasid: number): number =>
  pasid < 0 ? pageHi : pageHi | (pasid << 20)

/** The tag word without its size; `| sizeBits(size)` completes it. */
export const tagOf = (domainId: number, pasid: number): number =>
  pasid < 0 ? domainId : domainId | ((pasid >>> 12) << 16) | Field.pasidValid

export const sizeBits = (sizeLog2: number): number => sizeLog2 << Field.sizeShift

export const sizeOfTag = (tag: number): number => tag >>> Field.sizeShift

/** Whether a tag word is that of a guest translation. */
export const isGuestTag = (tag: number): boolean => (tag & Field.pasidValid) !== 0

export const packFrameLo = (lo: number, level: number, flags: number): number =>
  (lo & 0xfffff000) | ((flags & Field.flags) << 3) | (level & Field.level)

export const packFrameHi = (hi: number, rights: number): number => (hi & 0xfffff) | (rights & Field.rights)

export const domainIdOf = (pool: Int32Array, at: number): number => pool[at + EntryWord.tag]! & 0xffff

/** {@link withoutPasid} for a translation of the host table alone. */
export function pasidOf(pool: Int32Array, at: number): number {
  const tag = pool[at + EntryWord.tag]!
  if (!isGuestTag(tag)) return withoutPasid
  return (pool[at + EntryWord.pageHi]! >>> 20) | (((tag >>> 16) & 0xff) << 12)
}

/** Page number, as two words: the page's address without its low twelve bits. */
export const pageLoOf = (pool: Int32Array, at: number): number => pool[at + EntryWord.pageLo]!
export const pageHiOf = (pool: Int32Array, at: number): number => pool[at + EntryWord.pageHi]! & 0xfffff

/** log2 of the bytes that the entry serves, 12 to 63. */
export const sizeLog2Of = (pool: Int32Array, at: number): number => sizeOfTag(pool[at + EntryWord.tag]!)

/** Where the page lies, or the table page to go on with; the low twelve bits are zero. */
export const frameLoOf = (pool: Int32Array, at: number): number => pool[at + EntryWord.frameLo]! & 0xfffff000
export const frameHiOf = (pool: Int32Array, at: number): number => pool[at + EntryWord.frameHi]! & 0xfffff

/** Rights, at bits 31:20 as they were filed. */
export const rightsOf = (pool: Int32Array, at: number): number => pool[at + EntryWord.frameHi]! & Field.rights

/** Level of the table that the frame is, 1 to 7; 0 for a translation. */
export const levelOf = (pool: Int32Array, at: number): number => pool[at + EntryWord.frameLo]! & Field.level

/** Nine bits that are the caller's own. */
export const flagsOf = (pool: Int32Array, at: number): number =>
  (pool[at + EntryWord.frameLo]! >>> 3) & Field.flags

export const fillerOf = (pool: Int32Array, at: number): number => pool[at + EntryWord.filler]!

/** Hash of a tag. Table indices come from its high bits, so that neighbouring pages do not crowd one place. */
export function tagHash(lo: number, hi: number, tag: number): number {
  // Without `| 0` the compiler makes doubles of arguments of which it does not know that they are int32.
  const h = Math.imul(lo | 0, 0x9e3779b1) ^ Math.imul(hi | 0, 0x85ebca6b) ^ Math.imul(tag | 0, 0xc2b2ae35)
  return Math.imul(h ^ (h >>> 15), 0x27d4eb2f)
}

/**
 * Adds an entry's part to the two halves of a fingerprint: all that can change an answer, so not its filler.
 *
 * @param key - tells this place from others where entries with the same words may be
 */
export function addContent(
  pool: Int32Array,
  at: number,
  key: number,
  remembersGpas: boolean,
  sum: Int32Array,
): void {
  for (let half = 0; half < sum.length; half++) {
    const seed = fingerprintSeeds[half]! ^ key
    const tag = mix(
      pool[at + EntryWord.pageLo]!,
      pool[at + EntryWord.pageHi]!,
      pool[at + EntryWord.tag]!,
      seed,
    )
    let hash = mix(tag, pool[at + EntryWord.frameLo]!, pool[at + EntryWord.frameHi]!, seed)
    for (let i = 0; remembersGpas && i < maxGpas; i++) {
      const word = at + EntryWord.gpas + i * 2
      hash = mix(hash, pool[word]!, pool[word + 1]!, seed)
    }
    sum[half]! ^= hash
  }
}
