/**
 * Each gap of Linux 7.3 does its harm with real DMA on the chip; with the gap closed, it alone or all of them, the same run is
 * right.
 */
import { iova, spa } from '@nestwalk/bits'
import { decodeDte, nestingFeatures, store64 } from '@nestwalk/hardware'
import { allGapsBut, viommuMap, viommuMapLinux73 } from '@nestwalk/driver'
import type { DomainIdPolicy, Effect, Gap, Outcome } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { guestEntry } from './guest-entry.js'
import { readWrite } from './machine.js'
import type { Machine } from './machine.js'
import {
  addGuest,
  dma,
  drain,
  elsewhere,
  first,
  frame,
  hostMachine,
  nest,
  page,
  put,
  same,
  second,
} from './virtual-machine.js'

const [memoryOfOne, memoryOfOther] = [0x4000_0000n, 0x5000_0000n]
const pageOf = (base: bigint, at: bigint): string => (base + at).toString(16)
const errnoOf = (outcome: Outcome<unknown>): string => (outcome.ok ? 'accepted' : outcome.errno)
const domainIdOf = (machine: Machine, device: number): number =>
  decodeDte(BigUint64Array.from([...machine.entry(device)])).domainId
const addressOf = (word: bigint): bigint => word & 0xffffffffff000n

/** What is seen of a gap: with it open, and closed. */
interface Showing {
  readonly gap: Gap
  readonly name: string
  readonly run: (policy: DomainIdPolicy) => unknown
  readonly harm: unknown
  readonly right: unknown
}

/** A device that came to nesting from blocked fills its caches; its page is unmapped; it goes on. */
function unmapUnderNested(policy: DomainIdPolicy): string[] {
  const machine = hostMachine(policy)
  const { driver } = machine
  const guest = addGuest(machine, memoryOfOne)
  put(machine, first, nest(machine, guest, 5))
  const before = dma(machine, first, page)
  machine.run(driver.unmap(guest.parent, iova(frame), 0x1000n))
  // The frame belongs to somebody else from here on.
  return [before, dma(machine, first, page, true)]
}
const reused = [pageOf(memoryOfOne, frame), pageOf(memoryOfOne, frame)]
const unmapped = [pageOf(memoryOfOne, frame), 'refused']

