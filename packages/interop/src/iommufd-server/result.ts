/**
 * What the server answers, as bytes.
 *
 * @packageDocumentation
 */
import { errnoNumbers } from '@nestwalk/iommufd'
import type { Errno } from '@nestwalk/iommufd'
import { closeOnExecFlag, headerBytes, resultType } from './message.js'

/** Bytes for an address of the caller. */
export interface MemoryWrite {
  readonly address: bigint
  readonly bytes: Uint8Array
}

/** A file that a call has opened, by the handle with which it is attached. */
interface ResultFile {
  readonly handle: bigint
  readonly address: bigint
  readonly isCloseOnExec: boolean
}

export interface Result {
  readonly ret: number
  readonly errno?: Errno | undefined
  readonly writes?: readonly MemoryWrite[]
  readonly files?: readonly ResultFile[]
  readonly data?: Uint8Array | undefined
}

/** s64 ret, s32 errno, u32 writes, u32 files, u32 bytes of data. */
const fixedBytes = 24
/** u64 address, u32 bytes, u32 0; the bytes follow, filled up to a multiple of 8. */
const writeBytes = 16
/** u64 handle, u64 address, u32 flags, u32 0. */
const fileBytes = 24
/** s32 errno, u32 0, u64 handle. */
const openedBytes = 16

const paddedTo8 = (bytes: number): number => (bytes + 7) & ~7

/** Number of an errno; 0 for none. */
const numberOf = (errno: Errno | undefined): number => (errno === undefined ? 0 : errnoNumbers[errno])

const nothing = new Uint8Array()

/** The message for a result. By hand, as every request is answered with one. */
export function encodeResult({ ret, errno, writes = [], files = [], data = nothing }: Result): Buffer {
  let body = fixedBytes + files.length * fileBytes + data.length
  for (const { bytes } of writes) body += writeBytes + paddedTo8(bytes.length)
  const message = emptyMessage(body)
  let at = headerBytes
  message.writeBigInt64LE(BigInt(ret), at)
  message.writeInt32LE(numberOf(errno), at + 8)
  message.writeUInt32LE(writes.length, at + 12)
  message.writeUInt32LE(files.length, at + 16)
  message.writeUInt32LE(data.length, at + 20)
  at += fixedBytes
  for (const { address, bytes } of writes) {
    message.writeBigUInt64LE(address, at)
    message.writeUInt32LE(bytes.length, at + 8)
    message.set(bytes, at + writeBytes)
    at += writeBytes + paddedTo8(bytes.length)
  }
  for (const { handle, address, isCloseOnExec } of files) {
    message.writeBigUInt64LE(handle, at)
    message.writeBigUInt64LE(address, at + 8)
    message.writeUInt32LE(isCloseOnExec ? closeOnExecFlag : 0, at + 16)
    at += fileBytes
  }
  message.set(data, at)
  return message
}

/** The message for OPEN and ATTACH. */
export function encodeOpened(outcome: { readonly handle: bigint } | { readonly errno: Errno }): Buffer {
  const message = emptyMessage(openedBytes)
  if ('handle' in outcome) message.writeBigUInt64LE(outcome.handle, headerBytes + 8)
  else message.writeInt32LE(numberOf(outcome.errno), headerBytes)
  return message
}

function emptyMessage(bodyBytes: number): Buffer {
  const message = Buffer.allocUnsafe(headerBytes + bodyBytes).fill(0)
  message.writeUInt32LE(message.length, 0)
  message.writeUInt16LE(resultType, 4)
  return message
}
