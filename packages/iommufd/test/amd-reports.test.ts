/** What IOMMUs have logged, for user space: events as the guest knows its devices, page requests, and the answers. */
import { readStruct, u64Array } from '@nestwalk/bits'
import { decodeDte, decodeEvent, deviceId, encodeEvent, registers, store64 } from '@nestwalk/hardware'
import type { DomainId, Event, PageRequest } from '@nestwalk/hardware'
import { viommuMapLinux73 } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import type { Report } from '../src/backend.js'
import { noData } from '../src/user-data.js'
import { guestDomainId, guestWith, one, two, virtualOne, virtualTwo } from './amd-guest.js'
import type { Guest } from './amd-guest.js'
import { AmdRig } from './amd-rig.js'

type EventReport = Extract<Report, { kind: 'event' }>

const take = (rig: AmdRig): readonly Report[] => rig.run(rig.backend.takeReports())

const wordsOf = ({ bytes }: EventReport): BigUint64Array =>
  readStruct({ name: 'event', byteLength: 16, fields: { words: u64Array(0, 2) } }, bytes).words

/** The events of the reports, decoded. */
function eventsOf(reports: readonly Report[]): Event[] {
  return reports.map((report) => {
    if (report.kind !== 'event') throw new Error('a page request')
    expect(report.bytes.length).toBe(16)
    return decodeEvent(wordsOf(report)) as Event
  })
}

describe('an event of a guest device', () => {
  it('goes to the event queue of type 3 of its vIOMMU, with the DeviceID that the guest knows', () => {
    const { rig, viommu } = guestWith()
    expect(rig.leads(one, 0x9000n)).toBe('fault')
    expect(rig.leads(two, 0xa000n)).toBe('fault')
    const reports = take(rig)
    expect(reports).toMatchObject([
      { kind: 'event', viommu, type: 3 },
      { kind: 'event', viommu, type: 3 },
    ])
    expect(eventsOf(reports)).toMatchObject([
      { kind: 'GuestIoPageFault', deviceId: virtualOne, address: 0x9000n, pasid: 0 },
      { kind: 'GuestIoPageFault', deviceId: virtualTwo, address: 0xa000n, pasid: 0 },
    ])
    expect(take(rig)).toEqual([])
  })

  it('that names a PASID keeps it', () => {
    const { rig } = guestWith()
    expect(rig.leads(one, 0x9000n, 7)).toBe('fault')
    expect(eventsOf(take(rig))).toMatchObject([{ deviceId: virtualOne, pasid: 7 }])
  })

  it('that names a DomainID has the one of the guest', () => {
    const guest = guestWith()
    const { rig } = guest
    report(guest, encodeEvent({ kind: 'IoPageFault', deviceId: deviceId(one), domainId: hostId(guest) }))
    const [event] = eventsOf(take(rig))
    expect(event).toMatchObject({ kind: 'IoPageFault', deviceId: virtualOne, domainId: guestDomainId })
    expect(hostId(guest)).not.toBe(guestDomainId)
  })

  it('of which the guest has no name goes to the host alone', () => {
    const { rig, viommu } = guestWith()
    rig.run(rig.backend.removeVdevice(viommu, rig.device(one), BigInt(virtualOne)))
    rig.leads(one, 0x9000n)
    const taken = rig.run(rig.backend.takeLogs())
    expect(taken.reports).toEqual([])
    expect(taken.hostEvents).toMatchObject([{ event: { kind: 'GuestIoPageFault', deviceId: one } }])
  })

  it('that was announced and is not there yet is waited for', () => {
    const guest = guestWith()
    report(guest, BigUint64Array.of(0n, 0n))
    expect(guest.rig.run(guest.rig.backend.takeLogs())).toMatchObject({ reports: [], isIncomplete: true })
  })

  it('goes to no guest by the driver of Linux 7.3', () => {
    const { rig } = guestWith({ policy: viommuMapLinux73 })
    rig.leads(one, 0x9000n)
    const taken = rig.run(rig.backend.takeLogs())
    expect(taken.reports).toEqual([])
    expect(taken.hostEvents).toHaveLength(1)
  })
})

