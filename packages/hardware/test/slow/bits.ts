export function bits(value: bigint, high: number, low: number): bigint {
  return (value >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n)
}

export function bit(value: bigint, position: number): boolean {
  return ((value >> BigInt(position)) & 1n) === 1n
}

/** The mask of the bits high:low. */
export function mask(high: number, low: number): bigint {
  return ((1n << BigInt(high - low + 1)) - 1n) << BigInt(low)
}

/** Bits 51:12 of an entry or register, in place. */
export function frame(value: bigint): bigint {
  return value & mask(51, 12)
}
