/**
 * Physical memory as one side sees it: by SPA for the chip and the host, by GPA for a guest.
 *
 * One small synchronous interface for everything that reads or writes memory. Addresses and 64-bit values are pairs
 * of int32 words (`lo`, `hi`); memory is little-endian. Nobody reads memory behind its back, so a wrapper sees every
 * access.
 *
 * @packageDocumentation
 */

/** See the file's comment. */
export interface Memory {
  /** The 32-bit word at an address that is a multiple of 4; `undefined` where there is no memory. */
  load32(lo: number, hi: number): number | undefined
  /** Stores a 32-bit word. False where there is no memory: then nothing has changed. */
  store32(lo: number, hi: number, value: number): boolean
  /** Stores a 64-bit word at a multiple of 8 in one access. False where there is no memory. */
  store64(lo: number, hi: number, valueLo: number, valueHi: number): boolean
}

/** A 64-bit word of memory at `address`, a multiple of 8; `undefined` where there is no memory. */
export function load64(memory: Memory, address: bigint): bigint | undefined {
  checkAddress(address)
  const lo = Number(BigInt.asIntN(32, address))
  const hi = Number(BigInt.asIntN(32, address >> 32n))
  const valueLo = memory.load32(lo, hi)
  const valueHi = memory.load32(lo + 4, hi)
  if (valueLo === undefined || valueHi === undefined) return undefined
  return (BigInt(valueHi >>> 0) << 32n) | BigInt(valueLo >>> 0)
}

/** Stores a 64-bit word at `address`, a multiple of 8. False where there is no memory. */
export function store64(memory: Memory, address: bigint, value: bigint): boolean {
  checkAddress(address)
  return memory.store64(
    Number(BigInt.asIntN(32, address)),
    Number(BigInt.asIntN(32, address >> 32n)),
    Number(BigInt.asIntN(32, value)),
    Number(BigInt.asIntN(32, value >> 32n)),
  )
}

function checkAddress(address: bigint): void {
  if (address < 0n || address >= 1n << 52n) throw new RangeError(`address ${address} is not below 2^52`)
  if ((address & 7n) !== 0n) throw new RangeError(`address 0x${address.toString(16)} is not a multiple of 8`)
}
