/**
 * IOAS_MAP, IOAS_MAP_FILE, IOAS_COPY and IOAS_UNMAP: what they check before they look at the address space.
 *
 * Linux drivers/iommu/iommufd/ioas.c.
 *
 * @packageDocumentation
 */
import type { Spa } from '@nestwalk/bits'
import type { ContextState } from '../context-state.js'
import type { PinCharge } from '../io-pagetable/pin-accounts.js'
import type { Dmabuf } from '../io-pagetable/dmabuf.js'
import type { Unmapped } from '../io-pagetable/io-pagetable.js'
import type { ObjectId } from '../object/object.js'
import { isRefusal, refuse } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import { physicalMemory } from '../page-source.js'
import { pageBytes } from '../process.js'
import type { PageSource } from '../process.js'

/** Flags of IOAS_MAP, IOAS_MAP_FILE and IOAS_COPY: `enum iommufd_ioas_map_flags`. */
export const mapFlags = { fixedIova: 1, writeable: 2, readable: 4 } as const

const allMapFlags = 7
const last64 = (1n << 64n) - 1n
const pageBits = 12

/** What is mapped. */
export type MappedMemory =
  /** Memory of the machine, in one piece. */
  | Spa
  /** Memory of a process or a file: the number is the address of the first byte, or its offset in the file. */
  | {
      readonly start: bigint
      readonly isFile: boolean
      readonly source: (start: bigint, pages: number) => PageSource
      readonly charge: PinCharge
    }
  | { readonly dmabuf: Dmabuf; readonly start: bigint }

/** IOAS_MAP, or IOAS_MAP_FILE. */
export interface MapRequest {
  readonly ioas: ObjectId
  /** Default: an address is chosen. */
  readonly iova?: bigint | undefined
  readonly length: bigint
  readonly memory: MappedMemory
  readonly readable?: boolean
  readonly writeable?: boolean
}

/** Memory in one piece belongs to no process. */
const noCharge: PinCharge = { mm: 0, uid: 0, mode: 'user', limitPages: undefined }

/** The checks that come before anything is looked up. `addresses`: none of them may be 2^64 - 1. */
export function whyNoMapping(
  flags: number,
  reserved: number,
  addresses: readonly bigint[],
): Refusal | undefined {
  if ((flags & ~allMapFlags) !== 0 || reserved !== 0)
    return refuse('map-flags', `flags 0x${flags.toString(16)}, reserved 0x${reserved.toString(16)}`)
  if (addresses.includes(last64)) return refuse('map-range-last', 'an address or length is 2^64 - 1')
  if ((flags & (mapFlags.writeable | mapFlags.readable)) === 0)
    return refuse('map-without-rights', 'a mapping must be readable or writeable')
  return undefined
}

/** The flags that ask for rights. */
export const flagsOfRights = ({ readable, writeable }: Pick<MapRequest, 'readable' | 'writeable'>): number =>
  (readable === true ? mapFlags.readable : 0) | (writeable === true ? mapFlags.writeable : 0)

/** Maps memory into an IOAS and all its HWPTs. Returns where. */
export function mapMemory({ objects, kernel }: ContextState, request: MapRequest): Outcome<bigint> {
  const { iova, length, memory, readable = false, writeable = false } = request
  const ioas = objects.need(request.ioas, 'ioas', 'no-such-ioas')
  if (isRefusal(ioas)) return ioas
  if (typeof memory === 'bigint') {
    return ioas.table.mapSource(kernel, {
      source: physicalMemory(memory),
      startInPage: inPage(memory),
      startAddress: memory,
      length,
      iova,
      readable,
      writeable,
      charge: noCharge,
      isFile: false,
    })
  }
  if ('dmabuf' in memory) {
    const { dmabuf, start } = memory
    return ioas.table.mapDmabuf(kernel, { dmabuf, start, length, iova, readable, writeable })
  }
  const { start, isFile, charge } = memory
  const startInPage = inPage(start)
  return ioas.table.mapSource(kernel, {
    source: memory.source(start, pagesOf(startInPage, length)),
    startInPage,
    startAddress: start,
    length,
    iova,
    readable,
    writeable,
    charge,
    isFile,
  })
}

/** Where in its page a byte lies. */
const inPage = (address: bigint): number => Number(BigInt.asUintN(pageBits, address))

/** How many pages so many bytes reach into. A length of petabytes is cut to a number that can be counted. */
const pagesOf = (startInPage: number, length: bigint): number =>
  Math.ceil((startInPage + Number(length)) / pageBytes)

/** IOAS_COPY. */
export interface CopyRequest {
  readonly source: ObjectId
  readonly from: bigint
  readonly length: bigint
  readonly target: ObjectId
  /** Default: an address is chosen. */
  readonly to?: bigint | undefined
  readonly readable?: boolean
  readonly writeable?: boolean
}

/** Maps the memory behind a range of an IOAS once more. Returns where. */
export function copyMapping({ objects, kernel }: ContextState, request: CopyRequest): Outcome<bigint> {
  const { from, length, to, readable = false, writeable = false } = request
  const source = objects.need(request.source, 'ioas', 'no-such-ioas')
  if (isRefusal(source)) return source
  const found = source.table.checkCopy(from, length)
  if (found !== undefined) return found
  const target = objects.need(request.target, 'ioas', 'no-such-ioas')
  if (isRefusal(target)) return target
  return source.table.copyTo(kernel, target.table, { from, length, to, readable, writeable })
}

/** Unmaps whole areas. From 0, 2^64 - 1 bytes: everything, if anything. */
export function unmapMemory(
  { objects, kernel }: ContextState,
  id: ObjectId,
  first: bigint,
  length: bigint,
): Outcome<Unmapped> {
  const ioas = objects.need(id, 'ioas', 'no-such-ioas')
  if (isRefusal(ioas)) return ioas
  if (first === 0n && length === last64) return ioas.table.unmapAll(kernel)
  if (first === last64 || length === last64)
    return refuse('unmap-range-last', 'the address or length is 2^64 - 1')
  return ioas.table.unmap(kernel, first, length)
}
