/**
 * What memory a call maps: the checks that have nothing to do with where it goes.
 *
 * Linux drivers/iommu/iommufd/pages.c, `iopt_alloc_pages`, `iopt_alloc_dmabuf_pages`.
 *
 * @packageDocumentation
 */
import { refuse } from '../outcome.js'
import type { Refusal } from '../outcome.js'
import { lastAddress } from './area.js'
import type { AreaPart } from './area.js'
import { DmabufPages } from './dmabuf.js'
import type { MapDmabuf, MapSource } from './map-request.js'
import { Pages } from './pages.js'

const pageBytes = 4096n

/** Memory of a process or a file. EOVERFLOW, EINVAL; for a file the other way round. */
export function partOfSource(request: MapSource): AreaPart | Refusal {
  const { source, startInPage, startAddress, length, isFile, writeable, charge } = request
  if (isFile && length === 0n) return refuse('map-length', 'there is nothing to map')
  if (startAddress + length - (isFile ? 1n : 0n) > lastAddress)
    return refuse('memory-wraps', `0x${startAddress.toString(16)} is too high for the length`)
  if (length === 0n || length > lastAddress - pageBytes)
    return refuse('map-length', `${length.toString()} bytes cannot be mapped`)
  const start = startAddress - BigInt(startInPage)
  const memory = Pages.create({ source, startAddress: start, isFile, writeable, charge })
  return { memory, firstPage: 0, offset: startInPage, length }
}

/** A part of a dma-buf. EINVAL, EOVERFLOW, ENODEV. */
export function partOfDmabuf({ dmabuf, start, length, writeable }: MapDmabuf): AreaPart | Refusal {
  if (length === 0n) return refuse('map-length', 'there is nothing to map')
  if (start + length - 1n > lastAddress)
    return refuse('memory-wraps', `0x${start.toString(16)} is too high for the length`)
  if (start + length > BigInt(dmabuf.pages) * pageBytes)
    return refuse('dmabuf-range', `the dma-buf has ${dmabuf.pages} pages`)
  if (dmabuf.isRevoked) return refuse('dmabuf-revoked', 'the dma-buf is taken back')
  const memory = DmabufPages.create(dmabuf, writeable)
  return { memory, firstPage: Number(start / pageBytes), offset: Number(start % pageBytes), length }
}
