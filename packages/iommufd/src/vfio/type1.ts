/**
 * The calls of VFIO's type 1 on an iommufd file, acting on its compatible IOAS.
 *
 * Linux drivers/iommu/iommufd/vfio_compat.c, include/uapi/linux/vfio.h.
 *
 * @packageDocumentation
 */
import { defineStruct, readStruct, u16, u32, u64, writeStruct } from '@nestwalk/bits'
import type { Caller } from '../abi/ioctl.js'
import { chargeOf } from '../abi/ioas-calls.js'
import { failed, noIoctl } from '../file/file-result.js'
import type { IoPagetable } from '../io-pagetable/io-pagetable.js'
import { mapMemory } from '../ioas/map.js'
import type { Ioas, ObjectId } from '../object/object.js'
import type { FileResult } from '../open-file.js'
import { isRefusal, refuse } from '../outcome.js'
import type { Refusal } from '../outcome.js'
import { pageBytes } from '../process.js'
import { concatenate } from '../queue/fault-queue.js'

const vfioType1Commands = {
  getApiVersion: 0x3b64,
  checkExtension: 0x3b65,
  setIommu: 0x3b66,
  getInfo: 0x3b70,
  mapDma: 0x3b71,
  unmapDma: 0x3b72,
} as const

export const vfioIommuType1Info = defineStruct({
  name: 'vfio_iommu_type1_info',
  byteLength: 24,
  fields: { argsz: u32(0), flags: u32(4), iovaPgsizes: u64(8), capOffset: u32(16), pad: u32(20) },
})

export const vfioIommuType1DmaMap = defineStruct({
  name: 'vfio_iommu_type1_dma_map',
  byteLength: 32,
  fields: { argsz: u32(0), flags: u32(4), vaddr: u64(8), iova: u64(16), size: u64(24) },
})

export const vfioIommuType1DmaUnmap = defineStruct({
  name: 'vfio_iommu_type1_dma_unmap',
  byteLength: 24,
  fields: { argsz: u32(0), flags: u32(4), iova: u64(8), size: u64(16) },
})

/** Extensions that are asked for, and the type that SET_IOMMU sets. */
const type1 = 1n
const type1v2 = 3n
const dmaCacheCoherent = 4n
const unmapAllExtension = 9n

/** Carries a call out; ENOTTY for what is none of them. */
export function vfioCall(caller: Caller, cmd: number): FileResult {
  switch (cmd) {
    case vfioType1Commands.getApiVersion:
      return { ret: 0 }
    case vfioType1Commands.checkExtension:
      return checkExtension(caller)
    case vfioType1Commands.setIommu:
      return setIommu(caller)
    case vfioType1Commands.getInfo:
      return getInfo(caller)
    case vfioType1Commands.mapDma:
      return mapDma(caller)
    case vfioType1Commands.unmapDma:
      return unmapDma(caller)
    default:
      return noIoctl(cmd)
  }
}

function compatibleIoas({ context }: Caller): (Ioas & { readonly id: ObjectId }) | Refusal {
  const id = context.compatibleIoas
  if (id === undefined) return refuse('no-compatible-ioas', 'no IOAS is set for VFIO compatibility')
  return { ...context.objects.held(id, 'ioas'), id }
}

function checkExtension(caller: Caller): FileResult {
  switch (caller.argument) {
    case type1:
    case type1v2:
    case unmapAllExtension:
      return { ret: 1 }
    case dmaCacheCoherent: {
      const ioas = compatibleIoas(caller)
      if (isRefusal(ioas)) return failed(ioas)
      const hwpts = [...caller.context.objects.all('paging-hwpt')].filter(([, hwpt]) => hwpt.ioas === ioas.id)
      return { ret: hwpts.every(([, { domain }]) => domain.enforcesCoherency) ? 1 : 0 }
    }
    default:
      return { ret: 0 }
  }
}

