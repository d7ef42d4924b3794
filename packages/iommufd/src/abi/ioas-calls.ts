/**
 * The calls on IOAS: addresses and memory.
 *
 * Linux drivers/iommu/iommufd/ioas.c.
 *
 * @packageDocumentation
 */
import { readStruct, writeStruct } from '@nestwalk/bits'
import type { StructValue } from '@nestwalk/bits'
import type { AddressRange } from '../backend.js'
import { copyMapping, mapFlags, mapMemory, unmapMemory, whyNoMapping } from '../ioas/map.js'
import type { MappedMemory } from '../ioas/map.js'
import { IoPagetable } from '../io-pagetable/io-pagetable.js'
import type { PinCharge } from '../io-pagetable/pin-accounts.js'
import { accept, isRefusal, refuse } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import { pageBytes } from '../process.js'
import type { Context } from '../context.js'
import { defineIoctl } from './ioctl.js'
import type { Caller } from './ioctl.js'
import {
  iommuIoasAlloc,
  iommuIoasAllowIovas,
  iommuIoasChangeProcess,
  iommuIoasCopy,
  iommuIoasIovaRanges,
  iommuIoasMap,
  iommuIoasMapFile,
  iommuIoasNoiommuGetPa,
  iommuIoasUnmap,
  iommuIovaRange,
} from './structs.js'

/** Most ranges of an ALLOW_IOVAS: a caller may name 2^32, and each would be kept. */
const mostAllowedRanges = 1 << 16

const ioasAlloc = defineIoctl({
  name: 'ioas_alloc',
  number: 0x81,
  struct: iommuIoasAlloc,
  min: 12,
  run: ({ context }, { flags }) => {
    if (flags !== 0) return refuse('flags', `flags 0x${flags.toString(16)} are not known`)
    const made = context.ioasAlloc()
    return made.ok ? accept({ out: { outIoasId: made.value }, created: made.value }, made.effects) : made
  },
})

const ioasAllowIovas = defineIoctl({
  name: 'ioas_allow_iovas',
  number: 0x82,
  struct: iommuIoasAllowIovas,
  min: 24,
  writesBack: 'nothing',
  run: ({ context, process }, { ioasId, numIovas, reserved, allowedIovas }) => {
    if (reserved !== 0) return refuse('reserved-field', `__reserved is ${reserved}`)
    const ioas = context.objects.need(ioasId, 'ioas', 'no-such-ioas')
    if (isRefusal(ioas)) return ioas
    if (numIovas > mostAllowedRanges)
      return refuse('allow-too-many', `${numIovas} ranges, where ${mostAllowedRanges} can be kept`)
    const bytes = new Uint8Array(numIovas * iommuIovaRange.byteLength)
    if (!process.memory.read(allowedIovas, bytes))
      return refuse('array-unreadable', `the ranges at 0x${allowedIovas.toString(16)} cannot be read`)
    const ranges = Array.from({ length: numIovas }, (_, i) =>
      readStruct(iommuIovaRange, bytes.subarray(i * iommuIovaRange.byteLength)),
    )
    return ioas.table.allow(ranges) ?? accept({})
  },
})

const ioasCopy = defineIoctl({
  name: 'ioas_copy',
  number: 0x83,
  struct: iommuIoasCopy,
  min: 40,
  run: ({ context }, { flags, dstIoasId, srcIoasId, length, dstIova, srcIova }) => {
    const refused = whyNoMapping(flags, 0, [length, dstIova, srcIova])
    if (refused !== undefined) return refused
    const done = copyMapping(context, {
      source: srcIoasId,
      from: srcIova,
      length,
      target: dstIoasId,
      to: wantsFixed(flags) ? dstIova : undefined,
      readable: isReadable(flags),
      writeable: isWriteable(flags),
    })
    return done.ok ? accept({ out: { dstIova: done.value } }, done.effects) : done
  },
})

const ioasIovaRanges = defineIoctl({
  name: 'ioas_iova_ranges',
  number: 0x84,
  struct: iommuIoasIovaRanges,
  min: 32,
  run: ({ context, process }, { ioasId, numIovas, reserved, allowedIovas }) => {
    if (reserved !== 0) return refuse('reserved-field', `__reserved is ${reserved}`)
    const found = context.ioasRanges(ioasId)
    if (!found.ok) return found
    const { ranges, alignment } = found.value
    const shown = ranges.slice(0, numIovas)
    if (shown.length > 0 && !process.memory.write(allowedIovas, bytesOfRanges(shown)))
      return refuse('array-unwritable', `the ranges at 0x${allowedIovas.toString(16)} cannot be written`)
    const out = { numIovas: ranges.length, outIovaAlignment: alignment }
    if (ranges.length <= numIovas) return accept({ out })
    const why = `there are ${ranges.length} ranges, and room for ${numIovas}`
    return accept({ out, refused: refuse('ranges-do-not-fit', why) })
  },
})

const ioasMap = defineIoctl({
  name: 'ioas_map',
  number: 0x85,
  struct: iommuIoasMap,
  min: 40,
  run: ({ context, process }, { flags, ioasId, reserved, userVa, length, iova }) => {
    const refused = whyNoMapping(flags, reserved, [iova, length])
    if (refused !== undefined) return refused
    const memory: MappedMemory = {
      start: userVa,
      isFile: false,
      source: (start, pages) => process.memory.source(start, pages),
      charge: chargeOf({ context, process }),
    }
    return mapTo(context, memory, { ioasId, flags, length, iova })
  },
})

