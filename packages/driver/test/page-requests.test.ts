import { iova, spa } from '@nestwalk/bits'
import { nestingFeatures, registers, store64 } from '@nestwalk/hardware'
import type { EndpointOptions, PageRequest } from '@nestwalk/hardware'
import { requestsPerDevice, viommuMap } from '@nestwalk/driver'
import type { Effect, Gap, Outcome, RequestGroup } from '@nestwalk/driver'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { guestEntry } from './guest-entry.js'
import { mapForGuest } from './guest-tables.js'
import { Machine, readWrite } from './machine.js'
import { allEvents, allPageRequests } from './reports.js'
import { runs } from './runs.js'

const deviceId = 0x18
const guestMemory = 0x4000_0000n
const maxPasids = 16
/** A nest parent with guest memory, a nested domain, identity, and a process. */
const [parent, nested, identity, process] = [1, 2, 3, 4]

const able = (id: number, options: Partial<EndpointOptions> = {}): EndpointOptions => ({
  ...{ deviceId: id, pasids: maxPasids, atc: { capacity: 16 }, ats: false, pri: false },
  outstandingPageRequests: 32,
  ...options,
})

/** Devices with all abilities at `deviceId`, and at 0x20 where asked for; nothing is attached. */
function machineWith(gaps: readonly Gap[] = [], ...endpoints: EndpointOptions[]): Machine {
  const policy = { ...viommuMap, gaps: new Set(gaps) }
  const machine = Machine.create({ policy, endpoints: endpoints.length > 0 ? endpoints : [able(deviceId)] })
  const { driver } = machine
  for (const { deviceId: id } of machine.endpoints) {
    machine.run(driver.probe(id, id, 0, { atsQueueDepth: 8, maxPasids, pageRequests: true }))
  }
  machine.run(driver.allocateHostTable({ nestParent: true }))
  machine.run(driver.map(parent, iova(0n), spa(guestMemory), 0x100000n, readWrite))
  machine.run(driver.createViommu(1))
  machine.run(driver.allocateNested(1, guestEntry(5, { pageRequestsAllowed: true })))
  machine.run(driver.allocateIdentity())
  machine.run(driver.allocateProcess())
  return machine
}

/** The device on identity, with a process behind PASID 4. */
function withProcess(gaps: readonly Gap[] = [], ...endpoints: EndpointOptions[]): Machine {
  const machine = machineWith(gaps, ...endpoints)
  machine.run(machine.driver.attach(deviceId, identity))
  machine.run(machine.driver.attachPasid([deviceId], 4, process))
  return machine
}

/** The device on the guest's tables, in which PASID 4 has a page at 0x7000 and none at 0x8000. */
function inGuest(gaps: readonly Gap[] = [], ...endpoints: EndpointOptions[]): Machine {
  const machine = machineWith(gaps, ...endpoints)
  mapForGuest(machine.memory, guestMemory, 0x7000n, 0x5000n, 4)
  machine.run(machine.driver.attach(deviceId, nested))
  return machine
}

const endpointOf = (machine: Machine, id = deviceId): Machine['endpoints'][number] =>
  machine.endpoints.find((each) => each.deviceId === id)!

const write = (machine: Machine, address: bigint, pasid: number | undefined, pages = 1): string => {
  const answer = endpointOf(machine).dma(machine.iommu, { iova: address, pasid, write: true, pages })
  return answer.kind === 'done' ? `done ${answer.address.toString(16)}` : answer.kind
}

/** What answers a command gives, as `failure of 3 for PASID 4`. */
function answers(effects: readonly Effect[]): string[] {
  const names = new Map([
    [0, 'success'],
    [1, 'invalid'],
    [15, 'failure'],
  ])
  return effects.flatMap((effect) => {
    if (effect.kind !== 'command' || effect.command.kind !== 'CompletePprRequest') return []
    const { responseCode = 0, groupIndex = 0, guestNested, pasid } = effect.command
    return `${names.get(responseCode)!} of ${groupIndex}${guestNested === true ? ` for PASID ${pasid!}` : ''}`
  })
}

