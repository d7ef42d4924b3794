/**
 * Test operations that compare: what page tables hold, how often pages are pinned, what the caches hold.
 *
 * @packageDocumentation
 */
import { hex } from '@nestwalk/bits'
import type { KernelState } from '../kernel-state.js'
import { accept, isRefusal, refuse } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import { pageBytes } from '../process.js'
import { defineOperation } from './test-operation.js'
import { checkMap, checkRefs, checkWord } from './test-structs.js'
import { UserPages } from './user-pages.js'

const last64 = (1n << 64n) - 1n

/** Every smallest page of the HWPT leads to where the caller's memory is. */
const checkMapping = defineOperation(3, checkMap, ({ context, process, backend, id }, request) => {
  const { iova, length, uptr } = request
  const hwpt = context.objects.need(id, 'paging-hwpt', 'test-no-such-object')
  if (isRefusal(hwpt)) return hwpt
  const { number, pageSizes } = hwpt.domain
  const step = pageSizes & -pageSizes
  if (((iova | length | uptr) & (step - 1n)) !== 0n || uptr + length > last64) {
    return refuse(
      'test-alignment',
      `${hex(iova)}, ${hex(uptr)} and ${hex(length)} bytes are not whole pages of ${step}`,
    )
  }
  const pages = new UserPages(process.memory)
  for (let done = 0n; done < length; done += step) {
    const expected = pages.physical(uptr + done)
    if (expected === undefined) return noUserPage(uptr + done)
    const found = backend.translate(number, iova + done)
    if (found !== expected) {
      const leads = found === undefined ? 'nowhere' : `to ${hex(found)}`
      const why = `${hex(iova + done)} leads ${leads}, the caller's memory is at ${hex(expected)}`
      return refuse('test-map-differs', why)
    }
  }
  return accept({})
})

/** Every page of the caller's memory is pinned so often, by all contexts together. Huge pages are left out. */
const checkPins = defineOperation(4, checkRefs, ({ context, process }, { length, uptr, refs }) => {
  if ((length | uptr) % BigInt(pageBytes) !== 0n || uptr + length > last64) {
    return refuse('test-alignment', `${hex(uptr)} and ${hex(length)} bytes are not whole pages`)
  }
  const pages = new UserPages(process.memory)
  const pins = new Map<bigint, number>()
  for (let address = uptr; address < uptr + length; address += BigInt(pageBytes)) {
    const page = pages.lookUp(address)
    if (page === undefined) return noUserPage(address)
    if (!page.isHugePage) pins.set(page.physical, 0)
  }
  countPins(context.kernel, pins)
  for (const [physical, count] of pins) {
    if (count !== refs) {
      return refuse('test-refs-differ', `the page at ${hex(physical)} is pinned ${count} times, not ${refs}`)
    }
  }
  return accept({})
})

/** Adds, for each page of the map, how often it is pinned. */
function countPins({ contexts }: KernelState, pins: Map<bigint, number>): void {
  const counted = new Set<unknown>()
  for (const context of contexts.values()) {
    for (const [, { table }] of context.objects.all('ioas')) {
      for (const pages of table.pinnedPages()) {
        if (counted.has(pages)) continue
        counted.add(pages)
        for (const { first, pages: count } of pages.pinnedRuns()) countRun(first, count, pins)
      }
    }
  }
}

/** A run may be long, and what is asked for short; or the other way round. */
function countRun(first: bigint, pages: number, pins: Map<bigint, number>): void {
  const end = first + BigInt(pages) * BigInt(pageBytes)
  if (pages > pins.size) {
    for (const [physical, count] of pins)
      if (physical >= first && physical < end) pins.set(physical, count + 1)
    return
  }
  for (let physical = first; physical < end; physical += BigInt(pageBytes)) {
    const count = pins.get(physical)
    if (count !== undefined) pins.set(physical, count + 1)
  }
}

const checkIotlb = defineOperation(14, checkWord, ({ context, backend, id }, { entry, value }) => {
  const hwpt = context.objects.need(id, 'nested-hwpt', 'test-no-such-object')
  return isRefusal(hwpt) ? hwpt : holds(backend.iotlb(hwpt.domain), entry, value)
})

const checkDeviceCache = defineOperation(16, checkWord, ({ context, backend, id }, { entry, value }) => {
  const device = context.objects.need(id, 'device', 'test-no-such-object')
  return isRefusal(device) ? device : holds(backend.deviceCache(device.deviceId), entry, value)
})

function holds(words: Uint32Array, entry: number, value: number): Outcome<Record<string, never>> {
  const word = words[entry]
  if (word === undefined)
    return refuse('test-cache-entry', `there are ${words.length} entries, and no entry ${entry}`)
  if (word === value) return accept({})
  return refuse(
    'test-cache-differs',
    `entry ${entry} holds 0x${word.toString(16)}, not 0x${value.toString(16)}`,
  )
}

const noUserPage = (address: bigint): Refusal =>
  refuse('test-user-page', `the caller has no page at ${hex(address)}`)

export const checkOperations = [checkMapping, checkPins, checkIotlb, checkDeviceCache]