const ioasUnmap = defineIoctl({
  name: 'ioas_unmap',
  number: 0x86,
  struct: iommuIoasUnmap,
  min: 24,
  run: ({ context }, { ioasId, iova, length }) => {
    const done = unmapMemory(context, ioasId, iova, length)
    if (!done.ok) return done
    const { bytes, refused } = done.value
    return accept(refused === undefined ? { out: { length: bytes } } : { refused }, done.effects)
  },
})

const ioasMapFile = defineIoctl({
  name: 'ioas_map_file',
  number: 0x8f,
  struct: iommuIoasMapFile,
  min: 40,
  run: (caller, { flags, ioasId, fd, start, length, iova }) => {
    const { context } = caller
    const refused = whyNoMapping(flags, 0, [iova, length]) ?? whyNoFileRange(context, ioasId, start, length)
    if (refused !== undefined) return refused
    const memory = fileMemory(caller, fd, start)
    if (isRefusal(memory)) return memory
    return mapTo(context, memory, { ioasId, flags, length, iova })
  },
})

const ioasChangeProcess = defineIoctl({
  name: 'ioas_change_process',
  number: 0x92,
  struct: iommuIoasChangeProcess,
  min: 8,
  writesBack: 'nothing',
  run: ({ context, process }, { reserved }) => {
    if (reserved !== 0) return refuse('reserved-field', `__reserved is ${reserved}`)
    const tables = [...context.objects.all('ioas')].map(([, { table }]) => table)
    const { mm, uid } = chargeOf({ context, process })
    const limitPages = process.lockableBytes / BigInt(pageBytes)
    return IoPagetable.changeProcess(context.kernel, tables, { mm, uid, limitPages }) ?? accept({})
  },
})

const ioasNoiommuGetPa = defineIoctl({
  name: 'ioas_noiommu_get_pa',
  number: 0x95,
  struct: iommuIoasNoiommuGetPa,
  min: 40,
  run: () => refuse('no-noiommu', 'there are no devices without an IOMMU here'),
})

/** What IOAS_MAP and IOAS_MAP_FILE both say. */
type Mapping = Pick<StructValue<typeof iommuIoasMap>, 'ioasId' | 'flags' | 'length' | 'iova'>

/** Maps memory as the structure of IOAS_MAP or IOAS_MAP_FILE says, and answers with where. */
function mapTo(
  context: Context,
  memory: MappedMemory,
  { ioasId, flags, length, iova }: Mapping,
): Outcome<{ out: { iova: bigint } }> {
  const done = mapMemory(context, {
    ioas: ioasId,
    length,
    memory,
    iova: wantsFixed(flags) ? iova : undefined,
    readable: isReadable(flags),
    writeable: isWriteable(flags),
  })
  return done.ok ? accept({ out: { iova: done.value } }, done.effects) : done
}

/** The file's checks that come before its descriptor is looked at. */
function whyNoFileRange(
  context: Context,
  ioasId: number,
  start: bigint,
  length: bigint,
): Refusal | undefined {
  const ioas = context.objects.need(ioasId, 'ioas', 'no-such-ioas')
  if (isRefusal(ioas)) return ioas
  if (length === 0n) return refuse('map-length', 'there is nothing to map')
  if (start + length - 1n >= 1n << 64n) return refuse('memory-wraps', 'the range of the file wraps around')
  return undefined
}

function fileMemory({ context, process }: Caller, fd: number, start: bigint): MappedMemory | Refusal {
  const file = process.file(fd)
  if (file === undefined) return refuse('bad-descriptor', `descriptor ${fd} is not open`)
  if ('dmabuf' in file) return { dmabuf: file.dmabuf, start }
  const source = 'source' in file ? file.source.bind(file) : notMemory
  return { start, isFile: true, source, charge: chargeOf({ context, process }) }
}

/** A file of ours has no pages: that is seen when it is pinned. */
const notMemory = () => ({
  pin: () => 'EINVAL' as const,
  unpin: () => undefined,
  read: () => false,
  write: () => false,
})

/** Who pays for the pages that a process maps. */
export function chargeOf({ context, process }: Pick<Caller, 'context' | 'process'>): PinCharge {
  return {
    mm: process.memory.key,
    uid: process.uid,
    mode: context.accounting,
    // Asked only where it counts: a limit may have to be looked up.
    limitPages: process.capabilities.ipcLock ? undefined : process.lockableBytes / BigInt(pageBytes),
  }
}

const wantsFixed = (flags: number): boolean => (flags & mapFlags.fixedIova) !== 0

const isReadable = (flags: number): boolean => (flags & mapFlags.readable) !== 0
const isWriteable = (flags: number): boolean => (flags & mapFlags.writeable) !== 0

function bytesOfRanges(ranges: readonly AddressRange[]): Uint8Array {
  const bytes = new Uint8Array(ranges.length * iommuIovaRange.byteLength)
  ranges.forEach(({ first, last }, i) => {
    writeStruct(iommuIovaRange, { start: first, last }, bytes.subarray(i * iommuIovaRange.byteLength))
  })
  return bytes
}

export const ioasCalls = [
  ...[ioasAlloc, ioasAllowIovas, ioasCopy, ioasIovaRanges, ioasMap, ioasUnmap, ioasMapFile],
  ...[ioasChangeProcess, ioasNoiommuGetPa],
]
