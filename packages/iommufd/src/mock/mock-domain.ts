/**
 * Domains of the mock IOMMU: paging ones with a table, nested ones with four entries that stand in for a TLB.
 *
 * @packageDocumentation
 */
import { readStruct } from '@nestwalk/bits'
import type { BackendDevice, DomainNumber, PagingDomain, UserData } from '../backend.js'
import { isRefusal, refuse } from '../outcome.js'
import type { Refusal } from '../outcome.js'
import {
  mockAddressBits,
  mockAperture,
  mockHugePageBytes,
  mockHwptLayout,
  mockHwptMinBytes,
  mockHwptType,
  mockIotlbEntries,
  mockPageBytes,
  mockPageTableFormat,
} from './abi.js'
import { MockTable } from './mock-table.js'

export interface MockPaging {
  readonly kind: 'paging'
  readonly paging: PagingDomain
  readonly format: MockFormat
  readonly table: MockTable
  isTracking: boolean
}

export interface MockNested {
  readonly kind: 'nested'
  readonly parent: DomainNumber
  /** The vIOMMU that it was made on. */
  readonly viommu: number | undefined
  readonly iotlb: Uint32Array
}

export type MockDomain = MockPaging | MockNested

/** A page table's sizes and reach. */
interface MockFormat {
  /** Bytes of a page, ascending. */
  readonly pageBytes: readonly number[]
  readonly aperture: { readonly first: bigint; readonly last: bigint }
}

/** Every power of two from 2 KiB to 2^36. */
const defaultFormat: MockFormat = {
  pageBytes: Array.from({ length: 26 }, (_, i) => mockPageBytes * 2 ** i),
  aperture: mockAperture,
}

const hugeFormat: MockFormat = {
  pageBytes: [4096, mockHugePageBytes],
  aperture: { first: 0n, last: (1n << BigInt(mockAddressBits)) - 1n },
}

/** IOMMU_HWPT_ALLOC_ flags. */
const nestParent = 1
const dirtyTracking = 2
const pasid = 8

interface HwptRequest {
  readonly flags: number
  readonly data: UserData
}

/** Makes a paging domain. EOPNOTSUPP for flags, data or a format that the mock does not have; EINVAL and EFAULT for data. */
export function makePaging(
  number: DomainNumber,
  device: BackendDevice,
  { flags, data }: HwptRequest,
): MockPaging | Refusal {
  if ((flags & ~(nestParent | dirtyTracking | pasid)) !== 0) {
    return refuse(
      'mock-hwpt-flags',
      `the mock driver does not know flags 0x${flags.toString(16)} for a page table`,
    )
  }
  const canTrackDirty = (flags & dirtyTracking) !== 0
  if (canTrackDirty && !device.canTrackDirty) {
    return refuse('mock-hwpt-dirty', `mock device ${device.deviceId} cannot track dirty pages`)
  }
  const config = hasData(data) ? copyHwptData(data) : undefined
  if (isRefusal(config)) return config
  const format = formatOf(config?.pageTableFormat ?? mockPageTableFormat.default)
  if (isRefusal(format)) return format
  const pageSizes = format.pageBytes.reduce((bits, bytes) => bits | BigInt(bytes), 0n)
  const paging = { number, aperture: format.aperture, pageSizes, canTrackDirty, enforcesCoherency: false }
  return { kind: 'paging', paging, format, table: new MockTable(), isTracking: false }
}

/** Makes a nested domain. Its entries start with the value that the caller gives. */
export function makeNested(
  parent: DomainNumber,
  viommu: number | undefined,
  { flags, data }: HwptRequest,
): MockNested | Refusal {
  if ((flags & ~pasid) !== 0) {
    return refuse(
      'mock-nested-flags',
      `the mock driver does not know flags 0x${flags.toString(16)} for a nested HWPT`,
    )
  }
  const config = copyHwptData(data)
  if (isRefusal(config)) return config
  return { kind: 'nested', parent, viommu, iotlb: new Uint32Array(mockIotlbEntries).fill(config.iotlb) }
}

export function forkDomain(domain: MockDomain): MockDomain {
  if (domain.kind === 'nested') return { ...domain, iotlb: domain.iotlb.slice() }
  return { ...domain, table: domain.table.fork() }
}

export const domainSnapshot = (domain: MockDomain): unknown =>
  domain.kind === 'nested'
    ? { parent: domain.parent, viommu: domain.viommu, iotlb: [...domain.iotlb] }
    : {
        aperture: domain.paging.aperture,
        pageSizes: domain.paging.pageSizes,
        canTrackDirty: domain.paging.canTrackDirty,
        isTracking: domain.isTracking,
        ...domain.table.snapshot(),
      }

const hasData = (data: UserData): boolean => data.type !== 0 || data.length !== 0

function copyHwptData(data: UserData): { iotlb: number; pageTableFormat: number } | Refusal {
  if (data.type !== mockHwptType) {
    return refuse('mock-hwpt-type', `the mock driver takes data of type 0xdead, not ${data.type}`)
  }
  const bytes = data.copyIn(mockHwptType, mockHwptMinBytes, mockHwptLayout.byteLength)
  return isRefusal(bytes) ? bytes : readStruct(mockHwptLayout, bytes)
}

function formatOf(format: number): MockFormat | Refusal {
  if (format === mockPageTableFormat.default) return defaultFormat
  if (format === mockPageTableFormat.huge) return hugeFormat
  return refuse('mock-page-table-format', `the mock driver has page tables 0 and 1, not ${format}`)
}