const showings: readonly Showing[] = [
  {
    gap: 'U2',
    name: 'a guest reads a page of another one, as its DomainID was another one’s before (S07)',
    run: (policy) => {
      const machine = hostMachine(policy)
      const { driver } = machine
      const [one, other] = [memoryOfOne, memoryOfOther].map((base) => addGuest(machine, base))
      const [a, b] = [5, 6].map((id) => nest(machine, one!, id))
      put(machine, first, a!)
      dma(machine, first, page)
      put(machine, first, b!)
      machine.run(driver.freeDomain(a!))
      put(machine, second, nest(machine, other!, 7))
      return dma(machine, second, page)
    },
    harm: pageOf(memoryOfOne, frame),
    right: pageOf(memoryOfOther, frame),
  },
  {
    gap: 'U3',
    name: 'a nested device is on no list, so that nobody waits for the flush of its page (S08b)',
    run: unmapUnderNested,
    harm: reused,
    right: unmapped,
  },
  {
    gap: 'U4',
    name: 'nobody waits for the flush of a page: a write lands in the reused frame (S08b)',
    run: unmapUnderNested,
    harm: reused,
    right: unmapped,
  },
  {
    gap: 'U5',
    name: 'a device that comes from blocked has no ATS',
    run: (policy) => {
      const machine = hostMachine(policy)
      put(machine, first, nest(machine, addGuest(machine, memoryOfOne), 5))
      return [machine.endpoints[0]!.atsEnabled, (machine.entry(first)[1] >> 32n) & 1n]
    },
    harm: [false, 0n],
    right: [true, 1n],
  },
  {
    gap: 'U5',
    name: 'a device that comes from another host table keeps a freed page in its TLB for good (S08b, state O)',
    run: (policy) => {
      const machine = hostMachine(policy)
      const { driver } = machine
      const guest = addGuest(machine, memoryOfOne)
      put(machine, first, machine.run(driver.allocateHostTable()), nest(machine, guest, 5))
      dma(machine, first, same, true)
      machine.run(driver.unmap(guest.parent, iova(same), 0x1000n))
      drain(machine)
      return dma(machine, first, same, true)
    },
    harm: pageOf(memoryOfOne, same),
    right: 'refused',
  },
  {
    gap: 'U6',
    name: 'a guest turns its tables off, and the device goes on through them (S10)',
    run: (policy) => {
      const machine = hostMachine(policy)
      const guest = addGuest(machine, memoryOfOne)
      put(machine, first, guest.parent, nest(machine, guest, 5), guest.parent)
      return [dma(machine, first, page), dma(machine, first, frame)]
    },
    harm: [pageOf(memoryOfOne, frame), 'refused'],
    right: ['refused', pageOf(memoryOfOne, frame)],
  },
  {
    gap: 'U6',
    name: 'then the nested domain is freed, and its DomainID, in the device’s entry, gets a second owner (S10)',
    run: (policy) => {
      const machine = hostMachine(policy)
      const [one, other] = [memoryOfOne, memoryOfOther].map((base) => addGuest(machine, base))
      const nested = nest(machine, one!, 5)
      put(machine, first, one!.parent, nested, one!.parent)
      const freed = machine.driver.freeDomain(nested)
      machine.run(freed)
      put(machine, second, nest(machine, other!, 7))
      dma(machine, first, page)
      return [domainIdOf(machine, first) === domainIdOf(machine, second), dma(machine, second, page)]
    },
    harm: [true, pageOf(memoryOfOne, frame)],
    right: [false, pageOf(memoryOfOther, frame)],
  },
  {
    gap: 'U7',
    name: 'the parent grows, and an address of the guest is taken for a guest physical one (S09a)',
    run: (policy) => {
      const machine = hostMachine(policy)
      const guest = addGuest(machine, memoryOfOne)
      put(machine, first, guest.parent, nest(machine, guest, 5))
      const before = dma(machine, first, page)
      machine.run(machine.driver.map(guest.parent, iova(1n << 39n), spa(0x9000n), 0x1000n, readWrite))
      return [before, dma(machine, first, page), dma(machine, first, frame)]
    },
    harm: [pageOf(memoryOfOne, frame), 'refused', pageOf(memoryOfOne, frame)],
    right: [pageOf(memoryOfOne, frame), pageOf(memoryOfOne, frame), 'refused'],
  },
  {
    gap: 'U8',
    name: 'the parent grows, and the device cannot reach what is mapped there (S09b)',
    run: (policy) => {
      const machine = hostMachine(policy)
      const guest = addGuest(machine, memoryOfOne)
      put(machine, first, nest(machine, guest, 5))
      machine.run(machine.driver.map(guest.parent, iova(1n << 39n), spa(0x9000n), 0x1000n, readWrite))
      drain(machine)
      // The last entry that leads to the guest's page now names a page beyond the old top.
      repoint(machine, memoryOfOne, 1n << 39n)
      return dma(machine, first, page)
    },
    harm: 'refused',
    right: '9000',
  },
  {
    gap: 'U9',
    name: 'a nested device writes without a mark (S21)',
    run: (policy) => {
      const machine = hostMachine(policy)
      const { driver } = machine
      const guest = addGuest(machine, memoryOfOne, true)
      put(machine, first, nest(machine, guest, 5))
      machine.run(driver.setDirtyTracking(guest.parent, true))
      drain(machine)
      dma(machine, first, page, true)
      return machine.run(driver.readDirty(guest.parent, { first: iova(frame), last: iova(frame + 0xfffn) }))
        .length
    },
    harm: 0,
    right: 1,
  },
  {
    gap: 'U9',
    name: 'a nested domain of a tracked parent goes to a device whose IOMMU cannot mark writes',
    run: (policy) => {
      const { efr, efr2 } = nestingFeatures
      const machine = hostMachine(policy, { otherFeatures: { efr: efr & ~(1n << 52n), efr2 } })
      const { driver } = machine
      const parent = machine.run(driver.allocateHostTable({ nestParent: true, dirtyTracking: true }))
      const viommu = machine.run(driver.createViommu(parent, 1))
      const nested = nest(machine, { parent, viommu, base: memoryOfOne }, 5)
      return errnoOf(driver.attach(elsewhere, nested))
    },
    harm: 'accepted',
    right: 'EINVAL',
  },
  {
    gap: 'U10',
    name: 'the device TLB keeps a freed page that is not at its guest physical address (S08a)',
    run: (policy) => {
      const machine = hostMachine(policy)
      const guest = addGuest(machine, memoryOfOne)
      put(machine, first, guest.parent, nest(machine, guest, 5))
      dma(machine, first, page, true)
      machine.run(machine.driver.unmap(guest.parent, iova(frame), 0x1000n))
      drain(machine)
      return dma(machine, first, page, true)
    },
    harm: pageOf(memoryOfOne, frame),
    right: 'refused',
  },
  {
    gap: 'U10',
    name: 'the device TLB keeps a freed page of the host’s guest table, which it asked for without PASID',
    run: (policy) => {
      const machine = hostMachine(policy)
      const { driver } = machine
      const domain = machine.run(driver.allocateGuestTable())
      machine.run(driver.map(domain, iova(same), spa(memoryOfOne), 0x1000n, readWrite))
      put(machine, first, domain)
      dma(machine, first, same, true)
      machine.run(driver.unmap(domain, iova(same), 0x1000n))
      return dma(machine, first, same, true)
    },
    harm: pageOf(memoryOfOne, 0n),
    right: 'refused',
  },
  {
    gap: 'U11',
    name: 'after a reset nobody waits for the flush of a page (S12)',
    run: (policy) => {
      const machine = hostMachine(policy)
      const { driver } = machine
      const guest = addGuest(machine, memoryOfOne)
      put(machine, first, guest.parent, nest(machine, guest, 5))
      machine.run(driver.beginReset(first))
      machine.run(driver.endReset(first))
      const before = dma(machine, first, same)
      machine.run(driver.unmap(guest.parent, iova(same), 0x1000n))
      return [before, dma(machine, first, same, true)]
    },
    harm: [pageOf(memoryOfOne, same), pageOf(memoryOfOne, same)],
    right: [pageOf(memoryOfOne, same), 'refused'],
  },
  {
    gap: 'U11',
    name: 'after a reset the device has lost ATS (S12)',
    run: (policy) => {
      const machine = hostMachine(policy)
      const guest = addGuest(machine, memoryOfOne)
      put(machine, first, guest.parent, nest(machine, guest, 5))
      machine.run(machine.driver.beginReset(first))
      machine.run(machine.driver.endReset(first))
      return machine.endpoints[0]!.atsEnabled
    },
    harm: false,
    right: true,
  },
  {
    gap: 'U12',
    name: 'a table that the device has left grows, and the device is on it again',
    run: (policy) => {
      const machine = hostMachine(policy)
      const { driver } = machine
      const guest = addGuest(machine, memoryOfOne)
      const host = machine.run(driver.allocateHostTable())
      machine.run(driver.map(host, iova(same), spa(memoryOfOther), 0x1000n, readWrite))
      put(machine, first, host, nest(machine, guest, 5))
      machine.run(driver.map(host, iova(1n << 39n), spa(0x9000n), 0x1000n, readWrite))
      return dma(machine, first, same)
    },
    harm: pageOf(memoryOfOther, 0n),
    right: pageOf(memoryOfOne, same),
  },
  {
    gap: 'U12',
    name: 'a domain is freed that Linux still has a device on',
    run: (policy) => {
      const machine = hostMachine(policy)
      const { driver } = machine
      const guest = addGuest(machine, memoryOfOne)
      const host = machine.run(driver.allocateHostTable())
      put(machine, first, host, nest(machine, guest, 5))
      machine.run(driver.freeDomain(host))
      return driver.device(first)?.recorded === host
    },
    harm: true,
    right: false,
  },
  {
    gap: 'U14',
    name: 'one guest takes all DomainIDs (S19)',
    run: (policy) => {
      const machine = hostMachine(policy, { lastDomainId: 12, domainIds: { quotaPerViommu: 4 } })
      const { driver } = machine
      const guest = addGuest(machine, memoryOfOne)
      let taken = 0
      while (taken < 100 && driver.allocateNested(guest.viommu, guestEntry(taken)).ok) taken += 1
      return [taken, errnoOf(driver.allocateHostTable())]
    },
    harm: [11, 'ENOMEM'],
    right: [4, 'accepted'],
  },
  {
    gap: 'U15',
    name: 'a device that was on a guest table with PASIDs is refused',
    run: (policy) => {
      const machine = hostMachine(policy)
      const { driver } = machine
      machine.run(driver.probe(0x30, 9, 0, { maxPasids: 256 }))
      const guest = addGuest(machine, memoryOfOne)
      put(machine, 0x30, machine.run(driver.allocateGuestTable()))
      return errnoOf(driver.attach(0x30, nest(machine, guest, 5)))
    },
    harm: 'EINVAL',
    right: 'accepted',
  },
  {
    gap: 'U16',
    name: 'a member cannot follow its guest while another one is being reset (S12)',
    run: (policy) => {
      const machine = hostMachine(policy)
      const { driver } = machine
      machine.run(driver.probe(0x30, 7))
      machine.run(driver.probe(0x31, 7))
      const guest = addGuest(machine, memoryOfOne)
      const [a, b] = [5, 6].map((id) => nest(machine, guest, id))
      put(machine, 0x30, a!)
      put(machine, 0x31, a!)
      machine.run(driver.beginReset(0x30))
      return errnoOf(driver.attach(0x31, b!))
    },
    harm: 'EBUSY',
    right: 'accepted',
  },
  {
    gap: 'U17',
    name: 'two devices on one guest table have two GCR3 tables and two IDs; an unmap has to reach both',
    run: (policy) => {
      const machine = hostMachine(policy)
      const { driver } = machine
      const domain = machine.run(driver.allocateGuestTable())
      put(machine, first, domain)
      put(machine, second, domain)
      machine.run(driver.map(domain, iova(same), spa(0x9000n), 0x1000n, readWrite))
      const unmap = driver.unmap(domain, iova(same), 0x1000n)
      return [
        driver.gcr3Tables.length,
        pagesIn(unmap),
        domainIdOf(machine, first) === domainIdOf(machine, second),
      ]
    },
    harm: [2, 2, false],
    right: [1, 1, true],
  },
  {
    gap: 'U19',
    name: 'a guest changes its paging level, and its device reads host memory untranslated (S35)',
    run: (policy) => levelChange(policy, 0, 1),
    harm: true,
    right: false,
  },
  {
    gap: 'U19',
    name: 'the same from five levels to four',
    run: (policy) => levelChange(policy, 1, 0),
    harm: true,
    right: false,
  },
  {
    gap: 'U19',
    name: 'an alias has a window of its own',
    run: (policy) => levelChange(policy, 0, 1, 0x38),
    harm: true,
    right: false,
  },
  {
    gap: 'U19',
    name: 'a nested device in state B goes to a guest table of the host with more levels',
    run: (policy) => levelChange(policy, 0, 'guest table'),
    harm: true,
    right: false,
  },
  {
    gap: 'U20',
    name: 'a device behind another IOMMU has a nested domain, and keeps a freed page for good (S36)',
    run: (policy) => {
      const machine = hostMachine(policy)
      const { driver } = machine
      const guest = addGuest(machine, memoryOfOne)
      const nested = nest(machine, guest, 5)
      put(machine, first, guest.parent, nested)
      const moved = driver.attach(elsewhere, nested)
      if (!moved.ok) return moved.errno
      machine.run(moved)
      dma(machine, elsewhere, page)
      machine.run(driver.unmap(guest.parent, iova(frame), 0x1000n))
      drain(machine)
      return dma(machine, elsewhere, page, true)
    },
    harm: pageOf(memoryOfOne, frame),
    right: 'EINVAL',
  },
]