/** Carries an operation out and tells what it answered. */
function answered(machine: Machine, outcome: Outcome<unknown>): string[] {
  machine.run(outcome)
  return outcome.ok ? answers(outcome.effects) : []
}

/** Has the chip log a request as if it came from a device, without one that waits. */
const logged = (machine: Machine, request: Partial<PageRequest>): string =>
  machine.iommu.pageRequest({
    deviceId,
    pasid: 4,
    address: 0x8000n,
    read: true,
    group: 3,
    last: true,
    ...request,
  })

const group = (pasid: number | undefined, index: number): RequestGroup => ({ pasid, group: index })

describe('a process is asked for a page', () => {
  it('and answers: the device writes to what it has mapped', () => {
    const machine = withProcess()
    const { driver } = machine
    expect(write(machine, 0x8abcn, 4)).toBe('waiting')
    const [asked, ...others] = allPageRequests(machine)
    expect(others).toEqual([])
    expect(asked).toMatchObject({
      ...{ deviceId, pasid: 4, address: 0x8000n, to: { kind: 'domain', domain: process } },
      request: { read: false, write: true, lastInGroup: true },
    })
    machine.run(driver.map(process, iova(0x8000n), spa(0x9000n), 0x1000n, readWrite))
    expect(answered(machine, driver.respond(deviceId, asked!, 'success'))).toEqual([
      `success of ${asked!.group} for PASID 4`,
    ])
    machine.advance()
    machine.advance()
    expect(write(machine, 0x8abcn, 4)).toBe('done 9abc')
    expect(endpointOf(machine).pageRequestStatus()).toMatchObject({
      outstanding: 0,
      unexpectedResponse: false,
    })
  })

  it('the status first, then each entry is cleared and given back, and the answer comes after', () => {
    const machine = withProcess()
    logged(machine, { pasid: 5 })
    const taken = machine.driver.takePageRequests(0)
    if (!taken.ok) throw new Error(taken.why)
    const { status, pprHead } = registers
    expect(taken.effects).toMatchObject([
      { kind: 'register', offset: status.offset, value: 0x40n },
      { kind: 'store', words: [0n, 0n] },
      { kind: 'register', offset: pprHead.offset, value: 0x10n },
      { kind: 'command', command: { kind: 'CompletePprRequest' } },
    ])
  })

  it('a group of several pages is answered once', () => {
    const machine = withProcess()
    expect(write(machine, 0x8000n, 4, 3)).toBe('waiting')
    const asked = allPageRequests(machine)
    expect(asked.map(({ address, request }) => [address, request.lastInGroup])).toEqual([
      [0x8000n, false],
      [0x9000n, false],
      [0xa000n, true],
    ])
    const [pending] = machine.driver.pendingPageRequests(deviceId)
    expect(pending).toEqual({ pasid: 4, group: asked[0]!.group, requests: 3, isComplete: true })
    machine.run(machine.driver.respond(deviceId, pending!, 'invalid-request'))
    while (machine.advance());
    expect(write(machine, 0x8000n, 4)).toBe('denied')
    expect(endpointOf(machine).pageRequestStatus().unexpectedResponse).toBe(false)
  })

  it('a failure turns page requests of the device off', () => {
    const machine = withProcess()
    write(machine, 0x8000n, 4)
    const [asked] = allPageRequests(machine)
    machine.run(machine.driver.respond(deviceId, asked!, 'failure'))
    while (machine.advance());
    expect(endpointOf(machine).pageRequestStatus()).toMatchObject({ enabled: false, responseFailure: true })
  })
})

it('an IOMMU without page requests has none to take', () => {
  const { efr, efr2 } = nestingFeatures
  const machine = Machine.create({ features: { efr: efr & ~2n, efr2 } })
  expect(machine.driver.takePageRequests(0)).toEqual({
    ok: true,
    value: { requests: [], isIncomplete: false },
    effects: [],
  })
})

