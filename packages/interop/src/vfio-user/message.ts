/**
 * Messages of vfio-user: a header of 16 bytes, then what the command says.
 *
 * QEMU docs/interop/vfio-user.rst, "Header", "Commands" and the tables of each command; structures as in Linux
 * include/uapi/linux/vfio.h. Numbers are in the byte order of the host, which is little-endian here.
 *
 * @packageDocumentation
 */
import { defineStruct, readStruct, u16, u32, u64, writeStruct } from '@nestwalk/bits'

/** Commands that are known. Requests come from the VMM, but for the two that begin with `dma` and end in a direction. */
export const vfioCommand = {
  version: 1,
  dmaMap: 2,
  dmaUnmap: 3,
  getInfo: 4,
  getRegionInfo: 5,
  getIrqInfo: 7,
  setIrqs: 8,
  regionRead: 9,
  regionWrite: 10,
  dmaRead: 11,
  dmaWrite: 12,
  reset: 13,
} as const

/** Of Linux include/uapi/asm-generic/errno-base.h and errno.h. */
const errno = { ENOENT: 2, EEXIST: 17, EINVAL: 22, ENOSPC: 28, EOPNOTSUPP: 95 } as const
export type ErrnoName = keyof typeof errno

export const headerBytes = 16
/** The most that one read or write moves: the default of the protocol. */
export const mostTransferBytes = 1 << 20
/** Header, fixed part and a whole transfer. */
export const mostMessageBytes = headerBytes + 16 + mostTransferBytes

const typeMask = 0xf
const replyType = 1
const noReplyFlag = 0x10
const errorFlag = 0x20

const headerLayout = defineStruct({
  name: 'vfio_user_header',
  byteLength: headerBytes,
  fields: { id: u16(0), command: u16(2), size: u32(4), flags: u32(8), error: u32(12) },
})

/** DMA_MAP. `offset` is where the region begins in the file that comes with the message. */
export const dmaMapLayout = defineStruct({
  name: 'vfio_user_dma_map',
  byteLength: 32,
  fields: { argsz: u32(0), flags: u32(4), offset: u64(8), address: u64(16), size: u64(24) },
})

export const dmaUnmapLayout = defineStruct({
  name: 'vfio_user_dma_unmap',
  byteLength: 24,
  fields: { argsz: u32(0), flags: u32(4), address: u64(8), size: u64(16) },
})

export const deviceInfoLayout = defineStruct({
  name: 'vfio_device_info',
  byteLength: 16,
  fields: { argsz: u32(0), flags: u32(4), regions: u32(8), irqs: u32(12) },
})

export const regionInfoLayout = defineStruct({
  name: 'vfio_region_info',
  byteLength: 32,
  fields: { argsz: u32(0), flags: u32(4), index: u32(8), capOffset: u32(12), size: u64(16), offset: u64(24) },
})

export const irqInfoLayout = defineStruct({
  name: 'vfio_irq_info',
  byteLength: 16,
  fields: { argsz: u32(0), flags: u32(4), index: u32(8), count: u32(12) },
})

export const setIrqsLayout = defineStruct({
  name: 'vfio_irq_set',
  byteLength: 20,
  fields: { argsz: u32(0), flags: u32(4), index: u32(8), start: u32(12), count: u32(16) },
})

/** REGION_READ and REGION_WRITE; the bytes follow in the reply to a read and in a write. */
export const regionAccessLayout = defineStruct({
  name: 'vfio_user_region_access',
  byteLength: 16,
  fields: { offset: u64(0), region: u32(8), count: u32(12) },
})

/** DMA_READ and DMA_WRITE. */
export const dmaAccessLayout = defineStruct({
  name: 'vfio_user_dma_access',
  byteLength: 16,
  fields: { address: u64(0), count: u64(8) },
})

/** A message that has come. */
export interface Message {
  readonly id: number
  readonly command: number
  /** A request, or the reply to one of ours; undefined for a type that the protocol does not have. */
  readonly type: 'request' | 'reply' | undefined
  /** The sender wants no reply. */
  readonly isUnanswered: boolean
  /** Of a reply: undefined if all went well, otherwise the errno, 0 if the sender named none. */
  readonly error: number | undefined
  readonly payload: Uint8Array
}

/** The size that a header announces, header included. */
export const sizeOf = (header: Uint8Array): number => readStruct(headerLayout, header).size

/** @param bytes - one message, whole */
export function decodeMessage(bytes: Uint8Array): Message {
  const { id, command, flags, error } = readStruct(headerLayout, bytes)
  const type = (['request', 'reply'] as const)[flags & typeMask]
  return {
    ...{ id, command, type },
    isUnanswered: (flags & noReplyFlag) !== 0,
    error: (flags & errorFlag) !== 0 ? error : undefined,
    payload: bytes.subarray(headerBytes),
  }
}

const empty = new Uint8Array(0)

function encode(header: { id: number; command: number; flags: number; error: number }, payload: Uint8Array) {
  const bytes = new Uint8Array(headerBytes + payload.length)
  writeStruct(headerLayout, { ...header, size: bytes.length }, bytes)
  bytes.set(payload, headerBytes)
  return bytes
}

/** A request of ours, which is to be answered. */
export const encodeRequest = (id: number, command: number, payload: Uint8Array): Uint8Array =>
  encode({ id, command, flags: 0, error: 0 }, payload)

/** The reply to a request: with a payload, or with an errno and nothing else. */
export function encodeReply({ id, command }: Message, answer: Uint8Array | ErrnoName): Uint8Array {
  return typeof answer === 'string'
    ? encode({ id, command, flags: replyType | errorFlag, error: errno[answer] }, empty)
    : encode({ id, command, flags: replyType, error: 0 }, answer)
}