function setIommu(caller: Caller): FileResult {
  const type = caller.argument
  if (type !== type1 && type !== type1v2)
    return failed(refuse('vfio-iommu-type', `type ${type} is neither TYPE1 1 nor TYPE1v2 3`))
  const ioas = compatibleIoas(caller)
  if (isRefusal(ioas)) return failed(ioas)
  // Type 1 of the first version lets mappings be cut: they are kept in single pages.
  const refused = type === type1 ? ioas.table.setHugePages(false) : undefined
  return refused === undefined ? { ret: 0 } : failed(refused)
}

const readFlag = 1
const writeFlag = 2

function mapDma(caller: Caller): FileResult {
  const { context, process, argument } = caller
  const bytes = new Uint8Array(vfioIommuType1DmaMap.byteLength)
  if (!process.memory.read(argument, bytes)) return failed(unreadable(argument))
  const { argsz, flags, vaddr, iova, size } = readStruct(vfioIommuType1DmaMap, bytes)
  if (argsz < bytes.length || (flags & ~(readFlag | writeFlag)) !== 0)
    return failed(refuse('vfio-arguments', `argsz ${argsz}, flags 0x${flags.toString(16)}`))
  const ioas = compatibleIoas(caller)
  if (isRefusal(ioas)) return failed(ioas)
  const done = caller.file.shared.kernel.settle(
    mapMemory(context, {
      ...{ ioas: ioas.id, iova, length: size },
      memory: {
        ...{ start: vaddr, isFile: false, charge: chargeOf(caller) },
        source: (start, pages) => process.memory.source(start, pages),
      },
      readable: (flags & readFlag) !== 0,
      writeable: (flags & writeFlag) !== 0,
    }),
  )
  return done.ok ? { ret: 0 } : failed(done)
}

const unmapAllFlag = 2

function unmapDma(caller: Caller): FileResult {
  const { process, argument } = caller
  const bytes = new Uint8Array(vfioIommuType1DmaUnmap.byteLength)
  if (!process.memory.read(argument, bytes)) return failed(unreadable(argument))
  const { argsz, flags, iova, size } = readStruct(vfioIommuType1DmaUnmap, bytes)
  if (argsz < bytes.length || (flags & ~unmapAllFlag) !== 0)
    return failed(refuse('vfio-arguments', `argsz ${argsz}, flags 0x${flags.toString(16)}`))
  const ioas = compatibleIoas(caller)
  if (isRefusal(ioas)) return failed(ioas)
  const range = { iova, size, isAll: (flags & unmapAllFlag) !== 0 }
  const unready = readyFor(ioas.table, range)
  if (unready !== undefined) return failed(unready)
  const { unmapped, refused } = unmap(caller, ioas.table, range)
  // From here on the bytes are told whether or not it went well.
  const { offset } = vfioIommuType1DmaUnmap.fields.size
  writeStruct(vfioIommuType1DmaUnmap, { size: unmapped }, bytes)
  if (!process.memory.write(argument + BigInt(offset), bytes.subarray(offset, offset + 8)))
    return failed(refuse('answer-unwritable', 'the answer cannot be written back'))
  return refused === undefined ? { ret: 0 } : failed(refused)
}

interface UnmapRange {
  readonly iova: bigint
  readonly size: bigint
  readonly isAll: boolean
}

/** Cuts areas at both edges of the range, where mappings may be cut; the last edge first. */
function readyFor(table: IoPagetable, { iova, size, isAll }: UnmapRange): Refusal | undefined {
  if (isAll) {
    if (iova === 0n && size === 0n) return undefined
    return refuse('vfio-arguments', 'ALL goes with address 0 and size 0')
  }
  if (table.isHugePagesOn) return undefined
  return (
    (size === 0n ? undefined : table.cutBehind(iova + size - 1n)) ??
    (iova === 0n ? undefined : table.cutBehind(iova - 1n))
  )
}

interface UnmapResult {
  readonly unmapped: bigint
  readonly refused?: Refusal
}