describe('nobody is asked, and the answer is a failure', () => {
  const cases: readonly (readonly [string, Partial<PageRequest>, string[]])[] = [
    ['without PASID', { pasid: undefined }, ['failure of 3']],
    ['for PASID 0', { pasid: 0 }, ['failure of 3 for PASID 0']],
    ['for a PASID beyond the device’s last', { pasid: maxPasids }, [`failure of 3 for PASID ${maxPasids}`]],
    ['for PASID 0, though others follow', { pasid: 0, last: false }, ['failure of 3 for PASID 0']],
    [
      'for a PASID beyond the last, though others follow',
      { pasid: maxPasids, last: false },
      [`failure of 3 for PASID ${maxPasids}`],
    ],
    ['without PASID and without rights: no stop marker', { pasid: undefined, read: false }, ['failure of 3']],
    ['for a PASID without a process', { pasid: 5 }, ['failure of 3 for PASID 5']],
    ['without PASID, though others of the group follow', { pasid: undefined, last: false }, ['failure of 3']],
    ['for a PASID without a process, others of the group follow: not yet', { pasid: 5, last: false }, []],
  ]
  it.each(cases)('%s', (_name, request, lines) => {
    const machine = withProcess()
    expect(logged(machine, request)).toBe('logged')
    const taken = machine.driver.takePageRequests(0)
    expect(taken).toMatchObject({ value: { requests: [], isIncomplete: false } })
    expect(answered(machine, taken)).toEqual(lines)
    expect(machine.driver.pendingPageRequests(deviceId)).toEqual([])
  })

  it('if a reserved bit is set', () => {
    const machine = withProcess()
    logged(machine, {})
    const at = machine.iommu.readMmio(registers.pprLogBase.offset, 8) & 0xf_ffff_ffff_f000n
    store64(machine.memory, at, machine.load(at) | (1n << 55n))
    expect(answered(machine, machine.driver.takePageRequests(0))).toEqual(['failure of 3 for PASID 4'])
  })

  it('and none at all, of a device that nobody knows, and of an entry of another kind', () => {
    const machine = withProcess()
    const at = machine.iommu.readMmio(registers.pprLogBase.offset, 8) & 0xf_ffff_ffff_f000n
    logged(machine, {})
    logged(machine, {})
    store64(machine.memory, at, (machine.load(at) & ~0xffffn) | 0x77n)
    store64(machine.memory, at + 16n, machine.load(at + 16n) ^ (3n << 60n))
    const taken = machine.driver.takePageRequests(0)
    expect(taken).toMatchObject({ value: { requests: [] } })
    expect(answered(machine, taken)).toEqual([])
  })
})

