/** A device with a translation cache, which asks for translations and for pages, as it should behave. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeCompletion, deliver, encodeCompletion, Endpoint } from '../src/endpoint/index.js'
import type { DmaRequest, EndpointOptions } from '../src/endpoint/index.js'
import type { DeviceMessage } from '../src/index.js'
import { Chip, event, quietControl, register } from './chip.js'
import {
  absent,
  around,
  control,
  device,
  flush,
  guestSpa,
  identityRig,
  iotlb,
  map,
  page,
  pageRequests,
  respond,
  rig,
  standard,
} from './endpoint-rig.js'
import type { Rig } from './endpoint-rig.js'
import { guestDirectoryAt, guestPages, hostEntryAt, hostPages } from './tables.js'

describe('an access', () => {
  it('with ATS off goes out by its own address', () => {
    const { chip, endpoint, dma } = rig({ ats: false })
    expect(endpoint.atsEnabled).toBe(false)
    expect(dma({ ...page, iova: guestPages + 0x123n })).toEqual({
      ...{ kind: 'done', address: guestSpa + 0x123n, by: 'untranslated' },
    })
    const write = { ...absent, write: true, supervisor: true }
    expect(dma(write)).toEqual({
      ...{ kind: 'refused', by: 'fault', logged: true, event: event('00000005 20210005 40210000 00000000') },
    })
    expect(dma({ iova: 0xfee00000n, write: true })).toEqual({ kind: 'interrupt', address: 0xfee00000n })
    expect(dma({ iova: 0xfee00000n, write: true, nonPosted: true })).toMatchObject({
      kind: 'refused',
      by: 'fault',
    })
    chip.write(register.control, 0n)
    expect(dma({ iova: 0x5000n })).toEqual({ kind: 'done', address: 0x5000n, by: 'untranslated' })
    expect(endpoint.entries()).toEqual([])
  })

  it('with ATS on asks for the translation once, and keeps it', () => {
    const { chip, endpoint, dma } = rig()
    expect(dma({ ...page, iova: guestPages + 0x123n, write: true })).toEqual({
      ...{ kind: 'done', address: guestSpa + 0x123n, by: 'ats' },
    })
    map(chip, guestPages, 0x200105000n)
    chip.command([0x3000000500000000n, 0x7ffffffffffff003n])
    for (const write of [false, true]) {
      expect(dma({ ...page, iova: guestPages + 0xfffn, write })).toEqual({
        ...{ kind: 'done', address: guestSpa + 0xfffn, by: 'atc' },
      })
    }
    expect(endpoint.entries()).toEqual([
      {
        ...{ pasid: 5, privileged: false, page: guestPages, sizeLog2: 12, spa: guestSpa },
        ...{ readable: true, writable: true, executable: false, noSnoop: false },
      },
    ])
    expect(chip.takeEvents()).toEqual([])
  })

  it('to a page with U goes on untranslated, and nothing is kept', () => {
    const { chip, endpoint, dma } = rig()
    chip.put([hostEntryAt(hostPages), chip.load(hostEntryAt(hostPages))! | (1n << 59n)])
    for (let times = 0; times < 2; times++) {
      expect(dma(page)).toEqual({ kind: 'done', address: guestSpa, by: 'untranslated' })
    }
    expect(endpoint.entries()).toEqual([])
  })

  it('that reads asks with NW; a write asks again, and its answer takes the place of the first', () => {
    const { endpoint, dma } = rig()
    expect(dma(page)).toMatchObject({ by: 'ats' })
    expect(endpoint.entries()).toMatchObject([{ readable: true, writable: false }])
    expect(dma(page)).toMatchObject({ by: 'atc' })
    expect(dma({ ...page, write: true })).toMatchObject({ by: 'ats' })
    expect(endpoint.entries()).toMatchObject([{ readable: true, writable: true }])
    expect(dma({ ...page, write: true })).toMatchObject({ by: 'atc' })
  })

  it('without the right is denied where there are no page requests; what was granted is kept', () => {
    const { chip, endpoint, dma } = rig({ pri: false })
    map(chip, guestPages, guestSpa, 5n)
    expect(dma({ ...page, write: true })).toEqual({ kind: 'denied', because: 'no-right' })
    expect(endpoint.entries()).toMatchObject([{ readable: true, writable: false }])
    expect(dma(page)).toMatchObject({ by: 'atc' })
    expect(dma(absent)).toEqual({ kind: 'denied', because: 'no-right' })
    expect(endpoint.entries()).toHaveLength(1)
    expect(pageRequests(chip)).toEqual([])
  })

  it('to which the IOMMU gives no translation is refused', () => {
    const { chip, dma } = rig()
    chip.put([guestDirectoryAt(1), chip.load(guestDirectoryAt(1))! | 0x2080n])
    expect(dma(page)).toMatchObject({ kind: 'refused', by: 'completer-abort', logged: true })
    chip.setDte(device, [1n, 0n, 0n, 0n])
    chip.command([0x2000000000000005n, 0n])
    expect(dma(page)).toMatchObject({ kind: 'refused', by: 'unsupported-request', logged: true })
    expect(pageRequests(chip)).toEqual([])
  })

  it('is refused by its translation when the IOMMU no longer takes it', () => {
    const { chip, dma } = rig()
    dma(page)
    chip.setDte(device, [1n, 0n, 0n, 0n])
    chip.command([0x2000000000000005n, 0n])
    const expected = { kind: 'refused', by: 'fault', event: event('00000005 82000000 00100000 00000002') }
    expect(dma(page)).toMatchObject(expected)
  })

  it('fetches code by a translation with Exe', () => {
    const { chip, endpoint, dma } = rig({ pri: false })
    dma(page)
    expect(dma({ ...page, execute: true })).toMatchObject({ by: 'ats' })
    expect(dma({ ...page, execute: true })).toMatchObject({ by: 'atc' })
    expect(endpoint.entries()).toMatchObject([{ executable: true }])
    map(chip, guestPages + 0x1000n, guestSpa, 7n | (1n << 63n))
    expect(dma({ ...page, iova: guestPages + 0x1000n, execute: true })).toEqual({
      kind: 'denied',
      because: 'no-right',
    })
  })

  it('needs neither Exe nor privilege without PASID', () => {
    const { endpoint, dma } = rig()
    expect(dma({ iova: hostPages, execute: true, supervisor: true })).toMatchObject({
      by: 'ats',
      address: guestSpa,
    })
    expect(dma({ iova: hostPages })).toMatchObject({ by: 'atc' })
    expect(endpoint.entries()).toMatchObject([{ pasid: undefined, privileged: false, executable: false }])
  })
})

describe('the translation cache', () => {
  it('holds the translations of each PASID, and of each privilege, apart', () => {
    const { endpoint, dma } = rig()
    const asked: DmaRequest[] = [
      page,
      { ...page, pasid: 0 },
      { ...page, supervisor: true },
      { iova: hostPages },
    ]
    for (const each of asked) expect(dma(each)).toMatchObject({ by: 'ats' })
    for (const each of asked) expect(dma(each)).toMatchObject({ by: 'atc' })
    expect(endpoint.entries()).toMatchObject([
      ...[{ pasid: 5 }, { pasid: 0 }, { pasid: 5, privileged: true }, { pasid: undefined, page: hostPages }],
    ])
  })

  it('drops the oldest when it is full', () => {
    const { endpoint, dma } = rig({ atc: { capacity: 3 } })
    const nth = (n: bigint): DmaRequest => ({ pasid: 5, iova: guestPages + (n << 12n) })
    for (let n = 0n; n < 8n; n++) {
      expect(dma(nth(n))).toMatchObject({ by: 'ats' })
      const first = n < 2n ? 0n : n - 2n
      const held = endpoint.entries().map((entry) => (entry.page - guestPages) >> 12n)
      expect(held).toEqual(Array.from({ length: Number(n - first) + 1 }, (_, i) => first + BigInt(i)))
    }
    expect(dma(nth(5n))).toMatchObject({ by: 'atc' })
    expect(dma(nth(4n))).toMatchObject({ by: 'ats' })
  })

  it('holds large pages as one', () => {
    const { chip, endpoint, dma } = rig()
    chip.put([hostEntryAt(0n) & ~0xfffn, 0n])
    // A 2 MiB page of the host, and of the guest.
    chip.put([0x100001000n, 0x6000000300000001n], [guestDirectoryAt(1), 0x87n])
    chip.put([0x10002n << 12n, 0n])
    const host = Chip.create()
    host.setDte(device, [0x6000000100000603n, iotlb, 0n, 0n])
    host.put([0x100000000n, 0x6000000100001401n], [0x100001000n, 0x6000000300000001n])
    const other = Endpoint.create(host.memory.words, standard)
    expect(other.dma(host.iommu, { iova: 0x12345n })).toEqual({
      kind: 'done',
      address: 0x300012345n,
      by: 'ats',
    })
    expect(other.dma(host.iommu, { iova: 0x1fffffn })).toEqual({
      kind: 'done',
      address: 0x3001fffffn,
      by: 'atc',
    })
    expect(other.entries()).toMatchObject([{ page: 0n, sizeLog2: 21, spa: 0x300000000n }])
    expect(endpoint.entries()).toEqual([])
    expect(dma({ pasid: 7, iova: 0n }).kind).not.toBe('done')
  })

  it('holds all addresses as one where they are their own translations', () => {
    const { endpoint, dma } = identityRig()
    expect(dma({ iova: 0x123456789abcn, write: true })).toMatchObject({ address: 0x123456789abcn, by: 'ats' })
    const last = (1n << 64n) - 1n
    expect(dma({ iova: last, write: true })).toEqual({ kind: 'done', address: last, by: 'atc' })
    expect(endpoint.entries()).toMatchObject([
      { page: 0n, sizeLog2: 64, spa: 0n, readable: true, writable: true },
    ])
  })

  it('holds a page that may be written and not read', () => {
    const { chip, endpoint, dma } = rig({ pri: false })
    chip.put([hostEntryAt(hostPages), (1n << 62n) | guestSpa | 1n])
    expect(dma({ iova: hostPages, write: true })).toEqual({ kind: 'done', address: guestSpa, by: 'ats' })
    expect(endpoint.entries()).toMatchObject([{ readable: false, writable: true }])
    expect(dma({ iova: hostPages })).toEqual({ kind: 'denied', because: 'no-right' })
    expect(dma({ iova: hostPages, write: true })).toMatchObject({ kind: 'done', by: 'atc' })
  })

  it('keeps N', () => {
    const { chip, endpoint, dma } = identityRig()
    chip.setDte(device, [0x6000000000000003n, iotlb | (1n << 38n), 0n, 0n])
    dma({ iova: 0n })
    expect(endpoint.entries()).toMatchObject([{ noSnoop: true }])
  })

  it('replaces smaller pages of one owner by the larger one that holds them', () => {
    const chip = Chip.create()
    chip.setDte(device, [0x6000000100000603n, iotlb, 0n, 0n])
    const leaf = 0x6000000000000001n
    chip.put([0x100000000n, leaf | 0x100001400n], [0x100001000n, leaf | 0x100002200n])
    chip.put([0x100002000n, leaf | 0x5000n], [0x100002008n, leaf | 0x6000n])
    const endpoint = Endpoint.create(chip.memory.words, standard)
    endpoint.dma(chip.iommu, { iova: 0n })
    endpoint.dma(chip.iommu, { iova: 0x1000n })
    expect(endpoint.entries()).toHaveLength(2)
    chip.put([0x100001000n, leaf | 0x300000000n])
    chip.command([0x3000000000000000n, 0x7ffffffffffff003n])
    expect(endpoint.dma(chip.iommu, { iova: 0x2000n })).toMatchObject({ address: 0x300002000n })
    expect(endpoint.entries()).toMatchObject([{ page: 0n, sizeLog2: 21 }])
  })
})

describe('an invalidation', () => {
  const addresses = [guestPages, guestPages + 0x1000n, guestPages + 0x2000n]

  function warm(more: Partial<EndpointOptions> = {}): Rig {
    const made = rig(more)
    for (const iova of addresses) for (const pasid of [0, 5]) made.dma({ pasid, iova })
    made.dma({ iova: hostPages })
    expect(made.endpoint.entries()).toHaveLength(7)
    return made
  }
  const held = ({ endpoint }: Rig): string[] =>
    endpoint.entries().map((entry) => `${entry.pasid ?? '-'}/${(entry.page >> 12n) & 0xfn}`)
  const all = ['0/0', '5/0', '0/1', '5/1', '0/2', '5/2', '-/0']

  it.each<[string, readonly [bigint, bigint], string[]]>([
    ['a page of a PASID', flush(5, guestPages + 0x1000n), ['5/1']],
    ['two pages of a PASID', flush(5, guestPages | 1n), ['5/0', '5/1']],
    ['all of a PASID', flush(5), ['5/0', '5/1', '5/2']],
    ['a PASID that has nothing there', flush(0x200), []],
    ['another page', flush(5, 0n), []],
    ['a page without PASID', flush(undefined, hostPages), ['-/0']],
    ['everything without PASID', flush(undefined), ['-/0']],
  ])('drops that range of that PASID, and is answered: %s', (_, command, dropped) => {
    const made = warm()
    made.command(command)
    expect(held(made)).toEqual(all.filter((each) => !dropped.includes(each)))
    expect(made.chip.command([0x1000000000000000n, 0n])).toBe(1)
  })

  it('without PASID may reach everything in some devices', () => {
    const made = warm({ untaggedInvalidation: 'everything' })
    made.command(flush(5, guestPages))
    expect(held(made)).toEqual(all.filter((each) => each !== '5/0'))
    made.command(flush(undefined, guestPages | 1n))
    expect(held(made)).toEqual(['0/2', '5/2', '-/0'])
    made.command(flush(undefined))
    expect(held(made)).toEqual([])
  })

  it('reaches both privileges', () => {
    const { dma, endpoint, command } = rig()
    dma(page)
    dma({ ...page, supervisor: true })
    command(flush(5, guestPages))
    expect(endpoint.entries()).toEqual([])
  })

  it('drops a large page of which it names a part', () => {
    const { dma, endpoint, command } = identityRig()
    dma({ iova: 0n })
    command(flush(undefined, 0x7000n))
    expect(endpoint.entries()).toEqual([])
  })

  it('makes the device ask again', () => {
    const { chip, dma, command } = rig()
    dma(page)
    map(chip, guestPages, 0x200105000n)
    command([0x3000000500000005n, guestPages | 4n], flush(5, guestPages))
    expect(dma(page)).toEqual({ kind: 'done', address: 0x200105000n, by: 'ats' })
  })
})

describe('a page request', () => {
  it('is made for a page that is not there, and answered when it is', () => {
    const { chip, endpoint, dma, command } = rig()
    expect(dma({ ...absent, iova: absent.iova + 0x123n })).toEqual({ kind: 'waiting', group: 0 })
    expect(pageRequests(chip)).toEqual([{ group: 0, last: true, page: absent.iova, flags: 0x1144 }])
    expect(endpoint.pageRequestStatus()).toEqual({
      ...{ enabled: true, responseFailure: false, unexpectedResponse: false, outstanding: 1 },
    })
    map(chip, absent.iova, 0x200105000n)
    // The device waits for its answer, and asks nobody meanwhile.
    expect(dma(absent)).toEqual({ kind: 'waiting', group: 0 })
    expect(pageRequests(chip)).toHaveLength(1)
    command(respond(0))
    expect(endpoint.pageRequestStatus().outstanding).toBe(0)
    expect(dma(absent)).toEqual({ kind: 'done', address: 0x200105000n, by: 'ats' })
  })

  it.each<[string, Partial<DmaRequest>, number]>([
    ['a read', {}, 0x1144],
    ['a write', { write: true }, 0x1160],
    ['an instruction fetch', { execute: true }, 0x1146],
    ['a supervisor read', { supervisor: true }, 0x1104],
    ['a read without PASID', { pasid: undefined, iova: 0x180000n, supervisor: true, execute: true }, 0x1004],
  ])('says what is wanted: %s', (_, more, flags) => {
    const { chip, dma } = rig()
    const asked = { ...absent, ...more }
    expect(dma(asked)).toMatchObject({ kind: 'waiting' })
    expect(pageRequests(chip)).toEqual([{ group: 0, last: true, page: asked.iova, flags }])
  })

  it('is made for a right that is missing', () => {
    const { chip, dma, command } = rig()
    map(chip, guestPages, guestSpa, 5n)
    expect(dma({ ...page, write: true })).toEqual({ kind: 'waiting', group: 0 })
    expect(dma(page)).toMatchObject({ kind: 'done', by: 'atc' })
    map(chip, guestPages, guestSpa, 7n)
    command([0x3000000500000005n, guestPages | 4n], flush(5, guestPages), respond(0))
    expect(dma({ ...page, write: true })).toMatchObject({ kind: 'done' })
  })

  it('is made again when the answer was early', () => {
    const { chip, dma, command } = rig()
    dma(absent)
    command(respond(0))
    expect(dma(absent)).toEqual({ kind: 'waiting', group: 0 })
    expect(pageRequests(chip)).toHaveLength(2)
  })

  it('answered with "invalid" fails that access; the next one asks anew', () => {
    const { chip, endpoint, dma, command } = rig()
    dma(absent)
    command(respond(0, 1))
    expect(endpoint.pageRequestStatus()).toMatchObject({ enabled: true, outstanding: 0 })
    expect(dma({ ...absent, iova: absent.iova + 0x2000n })).toEqual({ kind: 'waiting', group: 1 })
    expect(dma(absent)).toEqual({ kind: 'denied', because: 'page-request-refused' })
    expect(dma(absent)).toEqual({ kind: 'waiting', group: 0 })
    expect(pageRequests(chip)).toHaveLength(3)
  })

  it.each([15, 2, 14])(
    'answered with "failure", or a code without meaning, turns page requests off: %d',
    (code) => {
      const { chip, endpoint, dma, command } = rig()
      dma(absent)
      dma({ ...absent, write: true })
      command(respond(0, code))
      expect(endpoint.pageRequestStatus()).toEqual({
        ...{ enabled: false, responseFailure: true, unexpectedResponse: false, outstanding: 0 },
      })
      expect(dma(absent)).toEqual({ kind: 'denied', because: 'no-right' })
      expect(pageRequests(chip)).toHaveLength(2)
      expect(dma(page)).toMatchObject({ kind: 'done' })
      endpoint.setPri(true)
      expect(endpoint.pageRequestStatus()).toMatchObject({ enabled: true, responseFailure: false })
      expect(dma(absent)).toEqual({ kind: 'waiting', group: 0 })
    },
  )

  it.each<[string, readonly [bigint, bigint]]>([
    ['another group', respond(1)],
    ['a group that the device does not have', respond(0x1ff)],
    ['another PASID', respond(0, 0, 6)],
    ['a failure of another group', respond(3, 15)],
  ])('is not answered by an answer to %s; that is noted', (_, command) => {
    const made = rig()
    made.dma(absent)
    made.command(command)
    expect(made.endpoint.pageRequestStatus()).toEqual({
      ...{ enabled: true, responseFailure: false, unexpectedResponse: true, outstanding: 1 },
    })
    expect(made.dma(absent)).toEqual({ kind: 'waiting', group: 0 })
  })

  it('is answered by an answer that names no PASID', () => {
    const { endpoint, dma, command } = rig()
    dma(absent)
    command([0x7000000000000005n, 0n])
    expect(endpoint.pageRequestStatus()).toMatchObject({ outstanding: 0, unexpectedResponse: false })
  })

  it('without PASID is waited for as any other', () => {
    const { dma, endpoint, command } = rig()
    const untagged = { iova: 0x110000n }
    expect(dma(untagged)).toEqual({ kind: 'waiting', group: 0 })
    expect(dma({ ...untagged, pasid: 5 })).toEqual({ kind: 'waiting', group: 1 })
    expect(dma(untagged)).toEqual({ kind: 'waiting', group: 0 })
    command([0x7000000000000000n | BigInt(device), 0n])
    expect(endpoint.pageRequestStatus()).toMatchObject({ outstanding: 1, unexpectedResponse: false })
  })

  it('may ask for several pages in one group, the last of which is marked', () => {
    const { chip, endpoint, dma, command } = rig()
    const last = { ...absent, iova: (1n << 64n) - 0x1000n }
    expect(dma({ ...absent, pages: 3 })).toEqual({ kind: 'waiting', group: 0 })
    expect(pageRequests(chip)).toMatchObject([
      { group: 0, last: false, page: absent.iova },
      { group: 0, last: false, page: absent.iova + 0x1000n },
      { group: 0, last: true, page: absent.iova + 0x2000n },
    ])
    expect(endpoint.pageRequestStatus().outstanding).toBe(3)
    expect(dma({ ...absent, iova: absent.iova + 0x2000n })).toEqual({ kind: 'waiting', group: 0 })
    // One is left of the allocation of four.
    expect(dma({ ...last, pages: 3 })).toEqual({ kind: 'waiting', group: 1 })
    expect(pageRequests(chip)[3]).toMatchObject({ group: 1, last: true, page: last.iova })
    expect(dma({ ...absent, iova: absent.iova + 0x3000n })).toEqual({ kind: 'waiting', group: undefined })
    expect(pageRequests(chip)).toHaveLength(4)
    command(respond(0))
    expect(endpoint.pageRequestStatus().outstanding).toBe(1)
    expect(dma({ ...absent, iova: absent.iova + 0x3000n })).toEqual({ kind: 'waiting', group: 0 })
  })

  it('goes on past the end of the address space', () => {
    const { chip, dma } = rig()
    dma({ ...absent, iova: (1n << 64n) - 0x1000n, pages: 2 })
    expect(pageRequests(chip).map((each) => each.page)).toEqual([(1n << 64n) - 0x1000n, 0n])
  })

  it('takes the place of a refusal that nobody came for, when there is no other', () => {
    const { dma, command } = rig({ outstandingPageRequests: 2 })
    const nth = (n: bigint): DmaRequest => ({ ...absent, iova: absent.iova + (n << 12n) })
    dma(nth(0n))
    dma(nth(1n))
    command(respond(0, 1), respond(1, 1))
    expect(dma(nth(2n))).toEqual({ kind: 'waiting', group: 0 })
    expect(dma(nth(1n))).toEqual({ kind: 'denied', because: 'page-request-refused' })
    expect(dma(nth(0n))).toEqual({ kind: 'waiting', group: 1 })
  })

  it('may wait for ever: the log has stopped', () => {
    const { chip, dma } = rig({}, { control: quietControl | (1n << 15n) })
    expect(dma(absent)).toEqual({ kind: 'waiting', group: 0 })
    expect(dma(absent)).toEqual({ kind: 'waiting', group: 0 })
    expect(pageRequests(chip)).toEqual([])
  })
})

describe('what software does to a device', () => {
  it('ATS off empties the cache', () => {
    const { chip, endpoint, dma } = rig()
    dma(page)
    endpoint.setAts(false)
    expect(endpoint.entries()).toEqual([])
    expect(dma(page)).toMatchObject({ by: 'untranslated' })
    endpoint.setAts(true)
    expect(endpoint.atsEnabled).toBe(true)
    expect(dma(page)).toMatchObject({ by: 'ats' })
    expect(chip.takeEvents()).toEqual([])
  })

  it('PRI off forgets what was waited for', () => {
    const { endpoint, dma, command } = rig()
    dma(absent)
    endpoint.setPri(false)
    expect(endpoint.pageRequestStatus()).toMatchObject({ enabled: false, outstanding: 0 })
    expect(dma(absent)).toEqual({ kind: 'denied', because: 'no-right' })
    command(respond(0))
    expect(endpoint.pageRequestStatus().unexpectedResponse).toBe(true)
    endpoint.setPri(true)
    expect(endpoint.pageRequestStatus().unexpectedResponse).toBe(false)
  })

  it('a reset brings back what it was made with; invalidations under way stay unanswered', () => {
    const { chip, endpoint, dma, command } = rig({ misbehaviour: ['late'] })
    const fresh = rig({ misbehaviour: ['late'] }).chip.fingerprint()
    const before = chip.fingerprint()
    expect(before).toBe(fresh)
    dma(page)
    dma(absent)
    command(flush(5))
    endpoint.setAts(false)
    endpoint.reset()
    expect([endpoint.atsEnabled, endpoint.entries()]).toEqual([true, []])
    expect(endpoint.pageRequestStatus()).toMatchObject({ enabled: true, outstanding: 0 })
    command(flush(5))
    command(respond(0))
    expect(chip.iommu.completeInvalidation(device, 0)).toBe(true)
    expect(chip.iommu.completeInvalidation(device, 1)).toBe(false)
  })

  it('stops the use of a PASID: its translations go, its pages are waited for no more, a stop marker follows', () => {
    const { chip, endpoint, dma, command } = rig()
    dma(page)
    dma({ ...page, pasid: 0 })
    dma(absent)
    dma({ ...absent, pasid: 0 })
    dma({ ...absent, iova: absent.iova + 0x1000n })
    command(respond(2, 1))
    endpoint.stopPasid(chip.iommu, 5)
    expect(endpoint.entries()).toMatchObject([{ pasid: 0 }])
    expect(pageRequests(chip)[3]).toEqual({ group: 0, last: true, page: 0n, flags: 0x1140 })
    // The group of the PASID still takes of the allocation.
    expect(endpoint.pageRequestStatus().outstanding).toBe(2)
    expect(dma(absent)).toEqual({ kind: 'waiting', group: 2 })
    endpoint.stopPasid(chip.iommu, 5)
    expect(endpoint.pageRequestStatus().outstanding).toBe(3)
    command(respond(0, 1), respond(1, 0, 0))
    expect(endpoint.pageRequestStatus()).toMatchObject({ outstanding: 1, unexpectedResponse: false })
    const quiet = rig({ pri: false })
    quiet.endpoint.stopPasid(quiet.chip.iommu, 5)
    expect(pageRequests(quiet.chip)).toEqual([])
  })
})

describe('the way of messages', () => {
  it('goes by DeviceID', () => {
    const { chip, endpoint, dma } = rig()
    const other = Endpoint.create(chip.memory.words, { ...standard, deviceId: 6 })
    dma(page)
    chip.command([0x4000000000000006n, 0n], flush(5), [0x7000000000000006n, 0n])
    expect(deliver(chip.iommu, [endpoint, other])).toEqual({ received: 3, unsupported: 0 })
    expect(endpoint.entries()).toEqual([])
    expect(endpoint.pageRequestStatus().unexpectedResponse).toBe(false)
    expect(other.pageRequestStatus().unexpectedResponse).toBe(true)
    expect(deliver(chip.iommu, [endpoint, other])).toEqual({ received: 0, unsupported: 0 })
  })

  it('ends at a DeviceID that nobody has: an invalidation is complete, an answer lost', () => {
    const { chip } = rig()
    expect(chip.command(flush(5), respond(0), [0x1000000000000000n, 0n])).toBe(2)
    expect(deliver(chip.iommu, [])).toEqual({ received: 0, unsupported: 2 })
    expect(chip.run()).toBe(1)
  })

  it('may end there without a word: then the invalidation times out', () => {
    const { chip } = rig({}, { control: control | (1n << 5n) })
    expect(chip.command(flush(5), respond(0), [0x1000000000000000n, 0n])).toBe(2)
    expect(deliver(chip.iommu, [], 'lost')).toEqual({ received: 0, unsupported: 2 })
    expect(chip.run()).toBe(0)
    chip.iommu.elapse(1)
    expect(chip.run()).toBe(1)
    expect(chip.takeEvents()).toHaveLength(1)
  })

  it('carries at once all that an IOMMU can hold', () => {
    const { chip, endpoint } = rig()
    for (let n = 0; n < 32; n++) chip.command(flush(5))
    for (let n = 0; n < 64; n++) chip.command(respond(n))
    expect(deliver(chip.iommu, [endpoint])).toEqual({ received: 96, unsupported: 0 })
    expect(chip.iommu.takeDeviceMessage()).toBeUndefined()
  })

  it('is not for messages to another device', () => {
    const { chip, endpoint } = rig()
    const message: DeviceMessage = { kind: 'page-response', deviceId: 6, pasid: 5, group: 0, response: 0 }
    expect(() => endpoint.receive(message, chip.iommu)).toThrow(RangeError)
    expect(() => endpoint.receive(message, chip.iommu)).toThrow('deviceId')
  })
})

describe('a translation completion', () => {
  const answer = {
    ...({ kind: 'completed', from: 'walk', reads: 0 } as const),
    ...{ spa: 0x12345000n, sizeLog2: 12, readable: false, writable: false, executable: false },
    ...{ noSnoop: false, untranslatedOnly: false },
  }

  it.each([
    [{}, false, 0x12345000n],
    [{ readable: true }, false, 0x12345001n],
    [{ writable: true }, false, 0x12345002n],
    [{ untranslatedOnly: true }, false, 0x12345004n],
    [{ executable: true }, false, 0x12345008n],
    [{}, true, 0x12345010n],
    [{ noSnoop: true }, false, 0x12345400n],
    [{ sizeLog2: 13 }, false, 0x12344800n],
    [{ sizeLog2: 14 }, false, 0x12345800n],
    [{ sizeLog2: 16 }, false, 0x12347800n],
    [{ sizeLog2: 21 }, false, 0x122ff800n],
    [{ spa: 0xfffffffffffff000n, sizeLog2: 64 }, false, 0x7ffffffffffff800n],
  ])('has its fields in their places: %o', (more, privileged, word) => {
    expect(
      encodeCompletion({ ...answer, ...more } as Parameters<typeof encodeCompletion>[0], privileged),
    ).toBe(word)
  })

  it('reads as it was written', () => {
    fc.assert(
      fc.property(
        fc.bigInt(0n, (1n << 64n) - 1n),
        fc.integer({ min: 12, max: 64 }),
        fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
        (address, sizeLog2, [readable, writable, executable, noSnoop, untranslatedOnly, privileged]) => {
          const spa = (address >> BigInt(sizeLog2)) << BigInt(sizeLog2)
          const bits = { readable, writable, executable, noSnoop, untranslatedOnly } as Pick<
            typeof answer,
            'readable' | 'writable' | 'executable' | 'noSnoop' | 'untranslatedOnly'
          >
          const told = { ...answer, ...bits, spa: address, sizeLog2 } as Parameters<
            typeof encodeCompletion
          >[0]
          const word = encodeCompletion(told, privileged === true)
          expect(decodeCompletion(word)).toEqual({ ...bits, spa, sizeLog2, privileged })
        },
      ),
    )
  })
})

describe('options and values out of range are a RangeError', () => {
  it.each<[Partial<Record<keyof EndpointOptions, unknown>>, string]>([
    [{ deviceId: 0x10000 }, 'deviceId'],
    [{ pasids: 0 }, 'pasids'],
    [{ pasids: 2 ** 20 + 1 }, 'pasids'],
    [{ atc: { capacity: 0 } }, 'atc.capacity'],
    [{ atc: { capacity: 4097 } }, 'atc.capacity'],
    [{ outstandingPageRequests: 0 }, 'outstandingPageRequests'],
    [{ outstandingPageRequests: 513 }, 'outstandingPageRequests'],
    [{ lateBy: 0 }, 'lateBy'],
    [{ seed: -1 }, 'seed'],
    [{ untaggedInvalidation: 'nothing' }, 'untaggedInvalidation'],
    [{ misbehaviour: ['late', 'naughty'] }, 'misbehaviour naughty'],
  ])('%o', (more, text) => {
    const { words } = Chip.create().memory
    const make = (): unknown => Endpoint.create(words, { ...standard, ...more } as EndpointOptions)
    expect(make).toThrow(RangeError)
    expect(make).toThrow(text)
  })

  it.each<[DmaRequest, string]>([
    [{ iova: -1n }, 'iova'],
    [{ iova: 1n << 64n }, 'iova'],
    [{ iova: 0n, pasid: 0x1000 }, 'pasid'],
    [{ iova: 0n, pasid: -1 }, 'pasid'],
    [{ iova: 0n, pages: 0 }, 'pages'],
    [{ iova: 0n, pages: 33 }, 'pages'],
  ])('%o', (asked, text) => {
    const { chip, dma } = rig()
    const before = chip.fingerprint()
    expect(() => dma(asked)).toThrow(RangeError)
    expect(() => dma(asked)).toThrow(text)
    expect(chip.fingerprint()).toBe(before)
  })

  it('PASIDs of a device that has none', () => {
    const { chip } = rig()
    const { pasids: _, ...without } = standard
    const endpoint = Endpoint.create(chip.memory.words, without)
    expect(() => endpoint.dma(chip.iommu, page)).toThrow('pasid 5: the device has none')
    expect(() => endpoint.stopPasid(chip.iommu, 0)).toThrow(RangeError)
    expect(endpoint.dma(chip.iommu, { iova: hostPages })).toMatchObject({ kind: 'done' })
  })
})

describe('a fork', () => {
  it('has a cache, page requests and held answers of its own', () => {
    const { chip, endpoint, dma } = rig({ misbehaviour: ['late'] })
    dma(page)
    dma(absent)
    chip.command(flush(5))
    deliver(chip.iommu, [endpoint])
    const twinChip = chip.fork()
    const twin = around(twinChip, endpoint.forkOnto(twinChip.memory.words))
    expect(twin.endpoint.entries()).toEqual(endpoint.entries())
    expect(twinChip.fingerprint()).toBe(chip.fingerprint())
    twin.command(respond(0))
    expect(twinChip.fingerprint()).not.toBe(chip.fingerprint())
    expect(twin.endpoint.entries()).toEqual([])
    expect(twin.endpoint.pageRequestStatus().outstanding).toBe(0)
    expect(endpoint.entries()).toHaveLength(1)
    expect(endpoint.pageRequestStatus().outstanding).toBe(1)
    expect(dma(page)).toMatchObject({ by: 'atc' })
    expect(twin.dma(page)).toMatchObject({ by: 'ats' })
  })

  it('that did the same has the same fingerprint', () => {
    const { chip, endpoint } = rig({ atc: { capacity: 2 } })
    const twinChip = chip.fork()
    const twin = endpoint.forkOnto(twinChip.memory.words)
    for (const [each, of] of [
      [endpoint, chip],
      [twin, twinChip],
    ] as const) {
      for (let n = 0n; n < 5n; n++) each.dma(of.iommu, { pasid: 5, iova: guestPages + (n << 12n) })
      each.dma(of.iommu, absent)
    }
    expect(twinChip.fingerprint()).toBe(chip.fingerprint())
  })
})
