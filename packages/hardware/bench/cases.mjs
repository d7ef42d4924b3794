/**
 * What is timed: the TypeScript side of each case, with every answer checked in the loop.
 */
import { outcome, request, resultWord, source } from '../dist/index.js'
import { deviceCount, domainOf, firstDeviceId, readsPerWalk, requestWords, ringEntries } from './image.mjs'

// Constants of this module cost nothing in a loop, fields of imported objects do.
const { translated } = outcome
const { spaLo, spaHi, source: sourceWord, reads: readsWord } = resultWord
const anyReads = -1

/** An IOTLB, and how many entries make it full: three quarters of its index. */
export const fullGeometry = { kind: 'hashed', capacityLog2: 16 }
export const fullEntries = 3 << 14

/** One pass over all requests of the first device. Throws at the first answer that is wrong. */
function pass(machine, from, reads, flags) {
  const { iommu, requests } = machine
  const result = iommu.result
  for (let at = 0; at < requests.length; at += requestWords) {
    const kind = iommu.translate(firstDeviceId, requests[at], requests[at + 1], requests[at + 2], flags)
    if (
      kind !== translated ||
      result[spaLo] !== requests[at + 3] ||
      result[spaHi] !== requests[at + 4] ||
      result[sourceWord] !== from ||
      (result[readsWord] !== reads && reads !== anyReads)
    ) {
      throw new Error(
        `PASID ${requests[at]}: outcome ${kind}, ${result}; expected ${reads} reads from ${from}`,
      )
    }
  }
}

/** Requests that miss the IOTLB, after one invalidation of the domain. */
export function cold(machine) {
  machine.commands.invalidateDomain(domainOf(0))
  pass(machine, source.walk, readsPerWalk, 0)
}

/** The same with the table-page cache, whose walks may count fewer reads. */
export function coldWithPages(machine) {
  machine.commands.invalidateDomain(domainOf(0))
  pass(machine, source.walk, anyReads, 0)
}

/** Requests that ask no cache and fill none. */
export const fresh = (machine) => pass(machine, source.walk, readsPerWalk, request.fresh)

/** Requests that the IOTLB answers; a cold pass comes first. */
export const hit = (machine) => pass(machine, source.iotlb, 0, 0)

/** Nanoseconds per request, over so many milliseconds. */
export function time(work, machine, milliseconds) {
  const start = performance.now()
  for (let passes = 1; ; passes++) {
    work(machine)
    const elapsed = performance.now() - start
    if (elapsed >= milliseconds) return (elapsed * 1e6) / (passes * machine.trees)
  }
}

/**
 * Nanoseconds of the invalidation of a whole domain, while the IOTLB holds `entries` translations.
 *
 * They belong to all devices in equal shares, a domain each, so that one filling serves as many invalidations. Timed
 * is what the chip does: fetch, decode, invalidate.
 *
 * @param other - a machine that works meanwhile: filling a large IOTLB leaves less in the processor's caches than filling
 *   a small one, and both are to begin alike
 */
export function domainInvalidation(machine, entries, other) {
  const { iommu, commands } = machine
  const each = entries / deviceCount
  for (let device = 0; device < deviceCount; device++) commands.invalidateDomain(domainOf(device))
  for (let device = 0; device < deviceCount; device++) fill(machine, device, each)
  expectEntries(iommu, entries)
  for (let device = 0; device < deviceCount; device++) commands.putDomain(domainOf(device))
  cold(other)
  const nanoseconds = drain(machine, deviceCount)
  expectEntries(iommu, 0)
  return nanoseconds
}

/** Nanoseconds of the invalidation of one cached page of one PASID: fetch, decode, invalidate. */
export function pageInvalidation(machine) {
  const { iommu, commands, requests } = machine
  const count = Math.min(machine.trees, ringEntries - 1)
  commands.invalidateDomain(domainOf(0))
  fill(machine, 0, count)
  expectEntries(iommu, count)
  for (let n = 0; n < count; n++) commands.putPage(domainOf(0), ...requestAt(requests, n))
  // The processor's caches as they are in a pass that is timed.
  fill(machine, 0, count)
  const nanoseconds = drain(machine, count)
  expectEntries(iommu, 0)
  return nanoseconds
}

/** PASID and address of the n-th request. */
const requestAt = (requests, n) => requests.subarray(n * requestWords, n * requestWords + 3)

function fill({ iommu, requests }, device, count) {
  for (let n = 0; n < count; n++) {
    const at = n * requestWords
    const kind = iommu.translate(firstDeviceId + device, requests[at], requests[at + 1], requests[at + 2], 0)
    if (kind !== translated) throw new Error(`device ${device}, PASID ${requests[at]}: outcome ${kind}`)
  }
}

function drain({ iommu, commands }, count) {
  commands.ring()
  const start = performance.now()
  const moved = iommu.run()
  const nanoseconds = ((performance.now() - start) * 1e6) / count
  if (moved !== count) throw new Error(`${moved} commands carried out instead of ${count}`)
  return nanoseconds
}

function expectEntries(iommu, count) {
  const found = iommu.iotlbEntries().length
  if (found !== count) throw new Error(`${found} entries in the IOTLB instead of ${count}`)
}

/**
 * Bytes of the IOTLB for each entry when it is full: what the machine's words grow by while it is filled.
 *
 * @param machine - as many PASIDs as fill an IOTLB of {@link fullEntries} from all devices
 */
export function bytesPerEntry(machine) {
  const { iommu } = machine
  const bytes = () => iommu.memory.words.allocate(0) * 4
  // The first request of each device also makes records of the device and its domain.
  for (let device = 0; device < deviceCount; device++) fill(machine, device, 1)
  const before = bytes()
  for (let device = 0; device < deviceCount; device++) fill(machine, device, machine.trees)
  expectEntries(iommu, fullEntries)
  return (bytes() - before) / (fullEntries - deviceCount)
}
