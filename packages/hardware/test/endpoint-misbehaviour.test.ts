/** A broken or hostile device: what it does, and what the IOMMU makes of it. */
import { describe, expect, it } from 'vitest'
import type { Misbehaviour } from '../src/endpoint/index.js'
import { event } from './chip.js'
import {
  absent,
  control,
  device,
  flush,
  guestSpa,
  iotlb,
  map,
  page,
  pageRequests,
  respond,
  rig,
} from './endpoint-rig.js'
import type { Rig } from './endpoint-rig.js'
import { guestPages, hostPages, nestedDte } from './tables.js'

const bad = (...misbehaviour: Misbehaviour[]): Rig => rig({ misbehaviour })
const wait = [0x1000000000000000n, 0n] as const
/** Whether a COMPLETION_WAIT after an invalidation comes to its end. */
const completes = ({ chip }: Rig): boolean => chip.command(wait) === 1

/** The IOMMU's part of an invalidation, and the page moved to another place. */
function movePage({ chip, command }: Rig): void {
  map(chip, guestPages, 0x200105000n)
  command([0x3000000500000005n, guestPages | 4n], flush(5, guestPages))
}

describe('a device that ignores invalidations', () => {
  it.each<Misbehaviour[][]>([
    [[]],
    [['late']],
    [['completes-without-invalidating']],
    [['answers-with-wrong-tag']],
  ])('never answers, and goes on with what it has, whatever else it does: %o', (more) => {
    const made = bad('ignores-invalidations', ...more)
    made.dma(page)
    movePage(made)
    made.command(respond(0))
    expect(made.dma(page)).toEqual({ kind: 'done', address: guestSpa, by: 'atc' })
    expect(completes(made)).toBe(false)
  })

  it('is given up after InvTimeOut', () => {
    const made = rig({ misbehaviour: ['ignores-invalidations'] }, { control: control | (1n << 5n) })
    made.dma(page)
    movePage(made)
    made.chip.iommu.elapse(1)
    expect(made.chip.takeEvents()).toEqual([event('00000005 70000000 05000010 00000000')])
    expect(completes(made)).toBe(true)
  })
})

describe('a device that completes without invalidating', () => {
  it('goes on with what it has, and nobody knows', () => {
    const made = bad('completes-without-invalidating')
    made.dma(page)
    movePage(made)
    expect(completes(made)).toBe(true)
    expect(made.dma(page)).toEqual({ kind: 'done', address: guestSpa, by: 'atc' })
    expect(made.chip.takeEvents()).toEqual([])
  })
})

describe('a device that is late', () => {
  it.each([
    ['of a PASID', page, 5],
    ['without PASID', { iova: hostPages }, undefined],
  ])('acts on an invalidation %s when as many messages have come as it waits for', (_, asked, pasid) => {
    const made = rig({ misbehaviour: ['late'], lateBy: 3 })
    made.dma(asked)
    made.command(flush(pasid), wait)
    const response = { kind: 'page-response', deviceId: device, pasid: 5, group: 0, response: 0 } as const
    for (let messages = 0; messages < 2; messages++) {
      made.endpoint.receive(response, made.chip.iommu)
      expect(made.dma(asked)).toMatchObject({ by: 'atc' })
      expect(made.chip.run()).toBe(0)
    }
    made.endpoint.receive(response, made.chip.iommu)
    expect(made.endpoint.entries()).toEqual([])
    expect(made.chip.run()).toBe(1)
  })

  it('waits for one message where nothing else is said', () => {
    const made = bad('late')
    made.dma(page)
    made.command(flush(5))
    expect(made.endpoint.entries()).toHaveLength(1)
    made.command(respond(0))
    expect(made.endpoint.entries()).toEqual([])
    expect(completes(made)).toBe(true)
  })
})

describe('a device that answers with the wrong tag', () => {
  it('has invalidated, but the IOMMU waits on', () => {
    const made = bad('answers-with-wrong-tag')
    made.dma(page)
    movePage(made)
    expect(made.endpoint.entries()).toEqual([])
    expect(completes(made)).toBe(false)
  })

  it('ends the invalidation that has this tag', () => {
    const made = bad('answers-with-wrong-tag')
    made.chip.command(flush(5), flush(0), wait)
    const [first] = [made.chip.iommu.takeDeviceMessage()!, made.chip.iommu.takeDeviceMessage()!]
    made.endpoint.receive(first, made.chip.iommu)
    expect(made.chip.iommu.completeInvalidation(device, 1)).toBe(false)
    expect(made.chip.run()).toBe(0)
    expect(made.chip.iommu.completeInvalidation(device, 0)).toBe(true)
    expect(made.chip.run()).toBe(1)
  })

  it('goes on at 0 after the last tag', () => {
    const { endpoint } = bad('answers-with-wrong-tag')
    const tags: number[] = []
    const everything = { pasid: undefined, address: 0n, sizeLog2: 64 }
    endpoint.receive(
      { kind: 'invalidate', deviceId: device, tag: 31, ...everything },
      { completeInvalidation: (_, tag) => tags.push(tag) > 0 },
    )
    expect(tags).toEqual([0])
  })
})