const pagesIn = (outcome: Outcome<unknown>): number =>
  outcome.ok
    ? outcome.effects.filter(
        (each) => each.kind === 'command' && each.command.kind === 'InvalidateIommuPages',
      ).length
    : 0

/** Makes the guest's {@link page} lead somewhere else, in the guest's own tables. */
function repoint(machine: Machine, base: bigint, to: bigint): void {
  const pointer = (at: bigint): bigint => base + addressOf(machine.load(at))
  let table = pointer(base + 0x1_0000n)
  for (const shift of [39n, 30n, 21n]) table = pointer(table + ((page >> shift) & 511n) * 8n)
  const at = table + ((page >> 12n) & 511n) * 8n
  const word = (machine.load(at) & ~0xffffffffff000n) | to
  if (!store64(machine.memory, at, word)) throw new Error('there is no memory for a guest table')
}

/**
 * Whether a device ever gets at an address as it is while it goes from one guest paging level to another.
 *
 * @param to - of its guest, or the host's guest table of five levels
 * @param asker - the DeviceID of its requests
 */
function levelChange(
  policy: DomainIdPolicy,
  from: number,
  to: number | 'guest table',
  asker = 0x30,
): boolean {
  const machine = hostMachine(policy)
  const { driver } = machine
  machine.run(driver.probe(0x30, 9, 0, { aliases: [0x38] }))
  const guest = addGuest(machine, memoryOfOne)
  const nestedOf = (guestPagingMode: number): number => nest(machine, guest, 5, { guestPagingMode })
  put(machine, 0x30, nestedOf(from))
  const target = to === 'guest table' ? machine.run(driver.allocateGuestTable({ levels: 5 })) : nestedOf(to)
  const moved = driver.attach(0x30, target)
  if (!moved.ok) throw new Error(moved.why)
  // An address of the host, which nothing is mapped at.
  const passes = (): boolean =>
    machine.iommu.request({ deviceId: asker, iova: 0x1234_5000n }).kind === 'forwarded'
  const seen = moved.effects.map((effect: Effect) => {
    machine.carryOut([effect])
    return passes()
  })
  return seen.includes(true)
}

describe.each(showings)('$gap: $name', ({ gap, run, harm, right }) => {
  it('with all gaps open', () => {
    expect(run(viommuMapLinux73)).toEqual(harm)
  })

  it(`with ${gap} alone closed it is right`, () => {
    expect(run({ ...viommuMapLinux73, gaps: allGapsBut(gap) })).toEqual(right)
  })

  it('without gaps it is right', () => {
    expect(run({ ...viommuMap, gaps: new Set() })).toEqual(right)
  })

  // M has but one gap, U17: its GCR3 tables are Linux's.
  it(`under M it is ${gap === 'U17' ? 'as in Linux' : 'right'}`, () => {
    expect(run(viommuMap)).toEqual(gap === 'U17' ? harm : right)
  })
})
