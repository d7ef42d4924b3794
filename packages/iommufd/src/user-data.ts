/**
 * Driver data of a call, in the caller's memory or at hand.
 *
 * Linux include/linux/iommu.h, `iommu_copy_struct_from_user` and its array relatives.
 *
 * @packageDocumentation
 */
import type { UserData, UserDataArray } from './backend.js'
import { refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import type { AddressSpace } from './process.js'

/** Where bytes of a call come from: a process' memory; or an array, whose addresses count from 0. */
export type ByteSource = Pick<AddressSpace, 'read' | 'write'>

/** Bytes at hand, for callers in TypeScript. */
const atHand = (bytes: Uint8Array): ByteSource => ({
  read: (address, into) => {
    const from = bytes.subarray(Number(address), Number(address) + into.length)
    into.set(from)
    return from.length === into.length
  },
  write: (address, from) => {
    if (Number(address) + from.length > bytes.length) return false
    bytes.set(from, Number(address))
    return true
  },
})

const noBytes = atHand(new Uint8Array())

/** No driver data. */
export const noData: UserData = userData(noBytes, 0, 0n, 0)

/** Driver data from TypeScript: a structure of a type. Answers are written into `bytes`. */
export const driverData = (type: number, bytes: Uint8Array): UserData =>
  userData(atHand(bytes), type, 0n, bytes.length)

/** Requests from TypeScript: structures of a type, all of one size. */
export function driverDataArray(type: number, entries: readonly Uint8Array[]): UserDataArray {
  const length = entries[0]?.length ?? 0
  const bytes = new Uint8Array(length * entries.length)
  entries.forEach((entry, i) => {
    bytes.set(entry, i * length)
  })
  return userDataArray(atHand(bytes), { type, address: 0n, entryLength: length, count: entries.length })
}

/** Driver data in a process' memory. */
export function userData(memory: ByteSource, type: number, address: bigint, length: number): UserData {
  return {
    type,
    length,
    copyIn: (wanted, min, known) => {
      if (type !== wanted) return refuse('data-type', `driver data of type ${type} where ${wanted} is needed`)
      if (length < min || length > known)
        return refuse('data-length', `${length} bytes of driver data, not ${min} to ${known}`)
      return readPadded(memory, address, length, known)
    },
    copyOut: (bytes) => {
      const room = Math.min(length, bytes.length)
      return memory.write(address, bytes.subarray(0, room)) ? undefined : unreadable(address)
    },
  }
}

/** Where an array of requests lies. */
export interface ArrayPlace {
  readonly type: number
  readonly address: bigint
  readonly entryLength: number
  readonly count: number
}

/** Requests in a process' memory. */
export function userDataArray(memory: ByteSource, place: ArrayPlace): UserDataArray {
  const { type, address, entryLength, count } = place
  const at = (index: number): bigint => address + BigInt(index) * BigInt(entryLength)
  const whyOtherType = (wanted: number): Refusal | undefined =>
    type === wanted ? undefined : refuse('array-type', `requests of type ${type}, not ${wanted}`)
  return {
    type,
    entryLength,
    count,
    copyEntry: (wanted, index, min, known) => {
      const other = whyOtherType(wanted)
      if (other !== undefined) return other
      if (entryLength < min || entryLength > known)
        return refuse('array-entry-length', `requests of ${entryLength} bytes, not ${min} to ${known}`)
      return readPadded(memory, at(index), entryLength, known)
    },
    copyAll: (wanted, known) => {
      const other = whyOtherType(wanted)
      if (other !== undefined) return other
      if (count === 0) return refuse('array-empty', 'there are no requests')
      const kept = new Uint8Array(count * known)
      const tail = new Uint8Array(Math.max(entryLength - known, 0))
      for (let index = 0; index < count; index++) {
        const entry = kept.subarray(index * known, index * known + Math.min(known, entryLength))
        if (!memory.read(at(index), entry)) return unreadable(at(index))
        if (tail.length > 0 && !memory.read(at(index) + BigInt(known), tail)) return unreadable(at(index))
        if (tail.some((byte) => byte !== 0))
          return refuse('array-tail', `request ${index} has bytes that are not known, and not zero`)
      }
      return Array.from({ length: count }, (_, index) => kept.subarray(index * known, (index + 1) * known))
    },
  }
}

/** `length` bytes, and zeroes up to `known`. */
function readPadded(
  memory: ByteSource,
  address: bigint,
  length: number,
  known: number,
): Uint8Array | Refusal {
  const bytes = new Uint8Array(known)
  return memory.read(address, bytes.subarray(0, length)) ? bytes : unreadable(address)
}

const unreadable = (address: bigint): Refusal =>
  refuse('data-unreadable', `the caller has no memory at 0x${address.toString(16)}`)
