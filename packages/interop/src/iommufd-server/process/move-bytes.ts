/**
 * Reads and writes of all bytes or none that count, at a place in a file, or at an address in `/proc/PID/mem`.
 *
 * @packageDocumentation
 */
import { readSync, writeSync } from 'node:fs'

/** False: something is not there, and `into` may have changed. */
export function readAll(file: number, into: Uint8Array, position: number): boolean {
  return moveAll(into.length, (at) => readSync(file, into, at, into.length - at, position + at))
}

/** False: something is not there, and a part may have been written. */
export function writeAll(file: number, from: Uint8Array, position: number): boolean {
  return moveAll(from.length, (at) => writeSync(file, from, at, from.length - at, position + at))
}

function moveAll(bytes: number, move: (at: number) => number): boolean {
  try {
    for (let at = 0; at < bytes;) {
      const moved = move(at)
      if (moved === 0) return false
      at += moved
    }
    return true
  } catch {
    // EIO: there is no memory at the address.
    return false
  }
}