it('events of all IOMMUs are taken, those of the host apart', () => {
  const rig = AmdRig.create({ iommus: 2 })
  rig.run(rig.driver.probe(one, 1, 0))
  rig.run(rig.driver.probe(two, 2, 1))
  for (const deviceIds of [one, two]) rig.leads(deviceIds, 0x9000n)
  const { number } = rig.run(rig.backend.allocatePaging(rig.device(one), { flags: 0, data: noData }))
  rig.run(rig.backend.attach([one, two], 0, number, undefined))
  for (const deviceIds of [one, two]) rig.leads(deviceIds, 0x9000n)
  const taken = rig.run(rig.backend.takeLogs())
  expect(taken.reports).toEqual([])
  expect(taken.hostEvents.map(({ event }) => 'deviceId' in event && event.deviceId)).toEqual([
    ...[one, one, two, two],
  ])
})

describe('a page request', () => {
  const asked = (guest: Guest, request: Partial<PageRequest>): void => {
    const plain = { deviceId: one, pasid: 4, address: 0x8000n, group: 3, last: true }
    expect(guest.rig.iommus[0]!.pageRequest({ ...plain, ...request })).toBe('logged')
  }

  it('names the device, the group and what is asked for', () => {
    const guest = guestWith()
    asked(guest, { read: true, supervisor: true, last: false })
    asked(guest, { read: true, write: true, address: 0x9000n })
    const fault = { pasid: 4, group: 3 }
    expect(take(guest.rig)).toEqual([
      {
        ...{ kind: 'fault', deviceId: one },
        fault: { ...fault, isLast: false, permissions: 9, address: 0x8000n },
      },
      {
        ...{ kind: 'fault', deviceId: one },
        fault: { ...fault, isLast: true, permissions: 3, address: 0x9000n },
      },
    ])
  })

  it('for execution says so; without PASID has none', () => {
    const guest = guestWith()
    asked(guest, { read: true, execute: true })
    asked(guest, { read: true, pasid: undefined })
    expect(take(guest.rig)).toMatchObject([
      { fault: { pasid: 4, permissions: 5 } },
      { fault: { pasid: undefined, group: 3 } },
    ])
  })

  it('that only says that no more come is none', () => {
    const guest = guestWith()
    asked(guest, {})
    expect(take(guest.rig)).toEqual([])
  })

  it('is answered to the device that asks', () => {
    const guest = guestWith()
    const { rig } = guest
    const [endpoint] = rig.endpoints
    const dma = () => endpoint!.dma(rig.iommus[0]!, { iova: 0x8000n, pasid: 4, write: true, pages: 1 }).kind
    expect(dma()).toBe('waiting')
    const [report] = take(rig)
    if (report?.kind !== 'fault') throw new Error('no page request')
    const { pasid, group } = report.fault
    rig.run(rig.backend.respond(rig.device(one), { pasid, group, code: 'invalid' }))
    while (rig.advance());
    expect(dma()).toBe('denied')
    expect(endpoint!.pageRequestStatus()).toMatchObject({ unexpectedResponse: false, responseFailure: false })
  })

  it('is answered by the driver when its device leaves, and a late answer does no harm', () => {
    const guest = guestWith()
    const { rig } = guest
    const [endpoint] = rig.endpoints
    endpoint!.dma(rig.iommus[0]!, { iova: 0x8000n, pasid: 4, write: true, pages: 1 })
    const [report] = take(rig)
    if (report?.kind !== 'fault') throw new Error('no page request')
    const { pasid, group } = report.fault
    const left = rig.backend.detach([one], 0)
    expect(left.ok && left.effects.filter(isAnswer)).toHaveLength(1)
    rig.run(left)
    const late = rig.backend.respond(rig.device(one), { pasid, group, code: 'invalid' })
    expect(late).toEqual({ ok: true, value: undefined, effects: [] })
  })
})

const isAnswer = (effect: { readonly kind: string; readonly command?: { readonly kind: string } }): boolean =>
  effect.kind === 'command' && effect.command?.kind === 'CompletePprRequest'

/** The DomainID in the entry of the first device. */
const hostId = ({ rig }: Guest): DomainId => decodeDte(BigUint64Array.from(rig.entry(one))).domainId

/** Puts an event into the log, in the place of one that the chip has just written. */
function report({ rig }: Guest, words: BigUint64Array): void {
  const [iommu] = rig.iommus
  iommu!.request({ deviceId: 0x77, iova: 0n })
  const base = iommu!.readMmio(registers.eventLogBase.offset, 8) & 0xf_ffff_ffff_f000n
  const at = base + iommu!.readMmio(registers.eventTail.offset, 8) - 16n
  words.forEach((word, i) => store64(rig.memory, at + BigInt(i * 8), word))
}
