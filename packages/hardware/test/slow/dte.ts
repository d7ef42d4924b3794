import { bit, bits, frame, mask } from './bits.js'
import type { Machine } from './types.js'

/** Section 2.2, the fields that a memory request looks at. */
export interface Dte {
  words: readonly [bigint, bigint, bigint, bigint]
  v: boolean
  tv: boolean
  had: number
  mode: number
  hostRoot: bigint
  ppr: boolean
  gprp: boolean
  giov: boolean
  gv: boolean
  glx: number
  gcr3Root: bigint
  ir: boolean
  iw: boolean
  domainId: bigint
  sa: boolean
  ex: boolean
  sats: boolean
  guestPagingMode: number
  vImuEn: boolean
}

export function decodeDte(words: readonly [bigint, bigint, bigint, bigint]): Dte {
  const [q0, q1, q2, q3] = words
  return {
    words,
    v: bit(q0, 0),
    tv: bit(q0, 1),
    had: Number(bits(q0, 8, 7)),
    mode: Number(bits(q0, 11, 9)),
    hostRoot: frame(q0),
    ppr: bit(q0, 52),
    gprp: bit(q0, 53),
    giov: bit(q0, 54),
    gv: bit(q0, 55),
    glx: Number(bits(q0, 57, 56)),
    // Section 2.3
    gcr3Root: (bits(q0, 60, 58) << 12n) | (bits(q1, 31, 16) << 15n) | (bits(q1, 63, 43) << 31n),
    ir: bit(q0, 61),
    iw: bit(q0, 62),
    domainId: bits(q1, 15, 0),
    sa: bit(q1, 34),
    ex: bit(q1, 39),
    sats: bit(q1, 42),
    guestPagingMode: Number(bits(q2, 55, 54)),
    vImuEn: bit(q3, 15),
  }
}

/** Section 2.6, rows with RZ=1 for V=1 on a memory request: reserved and gated bits of 127:0. */
export function reservedInLowerHalf(dte: Dte, machine: Machine): string | undefined {
  const { efr } = machine.features
  const { control } = machine.registers
  if ((dte.words[0] & (mask(6, 2) | mask(63, 63))) !== 0n) return 'dte-reserved-bits'
  const enhancedPpr = bit(efr, 50) && bit(control, 45)
  if ((dte.ppr || dte.gprp) && !enhancedPpr) return 'dte-ppr-gated'
  const guestTranslation = bit(efr, 4) && bit(control, 16)
  if ((dte.gv || dte.glx !== 0 || dte.gcr3Root !== 0n) && !guestTranslation) return 'dte-gv-gated'
  if (dte.giov && !bit(efr, 48)) return 'dte-giov-gated'
  if (dte.sats && !bit(efr, 31)) return 'dte-sats-gated'
  return undefined
}

/** The reserved bits of 255:128, looked at only with the switch 'upper-half-on-dma'. */
export function reservedInUpperHalf(dte: Dte, machine: Machine): boolean {
  if ((dte.words[2] & mask(53, 52)) !== 0n) return true
  if ((dte.words[3] & (mask(14, 0) | mask(53, 48))) !== 0n) return true
  return dte.vImuEn && !(bit(machine.features.efr, 55) && bit(machine.registers.control, 53))
}

/** Section 1.7, HATS: the deepest host table. 0: no host translation. */
export function deepestHostLevel(efr: bigint): number {
  const hats = Number(bits(efr, 11, 10))
  return hats === 3 ? 0 : 4 + hats
}