describe('a nested device asks its guest (S29)', () => {
  it('and gets the page: the answer has the PASID and the group of the request', () => {
    const machine = inGuest()
    expect(write(machine, 0x7000n, 4)).toBe('done 40005000')
    expect(write(machine, 0x8abcn, 4)).toBe('waiting')
    const [asked] = allPageRequests(machine)
    expect(asked).toMatchObject({
      ...{ pasid: 4, address: 0x8000n },
      to: { kind: 'viommu', viommu: 1, deviceId, guestDomainId: 5 },
    })
    mapForGuest(machine.memory, guestMemory, 0x8000n, 0x6000n, 4)
    expect(answered(machine, machine.driver.respond(deviceId, asked!, 'success'))).toEqual([
      `success of ${asked!.group} for PASID 4`,
    ])
    while (machine.advance());
    expect(write(machine, 0x8abcn, 4)).toBe('done 40006abc')
  })

  it('whatever it asks for: the guest’s own driver looks at that', () => {
    for (const request of [{ pasid: undefined }, { pasid: 0 }, { pasid: maxPasids + 3 }]) {
      const machine = inGuest()
      logged(machine, request)
      expect(allPageRequests(machine)).toMatchObject([{ ...request, to: { kind: 'viommu' } }])
      const [pending] = machine.driver.pendingPageRequests(deviceId)
      expect(answered(machine, machine.driver.respond(deviceId, pending!, 'failure'))).toEqual([
        request.pasid === undefined ? 'failure of 3' : `failure of 3 for PASID ${request.pasid}`,
      ])
    }
  })

  it('under Linux 7.3 in vain: the host answers with a failure, and without the PASID (U13)', () => {
    const machine = inGuest(['U13'])
    expect(write(machine, 0x8000n, 4)).toBe('waiting')
    const taken = machine.driver.takePageRequests(0)
    expect(taken).toMatchObject({ value: { requests: [] } })
    expect(answered(machine, taken)).toEqual(['failure of 0'])
    while (machine.advance());
    expect(endpointOf(machine).pageRequestStatus()).toMatchObject({ enabled: false, responseFailure: true })
  })

  it('U13 takes GN from the host’s domain: identity has none, a guest table has it', () => {
    const onIdentity = withProcess(['U13'])
    logged(onIdentity, {})
    const [asked] = allPageRequests(onIdentity)
    expect(answered(onIdentity, onIdentity.driver.respond(deviceId, asked!, 'success'))).toEqual([
      'success of 3',
    ])
    const onGuestTable = machineWith(['U13'])
    const { driver } = onGuestTable
    onGuestTable.run(driver.attach(deviceId, onGuestTable.run(driver.allocateGuestTable())))
    logged(onGuestTable, { pasid: undefined })
    expect(answered(onGuestTable, driver.takePageRequests(0))).toEqual(['failure of 3 for PASID 0'])
  })
})

it('a fork has requests of its own to answer', () => {
  const machine = withProcess()
  logged(machine, {})
  allPageRequests(machine)
  const before = machine.state()
  const fork = machine.fork()
  fork.run(fork.driver.respond(deviceId, group(4, 3), 'success'))
  expect(machine.state()).toBe(before)
  expect(fork.state()).not.toBe(before)
  machine.run(machine.driver.respond(deviceId, group(4, 3), 'success'))
  expect(machine.state()).toBe(fork.state())
})

describe('an answer is refused', () => {
  it('to a group that nobody was asked for, and to one that was answered', () => {
    const machine = withProcess()
    const { driver } = machine
    expect(machine.refusal(() => driver.respond(deviceId, group(4, 3), 'success'))).toBe(
      'ENOENT no-such-page-request',
    )
    logged(machine, {})
    allPageRequests(machine)
    for (const wrong of [group(4, 2), group(5, 3), group(undefined, 3)]) {
      expect(machine.refusal(() => driver.respond(deviceId, wrong, 'success'))).toBe(
        'ENOENT no-such-page-request',
      )
    }
    machine.run(driver.respond(deviceId, group(4, 3), 'success'))
    expect(machine.refusal(() => driver.respond(deviceId, group(4, 3), 'success'))).toBe(
      'ENOENT no-such-page-request',
    )
  })

  it('to a group whose last request has not come', () => {
    const machine = withProcess()
    logged(machine, { last: false })
    allPageRequests(machine)
    const respond = (): Outcome<undefined> => machine.driver.respond(deviceId, group(4, 3), 'success')
    expect(machine.refusal(respond)).toBe('ENOENT no-such-page-request')
    logged(machine, { address: 0x9000n })
    allPageRequests(machine)
    machine.run(respond())
  })

  it('never to others than the one that is named: they go on waiting', () => {
    const machine = withProcess()
    for (const waiting of [1, 2, 3]) logged(machine, { group: waiting })
    allPageRequests(machine)
    machine.run(machine.driver.respond(deviceId, group(4, 2), 'success'))
    expect(machine.driver.pendingPageRequests(deviceId).map((each) => each.group)).toEqual([1, 3])
    expect(answered(machine, machine.driver.respond(deviceId, group(4, 3), 'success'))).toEqual([
      'success of 3 for PASID 4',
    ])
  })

  it('never to one that has been complete, whatever the device adds to it', () => {
    const machine = withProcess()
    for (const last of [true, false]) logged(machine, { last })
    allPageRequests(machine)
    expect(answered(machine, machine.driver.respond(deviceId, group(4, 3), 'success'))).toHaveLength(1)
  })

  it('to another device’s, and to a device that nobody knows', () => {
    const machine = withProcess([], able(deviceId), able(0x20))
    logged(machine, {})
    allPageRequests(machine)
    const { driver } = machine
    expect(machine.refusal(() => driver.respond(0x20, group(4, 3), 'success'))).toBe(
      'ENOENT no-such-page-request',
    )
    expect(machine.refusal(() => driver.respond(0x77, group(4, 3), 'success'))).toBe('ENODEV no-such-device')
  })
})