function unmap(caller: Caller, table: IoPagetable, { iova, size, isAll }: UnmapRange): UnmapResult {
  const { kernel } = caller.context
  const done = caller.file.shared.kernel.settle(
    isAll ? table.unmapAll(kernel) : table.unmap(kernel, iova, size),
  )
  if (done.ok) {
    const { bytes, refused } = done.value
    return refused === undefined ? { unmapped: bytes } : { unmapped: bytes, refused }
  }
  // An empty range is fine here, unlike in IOAS_UNMAP.
  const isEmpty = done.rule === 'unmap-nothing'
  return isEmpty ? { unmapped: 0n } : { unmapped: 0n, refused: done }
}

const infoPageSizes = 1
const infoCapabilities = 2
const dmaAvail = 3
const iovaRange = 1
/** How many mappings may still be made: no limit of ours. */
const available = 0xffff_ffff

const dmaAvailCapability = defineStruct({
  name: 'vfio_iommu_type1_info_dma_avail',
  byteLength: 16,
  fields: { id: u16(0), version: u16(2), next: u32(4), avail: u32(8) },
})

const iovaRangeCapability = defineStruct({
  name: 'vfio_iommu_type1_info_cap_iova_range',
  byteLength: 16,
  fields: { id: u16(0), version: u16(2), next: u32(4), nrIovas: u32(8), reserved: u32(12) },
})

const iovaRangeEntry = defineStruct({
  name: 'vfio_iova_range',
  byteLength: 16,
  fields: { start: u64(0), end: u64(8) },
})

function getInfo(caller: Caller): FileResult {
  const { memory } = caller.process
  const head = new Uint8Array(vfioIommuType1Info.byteLength)
  const min = vfioIommuType1Info.fields.capOffset.offset
  if (!memory.read(caller.argument, head.subarray(0, min))) return failed(unreadable(caller.argument))
  const { argsz } = readStruct(vfioIommuType1Info, head)
  if (argsz < min) return failed(refuse('vfio-arguments', `argsz ${argsz} is less than ${min}`))
  const ioas = compatibleIoas(caller)
  if (isRefusal(ioas)) return failed(ioas)
  const chain = capabilityChain(ioas.table)
  const total = head.length + chain.length
  const room = Math.min(argsz, total)
  writeStruct(
    vfioIommuType1Info,
    {
      argsz: total,
      flags: infoPageSizes | infoCapabilities,
      iovaPgsizes: pageSizesOf(caller, ioas.id),
      capOffset: argsz >= total ? head.length : 0,
    },
    head,
  )
  if (!memory.write(caller.argument, concatenate([head, chain]).subarray(0, room)))
    return failed(refuse('answer-unwritable', 'the answer cannot be written back'))
  return { ret: 0 }
}

function capabilityChain(table: IoPagetable): Uint8Array {
  const first = vfioIommuType1Info.byteLength
  const ranges = table.ranges()
  return concatenate([
    writeStruct(dmaAvailCapability, {
      ...{ id: dmaAvail, version: 1, next: first + dmaAvailCapability.byteLength, avail: available },
    }),
    writeStruct(iovaRangeCapability, { id: iovaRange, version: 1, next: 0, nrIovas: ranges.length }),
    ...ranges.map((range) => writeStruct(iovaRangeEntry, { start: range.first, end: range.last })),
  ])
}

/** What all HWPTs have in common; less than a page of the processor counts as one. */
function pageSizesOf({ context }: Caller, id: ObjectId): bigint {
  const page = BigInt(pageBytes)
  let sizes = (1n << 64n) - 1n
  for (const [, hwpt] of context.objects.all('paging-hwpt'))
    if (hwpt.ioas === id) sizes &= hwpt.domain.pageSizes
  const whole = sizes & ~(page - 1n)
  return whole === sizes ? sizes : whole | page
}

const unreadable = (address: bigint): Refusal =>
  refuse('argument-unreadable', `the caller has no memory at 0x${address.toString(16)}`)
