/**
 * What the server answers, as bytes.
 *
 * @packageDocumentation
 */
import { writeStruct } from '@nestwalk/bits'
import { errnoNumbers } from '@nestwalk/iommufd'
import {
  closeOnExecFlag,
  headerBytes,
  headerLayout,
  openedLayout,
  resultFileLayout,
  resultLayout,
  resultType,
  resultWriteLayout,
} from './message.js'

/** An errno that a call may end with. */
export type Errno = keyof typeof errnoNumbers

/** Bytes for an address of the caller. */
export interface MemoryWrite {
  readonly address: bigint
  readonly bytes: Uint8Array
}

/** A file that a call has opened, by the handle with which it is attached. */
export interface ResultFile {
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

const paddedTo8 = (bytes: number): number => (bytes + 7) & ~7

/** Number of an errno; 0 for none. */
const numberOf = (errno: Errno | undefined): number => (errno === undefined ? 0 : errnoNumbers[errno])

/** The message for a result. */
export function encodeResult({
  ret,
  errno,
  writes = [],
  files = [],
  data = new Uint8Array(),
}: Result): Buffer {
  const writesBytes = writes.reduce(
    (sum, { bytes }) => sum + resultWriteLayout.byteLength + paddedTo8(bytes.length),
    0,
  )
  const body = resultLayout.byteLength + writesBytes + files.length * resultFileLayout.byteLength
  const message = emptyMessage(body + data.length)
  writeStruct(
    resultLayout,
    {
      ...{ ret: BigInt(ret), errno: numberOf(errno) },
      ...{ writes: writes.length, files: files.length, dataBytes: data.length },
    },
    message.subarray(headerBytes),
  )
  let at = headerBytes + resultLayout.byteLength
  for (const { address, bytes } of writes) {
    writeStruct(resultWriteLayout, { address, bytes: bytes.length }, message.subarray(at))
    message.set(bytes, at + resultWriteLayout.byteLength)
    at += resultWriteLayout.byteLength + paddedTo8(bytes.length)
  }
  for (const { handle, address, isCloseOnExec } of files) {
    const flags = isCloseOnExec ? closeOnExecFlag : 0
    writeStruct(resultFileLayout, { handle, address, flags }, message.subarray(at))
    at += resultFileLayout.byteLength
  }
  message.set(data, at)
  return message
}

/** The message for OPEN and ATTACH. */
export function encodeOpened(outcome: { readonly handle: bigint } | { readonly errno: Errno }): Buffer {
  const message = emptyMessage(openedLayout.byteLength)
  const value = 'handle' in outcome ? outcome : { errno: numberOf(outcome.errno) }
  writeStruct(openedLayout, value, message.subarray(headerBytes))
  return message
}

function emptyMessage(bodyBytes: number): Buffer {
  const message = Buffer.alloc(headerBytes + bodyBytes)
  writeStruct(headerLayout, { length: message.length, type: resultType, zero: 0 }, message)
  return message
}
