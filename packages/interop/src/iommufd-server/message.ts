/**
 * Messages between a program that uses `/dev/iommu` and the server behind it: a header of 8 bytes, then what the type says.
 *
 * docs/iommufd-server.md, "Wire format". Little-endian.
 *
 * @packageDocumentation
 */
import { defineStruct, s32, u32, u64 } from '@nestwalk/bits'
import type { StructField } from '@nestwalk/bits'

/** What the program's side sends. */
export const requestType = {
  hello: 1,
  open: 2,
  attach: 3,
  ioctl: 16,
  read: 17,
  write: 18,
  poll: 19,
  mmap: 20,
  munmap: 21,
  barrier: 22,
  procStatus: 23,
} as const

/** What the server sends: the end of every request. */
export const resultType = 48

export const protocolVersion = 1
export const headerBytes = 8
/** Room for a write of 1 MiB. */
export const mostMessageBytes = (1 << 20) + 4096

/** A signed 64-bit field. */
const s64 = (offset: number): StructField<bigint> => ({
  offset,
  byteLength: 8,
  alignment: 8,
  read: (view) => view.getBigInt64(offset, true),
  write: (view, value) => {
    view.setBigInt64(offset, value, true)
  },
})

/** What kinds of file OPEN opens. Kind 4 has the number of the device in its upper 32 bits. */
export const openKind = { iommu: 1, vfioContainer: 2, failNth: 3, vfioDevice: 4 } as const

export const helloLayout = defineStruct({
  name: 'HELLO',
  byteLength: 16,
  fields: { version: u32(0), pid: u32(4), uid: u32(8), pageBytes: u32(12) },
})

/** OPEN, and ATTACH with `what` being the handle of a file that a call has opened. */
export const openLayout = defineStruct({
  name: 'OPEN',
  byteLength: 16,
  fields: { what: u64(0), flags: u32(8), pid: u32(12) },
})

/** The fixed part of IOCTL, which is followed by `files` times {@link caughtFileLayout}, then `bytes` bytes of its argument. */
export interface IoctlRequest {
  readonly handle: bigint
  readonly cmd: number
  readonly pid: number
  readonly argument: bigint
  readonly capabilities: bigint
  readonly bytes: number
  readonly files: number
}

export const ioctlBytes = 40

/** Reads the fixed part of IOCTL. By hand, as nearly all messages are of this type. */
export const readIoctl = (body: Buffer): IoctlRequest => ({
  handle: body.readBigUInt64LE(0),
  cmd: body.readUInt32LE(8),
  pid: body.readUInt32LE(12),
  argument: body.readBigUInt64LE(16),
  capabilities: body.readBigUInt64LE(24),
  bytes: body.readUInt32LE(32),
  files: body.readUInt32LE(36),
})

/** A descriptor of the process that is one of the server's files. */
export const caughtFileLayout = defineStruct({
  name: 'IOCTL file',
  byteLength: 16,
  fields: { descriptor: s32(0), kind: u32(4), handle: u64(8) },
})

export const readLayout = defineStruct({
  name: 'READ',
  byteLength: 24,
  fields: { handle: u64(0), count: u64(8), offset: s64(16) },
})

/** Followed by the bytes. */
export const writeLayout = defineStruct({
  name: 'WRITE',
  byteLength: 24,
  fields: { handle: u64(0), offset: s64(8), count: u64(16) },
})

export const pollLayout = defineStruct({
  name: 'POLL',
  byteLength: 16,
  fields: { handle: u64(0), events: u32(8), zero: u32(12) },
})

export const mmapLayout = defineStruct({
  name: 'MMAP',
  byteLength: 32,
  fields: { handle: u64(0), length: u64(8), protection: u32(16), flags: u32(20), offset: u64(24) },
})

export const munmapLayout = defineStruct({ name: 'MUNMAP', byteLength: 8, fields: { region: u64(0) } })

export const procStatusLayout = defineStruct({
  name: 'PROCSTATUS',
  byteLength: 8,
  fields: { pid: u32(0), zero: u32(4) },
})

export const closeOnExecFlag = 1