describe('a stop marker', () => {
  const marker = { read: false, write: false, group: 0, address: 0n }

  it('is handed on, and nobody waits for an answer', () => {
    for (const machine of [withProcess(), inGuest()]) {
      endpointOf(machine).stopPasid(machine.iommu, 4)
      expect(allPageRequests(machine)).toHaveLength(1)
      expect(machine.driver.pendingPageRequests(deviceId)).toEqual([])
    }
  })

  it('is the last of its group: one that is not waits for the others', () => {
    const machine = withProcess()
    logged(machine, { ...marker, last: false })
    expect(allPageRequests(machine)).toHaveLength(1)
    expect(machine.driver.pendingPageRequests(deviceId)).toHaveLength(1)
  })

  it('of a PASID that has no process any more is not answered', () => {
    const machine = withProcess()
    machine.run(machine.driver.detachPasid([deviceId], 4))
    logged(machine, marker)
    expect(answered(machine, machine.driver.takePageRequests(0))).toEqual([])
  })
})

describe('what is pending when nobody is left who could answer', () => {
  const leavings: readonly (readonly [string, (machine: Machine) => Outcome<unknown>, string[]])[] = [
    ['detach of the PASID', ({ driver }) => driver.detachPasid([deviceId], 4), ['invalid of 3 for PASID 4']],
    ['reset', ({ driver }) => driver.beginReset(deviceId), ['invalid of 3 for PASID 4']],
    ['unplug', ({ driver }) => driver.unplug(deviceId), ['invalid of 3 for PASID 4']],
  ]
  it.each(leavings)('is answered as invalid: %s', (_name, leave, lines) => {
    const machine = withProcess()
    logged(machine, {})
    logged(machine, { group: 4, last: false })
    allPageRequests(machine)
    expect(answered(machine, leave(machine))).toEqual(lines)
    expect(machine.driver.pendingPageRequests(deviceId)).toEqual([])
  })

  it('is answered as invalid: detach of a nested device', () => {
    const machine = inGuest()
    logged(machine, {})
    allPageRequests(machine)
    expect(answered(machine, machine.driver.detach(deviceId))).toEqual(['invalid of 3 for PASID 4'])
  })

  it('is answered before the device’s page requests are turned off', () => {
    const machine = withProcess()
    logged(machine, {})
    allPageRequests(machine)
    const left = machine.driver.beginReset(deviceId)
    if (!left.ok) throw new Error(left.why)
    const order = left.effects.flatMap((effect) =>
      effect.kind === 'feature' && effect.feature === 'pri' ? ['off'] : answers([effect]),
    )
    expect(order).toEqual(['invalid of 3 for PASID 4', 'off'])
  })

  it('of another PASID stays', () => {
    const machine = withProcess()
    const { driver } = machine
    machine.run(driver.attachPasid([deviceId], 5, process))
    for (const pasid of [4, 5]) logged(machine, { pasid })
    allPageRequests(machine)
    expect(answered(machine, driver.detachPasid([deviceId], 4))).toEqual(['invalid of 3 for PASID 4'])
    expect(driver.pendingPageRequests(deviceId)).toMatchObject([{ pasid: 5, group: 3 }])
    expect(answered(machine, driver.respond(deviceId, group(5, 3), 'success'))).toEqual([
      'success of 3 for PASID 5',
    ])
  })

  it('in the log goes to nobody if it is taken while the device is blocked, before another guest has it (I17)', () => {
    const machine = inGuest()
    const { driver } = machine
    logged(machine, {})
    machine.run(driver.detach(deviceId))
    expect(answered(machine, driver.takePageRequests(0))).toEqual(['failure of 3 for PASID 4'])
    machine.run(driver.attach(deviceId, nested))
    expect(allPageRequests(machine)).toEqual([])
  })

  it('stays with a guest that moves its device to other guest tables', () => {
    const machine = inGuest()
    const { driver } = machine
    logged(machine, {})
    allPageRequests(machine)
    const other = machine.run(driver.allocateNested(1, guestEntry(6, { pageRequestsAllowed: true })))
    expect(answered(machine, driver.attach(deviceId, other))).toEqual([])
    expect(answered(machine, driver.respond(deviceId, group(4, 3), 'success'))).toEqual([
      'success of 3 for PASID 4',
    ])
  })
})

