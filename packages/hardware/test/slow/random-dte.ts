import { bits } from './bits.js'
import type { Random } from './random.js'

/** A DTE under construction; every field is a number of its own. */
export interface DteFields {
  v: number
  tv: number
  reserved0: bigint
  had: number
  mode: number
  hostRoot: bigint
  ppr: number
  gprp: number
  giov: number
  gv: number
  glx: number
  gcr3Root: bigint
  ir: number
  iw: number
  domainId: number
  se: number
  sa: number
  ex: number
  sats: number
  guestPagingMode: number
  /** ORed to the third and fourth word. */
  upper: [bigint, bigint]
}

export function encodeDte(dte: DteFields): [bigint, bigint, bigint, bigint] {
  const at = (value: number | bigint, position: number): bigint => BigInt(value) << BigInt(position)
  const q0 =
    at(dte.v, 0) |
    at(dte.tv, 1) |
    at(dte.had, 7) |
    at(dte.mode, 9) |
    dte.hostRoot |
    at(dte.ppr, 52) |
    at(dte.gprp, 53) |
    at(dte.giov, 54) |
    at(dte.gv, 55) |
    at(dte.glx, 56) |
    at(bits(dte.gcr3Root, 14, 12), 58) |
    at(dte.ir, 61) |
    at(dte.iw, 62) |
    dte.reserved0
  const q1 =
    at(dte.domainId, 0) |
    at(bits(dte.gcr3Root, 30, 15), 16) |
    at(dte.se, 33) |
    at(dte.sa, 34) |
    at(dte.ex, 39) |
    at(dte.sats, 42) |
    at(bits(dte.gcr3Root, 51, 31), 43)
  return [q0, q1, at(dte.guestPagingMode, 54) | dte.upper[0], dte.upper[1]]
}

const deviations: ((dte: DteFields, random: Random) => void)[] = [
  (dte) => (dte.v = 0),
  (dte) => (dte.tv = 0),
  (dte) => (dte.ir = 0),
  (dte) => (dte.iw = 0),
  (dte) => (dte.ir = dte.iw = 0),
  (dte, random) => (dte.reserved0 = 1n << BigInt(random.pick([2, 3, 4, 5, 6, 63]))),
  (dte) => (dte.mode = 7),
  (dte, random) => (dte.mode = random.below(8)),
  (dte, random) => (dte.glx = random.below(4)),
  (dte) => (dte.glx = 3),
  (dte, random) => (dte.guestPagingMode = random.below(4)),
  (dte) => (dte.had = 2),
  (dte) => (dte.ppr = 1),
  (dte) => (dte.gprp = 1),
  (dte) => (dte.sats = 1),
  (dte) => (dte.giov ^= 1),
  (dte) => (dte.gv ^= 1),
  (dte) => (dte.sa = 1),
  (dte) => (dte.sa = 1),
  (dte, random) => (dte.upper[0] = random.pick([1n << 52n, 1n << 53n, 1n << 59n, 1n])),
  (dte, random) => (dte.upper[1] = random.pick([1n, 1n << 14n, 1n << 15n, 1n << 48n, random.bits(64)])),
]

export function deviate(dte: DteFields, random: Random): void {
  random.pick(deviations)(dte, random)
}
