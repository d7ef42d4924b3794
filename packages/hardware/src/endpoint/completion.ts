/**
 * Translation completion: the eight bytes by which a device is told a translation.
 *
 * PCI Express ATS; AMD 48882 rev 3.10, ATS. From bit 63 down: the translated address, with S and low-order ones for
 * pages above 4 KiB; N, Global, Priv, Exe, U, W, R.
 *
 * @packageDocumentation
 */
import { decodeSizeCode, encodeSizeCode } from '../layout/size-code.js'
import type { AtsAnswer } from '../translation.js'

/** A translation as a device understands it. */
export interface Completion {
  /** First byte of the page; 64 bits. */
  readonly spa: bigint
  /** log2 of the bytes of the page; 64: every address is its own translation. */
  readonly sizeLog2: number
  readonly readable: boolean
  readonly writable: boolean
  readonly executable: boolean
  /** The rights are those of privileged requests, not of others. */
  readonly privileged: boolean
  /** The device may use the page without snooping. */
  readonly noSnoop: boolean
  /** The device must not keep the translation, but go on using untranslated addresses. */
  readonly untranslatedOnly: boolean
}

type Completed = Extract<AtsAnswer, { kind: 'completed' }>

/** Bits of the eight bytes. Global is not used: translations are one PASID's own. */
const bit = {
  readable: 1n << 0n,
  writable: 1n << 1n,
  untranslatedOnly: 1n << 2n,
  executable: 1n << 3n,
  privileged: 1n << 4n,
  noSnoop: 1n << 10n,
  large: 1n << 11n,
} as const
const frameMask = ~0xfffn

/**
 * The eight bytes for an answer of the IOMMU.
 *
 * @param privileged - the request asked for supervisor privilege
 */
export function encodeCompletion(answer: Completed, privileged: boolean): bigint {
  const size = BigInt(answer.sizeLog2)
  const sized = encodeSizeCode((answer.spa >> size) << size, answer.sizeLog2)
  return (
    (sized & frameMask) |
    ((sized & 1n) === 0n ? 0n : bit.large) |
    (answer.readable ? bit.readable : 0n) |
    (answer.writable ? bit.writable : 0n) |
    (answer.untranslatedOnly ? bit.untranslatedOnly : 0n) |
    (answer.executable ? bit.executable : 0n) |
    (privileged ? bit.privileged : 0n) |
    (answer.noSnoop ? bit.noSnoop : 0n)
  )
}

/** What a device reads in the eight bytes, a number of 64 bits. */
export function decodeCompletion(word: bigint): Completion {
  const has = (each: bigint): boolean => (word & each) !== 0n
  const { base, sizeLog2 } = decodeSizeCode((word & frameMask) | (has(bit.large) ? 1n : 0n))
  return {
    spa: base,
    sizeLog2,
    readable: has(bit.readable),
    writable: has(bit.writable),
    executable: has(bit.executable),
    privileged: has(bit.privileged),
    noSnoop: has(bit.noSnoop),
    untranslatedOnly: has(bit.untranslatedOnly),
  }
}