describe('a device that guesses PASIDs', () => {
  /** PASIDs of the faults of so many accesses. */
  function guesses(made: Rig, count: number): number[] {
    for (let n = 0; n < count; n++) {
      expect(made.dma({ iova: guestPages })).toMatchObject({ kind: 'refused', by: 'fault', logged: true })
    }
    return made.chip.takeEvents().map(([lo]) => {
      expect((lo >> 48n) & 1n).toBe(1n)
      return Number((lo >> 32n) & 0xffffn) | (Number((lo >> 16n) & 0xfn) << 16)
    })
  }
  function forked(made: Rig): Rig {
    const chip = made.chip.fork()
    const endpoint = made.endpoint.forkOnto(chip.memory.words)
    return { ...made, chip, endpoint, dma: (asked) => endpoint.dma(chip.iommu, asked) }
  }
  const guessing = (seed?: number): Rig =>
    rig({
      ...{ misbehaviour: ['guesses-pasids'], ats: false, pri: false, pasids: 16 },
      ...(seed === undefined ? {} : { seed }),
    })

  it('tries any of 2^20, whatever it was asked for and how many it has', () => {
    const found = guesses(guessing(), 200)
    expect(new Set(found).size).toBeGreaterThan(190)
    // Each bit is now 0, now 1.
    for (let bit = 0; bit < 20; bit++) {
      const ones = found.filter((pasid) => ((pasid >>> bit) & 1) === 1).length
      expect(ones, `bit ${bit}`).toBeGreaterThan(50)
      expect(ones, `bit ${bit}`).toBeLessThan(150)
    }
  })

  it('does the same each time from one seed, which is 1 by default, and in each fork; another thing from another', () => {
    const made = guessing()
    const first = guesses(made, 5)
    const twin = forked(made)
    expect(guesses(made, 5)).toEqual(guesses(twin, 5))
    expect(guesses(guessing(1), 5)).toEqual(first)
    expect(guesses(guessing(2), 5)).not.toEqual(first)
  })
})

describe('a device that sends any address as translated', () => {
  it('reaches whatever it names, if it may use ATS at all', () => {
    const made = bad('translated-unasked')
    expect(made.dma(absent)).toEqual({ kind: 'done', address: absent.iova, by: 'unasked' })
    expect(made.dma({ iova: 0x123456789000n, write: true })).toEqual({
      ...{ kind: 'done', address: 0x123456789000n, by: 'unasked' },
    })
    expect(made.endpoint.entries()).toEqual([])
  })

  it('is refused where its entry has I=0: INVALID_DEVICE_REQUEST of type 1', () => {
    const made = bad('translated-unasked')
    made.chip.setDte(device, nestedDte(device))
    expect(made.dma({ ...page, pasid: 5 })).toEqual({
      ...{ kind: 'refused', by: 'fault', logged: true },
      event: event('00000005 82000000 40200000 00000000'),
    })
    made.chip.setDte(device, [0n, iotlb])
    made.chip.command([0x2000000000000000n | BigInt(device), 0n])
    expect(made.dma(page)).toMatchObject({ kind: 'refused' })
  })
})

describe('a device that floods the log of page requests', () => {
  it('asks 32 times with each access, beyond its allocation', () => {
    const made = bad('floods-page-requests')
    expect(made.dma(page)).toEqual({ kind: 'done', address: guestSpa, by: 'ats' })
    const first = pageRequests(made.chip)
    expect(first).toHaveLength(32)
    expect(made.endpoint.pageRequestStatus().outstanding).toBe(0)
    expect(new Set(first.map((each) => each.page)).size).toBe(32)
    expect(new Set(first.map((each) => each.group)).size).toBeGreaterThan(28)
    const asks = (bit: number): number => first.filter(({ flags }) => ((flags >> bit) & 1) === 1).length
    // GN, write and read, by chance.
    for (const bit of [8, 5, 2]) {
      expect(asks(bit)).toBeGreaterThan(5)
      expect(asks(bit)).toBeLessThan(27)
    }
    made.dma(page)
    expect(pageRequests(made.chip)).toHaveLength(64)
  })

  it('stops the log, and nothing else', () => {
    const made = bad('floods-page-requests')
    for (let n = 0; n < 8; n++) made.dma(page)
    // PprOverflow set, PprLogRun clear.
    expect(made.chip.read(0x2020) & 0xa0n).toBe(0x20n)
    expect(pageRequests(made.chip)).toHaveLength(255)
    expect(made.dma(page)).toEqual({ kind: 'done', address: guestSpa, by: 'atc' })
    expect(made.chip.takeEvents()).toEqual([])
  })
})
