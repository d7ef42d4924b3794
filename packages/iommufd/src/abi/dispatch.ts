/**
 * One ioctl of `/dev/iommu`: the structure comes in by the size rules, the call is carried out, the answer goes back.
 *
 * Linux drivers/iommu/iommufd/main.c, `iommufd_fops_ioctl`.
 *
 * @packageDocumentation
 */
import { readStruct, writeStruct } from '@nestwalk/bits'
import type { FileResult } from '../open-file.js'
import { isRefusal, refuse } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import { failed } from '../file/file-result.js'
import type { AddressSpace } from '../process.js'
import type { Caller, Ioctl, Reply } from './ioctl.js'
import { commandBase } from './ioctl-table.js'

/** Longest structure that is looked at: Linux reads on for as long as the caller says, through 4 GiB of zeroes. */
const mostBytes = 1 << 20
/** Bytes of an unknown tail that are looked at in one go. */
const tailBytes = 4096

/** Carries a call out; `ioctl` is the one of the command's number, if there is one. */
export function dispatch(
  caller: Caller,
  cmd: number,
  ioctl: Ioctl | undefined,
): { readonly result: FileResult; readonly outcome?: Outcome<Reply> } {
  const { memory } = caller.process
  const size = sizeOf(memory, caller.argument)
  if (size === undefined) return { result: failed(unreadable(caller.argument)) }
  if (ioctl === undefined || cmd !== commandBase + ioctl.number)
    return {
      result: failed(refuse('unknown-command', `0x${cmd.toString(16)} is no command of /dev/iommu`)),
    }
  const bytes = copyIn(memory, caller.argument, size, ioctl)
  if (isRefusal(bytes)) return { result: failed(bytes) }
  const outcome = ioctl.run(caller, readStruct(ioctl.struct, bytes))
  if (!outcome.ok) return { result: failed(outcome), outcome }
  const { out, ret = 0, newFiles, refused, isSilent = false } = outcome.value
  if (!isSilent && (refused === undefined || out !== undefined)) {
    writeStruct(ioctl.struct, out ?? {}, bytes)
    if (!copyOut(memory, caller.argument, size < bytes.length ? bytes.subarray(0, size) : bytes, ioctl))
      return { result: failed(refuse('answer-unwritable', 'the answer cannot be written back')), outcome }
  }
  if (refused !== undefined) return { result: failed(refused), outcome }
  return { result: newFiles === undefined ? { ret } : { ret, newFiles }, outcome }
}

const sizeBytes = new Uint8Array(4)
const sizeView = new DataView(sizeBytes.buffer)

/** The size that the caller says its structure has: the first four bytes. */
const sizeOf = (memory: AddressSpace, address: bigint): number | undefined =>
  memory.read(address, sizeBytes) ? sizeView.getUint32(0, true) : undefined

/** The structure as the call knows it: zeroes for what a shorter caller does not have. */
function copyIn(memory: AddressSpace, address: bigint, size: number, ioctl: Ioctl): Uint8Array | Refusal {
  const known = ioctl.struct.byteLength
  if (size < ioctl.min)
    return refuse('size-too-small', `${ioctl.struct.name} has ${ioctl.min} bytes at least, not ${size}`)
  if (size > mostBytes) return refuse('size-too-large', `${size} bytes are more than ${mostBytes}`)
  const { bytes } = ioctl
  if (size < known) bytes.fill(0, size)
  if (!memory.read(address, size < known ? bytes.subarray(0, size) : bytes)) return unreadable(address)
  for (let at = known; at < size; at += tailBytes) {
    const tail = new Uint8Array(Math.min(tailBytes, size - at))
    if (!memory.read(address + BigInt(at), tail)) return unreadable(address + BigInt(at))
    if (tail.some((byte) => byte !== 0))
      return refuse(
        'size-unknown-tail',
        `${ioctl.struct.name} has ${known} bytes here, and more are not zero`,
      )
  }
  return bytes
}

function copyOut(memory: AddressSpace, address: bigint, bytes: Uint8Array, ioctl: Ioctl): boolean {
  const { writesBack, struct } = ioctl
  if (writesBack === 'nothing') return true
  if (writesBack === undefined) return memory.write(address, bytes)
  const field = struct.fields[writesBack]
  if (field === undefined) return true
  const { offset, byteLength } = field
  return memory.write(address + BigInt(offset), bytes.subarray(offset, offset + byteLength))
}

const unreadable = (address: bigint): Refusal =>
  refuse('argument-unreadable', `the caller has no memory at 0x${address.toString(16)}`)