describe('a device that floods', () => {
  it('has so many pending and no more; beyond, its groups fail', () => {
    const machine = inGuest()
    for (let index = 0; index < requestsPerDevice + 8; index++) logged(machine, { group: index })
    const taken = machine.driver.takePageRequests(0)
    if (!taken.ok) throw new Error(taken.why)
    expect(taken.value.requests).toHaveLength(requestsPerDevice)
    expect(answers(taken.effects)).toEqual(
      Array.from({ length: 8 }, (_, i) => `failure of ${requestsPerDevice + i} for PASID 4`),
    )
    machine.carryOut(taken.effects)
    machine.run(machine.driver.respond(deviceId, group(4, 0), 'success'))
    logged(machine, { group: 100 })
    expect(allPageRequests(machine)).toHaveLength(1)
  })

  it('with groups that never end has so many requests of them; the end of one fails it', () => {
    const machine = inGuest()
    for (let i = 0; i < requestsPerDevice + 8; i++)
      logged(machine, { last: false, address: BigInt(i) << 12n })
    const taken = machine.driver.takePageRequests(0)
    if (!taken.ok) throw new Error(taken.why)
    expect(taken.value.requests).toHaveLength(requestsPerDevice)
    expect(answered(machine, taken)).toEqual([])
    logged(machine, {})
    expect(answered(machine, machine.driver.takePageRequests(0))).toEqual(['failure of 3 for PASID 4'])
    expect(machine.driver.pendingPageRequests(deviceId)).toEqual([])
  })

  it('does not make the books grow, nor keep others from their pages', () => {
    const flooding = able(deviceId, { misbehaviour: ['floods-page-requests'], seed: 7 })
    const machine = inGuest([], flooding, able(0x20))
    machine.run(machine.driver.attach(0x20, nested))
    const sizes: number[] = []
    for (let round = 0; round < 12; round++) {
      write(machine, 0x7000n, 4)
      endpointOf(machine, 0x20).dma(machine.iommu, { iova: 0x8000n, pasid: 4, write: true })
      for (const { deviceId: id, request, ...asked } of allPageRequests(machine)) {
        if (id === 0x20 && request.lastInGroup)
          machine.run(machine.driver.respond(id, asked, 'invalid-request'))
      }
      while (machine.advance());
      const pending = machine.driver.pendingPageRequests(deviceId)
      sizes.push(pending.reduce((sum, { requests }) => sum + requests, 0))
      expect(machine.driver.pendingPageRequests(0x20)).toEqual([])
    }
    expect(Math.max(...sizes)).toBe(requestsPerDevice)
    expect(endpointOf(machine, 0x20).pageRequestStatus()).toMatchObject({ unexpectedResponse: false })
  })

  it('fills the log, which is restarted', () => {
    const machine = inGuest()
    const outcomes = Array.from({ length: 600 }, (_, i) => logged(machine, { group: i % 512 }))
    expect(outcomes.filter((each) => each === 'logged')).toHaveLength(511)
    allPageRequests(machine)
    expect(logged(machine, { group: 511 })).toBe('logged')
    expect(machine.driver.takePageRequests(0)).toMatchObject({ ok: true })
  })

  it('is answered once for each group that ended, at most, and has at most its share pending', () => {
    const request = fc.record({
      group: fc.nat(3),
      last: fc.boolean(),
      pasid: fc.constantFrom(4, 5),
      answers: fc.boolean(),
    })
    fc.assert(
      fc.property(fc.array(request, { maxLength: 120 }), (all) => {
        const machine = inGuest()
        const { driver } = machine
        for (const { answers: isAnswered, ...asked } of all) {
          logged(machine, asked)
          const taken = driver.takePageRequests(0)
          if (!taken.ok) throw new Error(taken.why)
          machine.carryOut(taken.effects)
          const given = answers(taken.effects)
          expect(given.length + taken.value.requests.length).toBeLessThanOrEqual(1)
          expect(given.length).toBeLessThanOrEqual(asked.last ? 1 : 0)
          const pending = driver.pendingPageRequests(deviceId)
          const requests = pending.reduce((sum, each) => sum + each.requests, 0)
          expect(requests).toBeLessThanOrEqual(requestsPerDevice)
          const complete = pending.filter(({ isComplete }) => isComplete)
          if (isAnswered) for (const each of complete) machine.run(driver.respond(deviceId, each, 'success'))
        }
      }),
      { numRuns: runs(20) },
    )
  })
})

