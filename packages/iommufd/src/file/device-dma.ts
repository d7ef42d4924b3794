/**
 * Extension: a program has a device of its own read or write memory, and is told what the IOMMU made of it.
 *
 * @packageDocumentation
 */
import { defineStruct, readStruct, u32, u64, u64Array, writeStruct } from '@nestwalk/bits'
import { load64, store64 } from '@nestwalk/hardware'
import type { Iommu, Memory, Translation } from '@nestwalk/hardware'
import type { FileResult, IoctlCall } from '../open-file.js'
import { refuse } from '../outcome.js'
import { pageBytes } from '../process.js'
import { failed } from './file-result.js'

/** Command word of the call on `/dev/vfio/devices/vfioN`. */
export const deviceDmaCommand = 0x3bf0

/** Its structure; docs/iommufd-extensions.md says what each field is. */
export const deviceDmaLayout = defineStruct({
  name: 'nestwalk_device_dma',
  byteLength: 64,
  fields: {
    argsz: u32(0),
    flags: u32(4),
    pasid: u32(8),
    length: u32(12),
    iova: u64(16),
    buffer: u64(24),
    outSpa: u64(32),
    outFrom: u32(40),
    outFiller: u32(44),
    outEvent: u64Array(48, 2),
  },
})

const writeFlag = 1
const pasidFlag = 2
const from = { walk: 0, iotlb: 1, identity: 2 } as const
const pasids = 1 << 20

/** What a device does its DMA in. */
export interface DmaMachine {
  readonly iommu: Iommu
  readonly memory: Memory
}

/**
 * Carries the call out for a device. EINVAL for what no device can send; EIO where the IOMMU refuses, with the event that
 * it logged; EFAULT where the buffer, or what the address leads to, is no memory.
 */
export function deviceDma(
  machine: DmaMachine,
  deviceId: number,
  { argument, process }: IoctlCall,
): FileResult {
  const bytes = new Uint8Array(deviceDmaLayout.byteLength)
  if (!process.memory.read(argument, bytes))
    return failed(refuse('argument-unreadable', `the caller has no memory at 0x${argument.toString(16)}`))
  const { argsz, flags, pasid, length, iova, buffer } = readStruct(deviceDmaLayout, bytes)
  const within = Number(BigInt.asUintN(12, iova))
  if (argsz < bytes.length || (flags & ~(writeFlag | pasidFlag)) !== 0 || pasid >= pasids)
    return failed(refuse('dma-arguments', `argsz ${argsz}, flags 0x${flags.toString(16)}, PASID ${pasid}`))
  if (length === 0 || within + length > pageBytes)
    return failed(refuse('dma-arguments', `${length} bytes at 0x${iova.toString(16)} do not lie in one page`))
  const write = (flags & writeFlag) !== 0
  const moved = new Uint8Array(length)
  if (write && !process.memory.read(buffer, moved)) return failed(noBuffer(buffer))
  const answer = machine.iommu.request({
    deviceId,
    iova,
    write,
    ...((flags & pasidFlag) === 0 ? {} : { pasid }),
  })
  writeStruct(deviceDmaLayout, outcomeOf(answer), bytes)
  if (!process.memory.write(argument, bytes))
    return failed(refuse('answer-unwritable', 'the answer cannot be written back'))
  if (answer.kind === 'fault') return failed(refuse('dma-refused', 'the IOMMU refuses the request'))
  const address = answer.kind === 'translated' ? answer.spa : answer.address
  const lands = address < 1n << 52n && move(machine.memory, address, moved, write)
  if (!lands) return failed(refuse('dma-no-memory', `there is no memory at SPA 0x${address.toString(16)}`))
  if (!write && !process.memory.write(buffer, moved)) return failed(noBuffer(buffer))
  return { ret: 0 }
}

const noBuffer = (buffer: bigint) =>
  refuse('dma-buffer', `the caller has no memory at 0x${buffer.toString(16)}`)

function outcomeOf(answer: Translation) {
  switch (answer.kind) {
    case 'translated':
      return { outSpa: answer.spa, outFrom: from[answer.from], outFiller: answer.filler }
    case 'fault':
      return { outEvent: BigUint64Array.from(answer.event) }
    default:
      return { outSpa: answer.address, outFrom: from.identity }
  }
}

/** Reads or writes bytes at a physical address, by the quad-words that they lie in. */
function move(memory: Memory, address: bigint, bytes: Uint8Array, write: boolean): boolean {
  const skip = Number(address & 7n)
  const first = address - BigInt(skip)
  const words = new BigUint64Array(Math.ceil((skip + bytes.length) / 8))
  for (let i = 0; i < words.length; i++) {
    const word = load64(memory, first + BigInt(i * 8))
    if (word === undefined) return false
    words[i] = word
  }
  const view = new Uint8Array(words.buffer)
  if (!write) {
    bytes.set(view.subarray(skip, skip + bytes.length))
    return true
  }
  view.set(bytes, skip)
  return words.every((word, i) => store64(memory, first + BigInt(i * 8), word))
}