describe('a page request that the device may not make (INVALID_PPR_REQUEST)', () => {
  const refused = (machine: Machine, request: Partial<PageRequest> = {}): void => {
    expect(logged(machine, request)).toBe('refused')
  }

  it('is answered with a failure, as it is in no log of page requests', () => {
    const machine = machineWith()
    refused(machine)
    const taken = machine.driver.takeEvents(0)
    expect(taken).toMatchObject({
      value: { events: [{ event: { kind: 'InvalidPprRequest' }, to: { kind: 'host' } }] },
    })
    const [event] = taken.ok ? taken.value.events : []
    expect((event!.words[0] >> 48n) & 1n).toBe(0n)
    expect(answered(machine, taken)).toEqual(['failure of 3 for PASID 4'])
    refused(machine, { pasid: undefined, group: 9 })
    expect(answered(machine, machine.driver.takeEvents(0))).toEqual(['failure of 9'])
  })

  it('is not answered if the device expects no answer (RX), nor if nobody knows the device', () => {
    const machine = machineWith()
    refused(machine, { last: false })
    refused(machine, { deviceId: 0x77 })
    const taken = machine.driver.takeEvents(0)
    expect(taken).toMatchObject({
      value: { events: [{ to: { kind: 'host' } }, { to: { kind: 'host' }, event: { deviceId: 0x77 } }] },
    })
    expect(answered(machine, taken)).toEqual([])
  })

  it('of a nested device is told to the guest, with RX, for the host has answered', () => {
    const machine = machineWith()
    const entry = guestEntry(5)
    const withoutRequests = machine.run(machine.driver.allocateNested(1, entry))
    machine.run(machine.driver.attach(deviceId, withoutRequests))
    refused(machine)
    const [event] = allEvents(machine)
    expect(event).toMatchObject({ event: { noResponseExpected: true }, to: { kind: 'viommu', viommu: 1 } })
    expect((event!.words[0] >> 48n) & 1n).toBe(1n)
  })
})
