/** Events and page requests of guests' devices: whose log, under which names, and what when the log does not take them. */
import { describe, expect, it } from 'vitest'
import { receivePageRequest } from '../src/page-requests.js'
import { register } from './chip.js'
import {
  behind,
  guestDte,
  guestSpa,
  int32s,
  offControl,
  onControl,
  page,
  privateAt,
  ring,
} from './virtual-rig.js'
import { ringOn, vfc, virtualControl, virtualFeatures, VirtualRig, words } from './virtual-rig.js'
import type { Pair, RigOptions } from './virtual-rig.js'

const device = 0x600
const domain = 0x43

/** Guest 3, to which device 06:00.0 belongs as 00:01.0 under DomainID 43h, the guest's 5. */
function rigWithDevice(options: RigOptions = {}): VirtualRig {
  const rig = VirtualRig.create(options)
  rig.addGuest(3)
  rig.setDte(device, [0x6d80000100200803n, 0x000000000ffc0043n, 0n, 0x0000000300088000n])
  rig.mapDomain(3, 5, domain)
  return rig
}

const route = (rig: VirtualRig, event: string): boolean =>
  rig.virtual.routeEvent(rig.slot(device), int32s(event))
const requestOf = (rig: VirtualRig, entry: Pair): string | undefined => {
  const word = (value: bigint, n: bigint): number => Number(BigInt.asIntN(32, value >> (32n * n)))
  const [lo, hi] = entry
  return rig.virtual.routePageRequest(
    rig.slot(device),
    word(lo, 0n),
    word(lo, 1n),
    word(hi, 0n),
    word(hi, 1n),
  )
}

const fault = '00000600 20700043 0000e000 00000001'
const faultOfGuest = words('00000008 20700005 0000e000 00000001')
const guestEventFault = words('00000000 b0000003 00000000 00000000')

describe('an event of a guest’s device', () => {
  it.each([
    ['IO_PAGE_FAULT', fault, '00000008 20700005 0000e000 00000001'],
    [
      'IO_PAGE_FAULT with PASID',
      '00010600 20252345 00003abc 00007f00',
      '00010008 20252345 00003abc 00007f00',
    ],
    ['ILLEGAL_DEV_TABLE_ENTRY', '00000600 10800000 35300000 00000001', '00000008 10800000 35300000 00000001'],
    ['INVALID_DEVICE_REQUEST', '00000600 8a000000 f8000000 fffffffd', '00000008 8a000000 f8000000 fffffffd'],
    ['INVALID_PPR_REQUEST', '00050600 92010123 00003000 00007f00', '00050008 92010123 00003000 00007f00'],
  ])('goes to the guest’s log with the guest’s IDs: %s', (_, event, becomes) => {
    const rig = rigWithDevice()
    expect(route(rig, event)).toBe(true)
    expect(rig.guestEvents(3)).toEqual([words(becomes)])
    expect(rig.hostEvents()).toEqual([])
    expect(rig.page(3, page.status) & 2n).toBe(2n)
    expect(rig.readMmio(register.status) & 2n).toBe(0n)
  })

  it.each([
    ['DEV_TAB_HARDWARE_ERROR', '00000600 32000000 00000200 00000003', '00000008 32000000 00000200 00000003'],
    ['PAGE_TAB_HARDWARE_ERROR', '00000600 44000043 00000000 00000004', '00000008 44000005 00000000 00000004'],
  ])('that names an SPA stays with the host, unless a switch says otherwise: %s', (_, event, becomes) => {
    const rig = rigWithDevice()
    expect(route(rig, event)).toBe(false)
    expect(rig.guestEvents(3)).toEqual([])
    const other = rigWithDevice({ choices: { guestEvents: 'every' } })
    expect(route(other, event)).toBe(true)
    expect(other.guestEvents(3)).toEqual([words(becomes)])
  })

  it('that is not of a request stays with the host', () => {
    const rig = rigWithDevice({ choices: { guestEvents: 'every' } })
    expect(route(rig, '00000600 70000000 00040020 00000001')).toBe(false)
  })

  it('names the lowest of the guest’s domains that is mapped to the host’s, or 0', () => {
    const rig = rigWithDevice()
    rig.mapDomain(3, 0xffff, 0x44)
    rig.mapDomain(3, 4, 0x43)
    rig.mapDomain(3, 0x900, 0x44)
    for (const id of ['0043', '0044', '0045']) route(rig, `00000600 2020${id} 0 0`)
    expect(rig.guestEvents(3).map(([lo]) => (lo >> 32n) & 0xffffn)).toEqual([4n, 0x900n, 0n])
    const other = rigWithDevice({ choices: { guestEventDomain: 'zero' } })
    route(other, fault)
    expect(other.guestEvents(3)).toEqual([words('00000008 20700000 0000e000 00000001')])
  })

  it('names domain 0 if the guest’s map cannot be read, and the host’s log tells', () => {
    const rig = rigWithDevice()
    rig.unmapPrivate(privateAt.domains(3))
    route(rig, fault)
    expect(rig.guestEvents(3)).toEqual([words('00000008 20700000 0000e000 00000001')])
    expect(rig.hostEvents()).toEqual([words('40000002 20000077 00180000 00000020')])
  })

  it('comes out of a request that was refused', () => {
    const rig = rigWithDevice()
    rig.setDte(device, guestDte(3, 8, domain))
    rig.touch(device, 0x5_0000_0000n)
    const event = rig.translator.result.slice(5, 9)
    expect(rig.virtual.routeEvent(rig.slot(device), event)).toBe(true)
    expect(rig.guestEvents(3)).toEqual([words('00000008 20000005 00000000 00000005')])
  })

  it.each<[string, RigOptions]>([
    ['EFR.vIommuSup', { features: { ...virtualFeatures, efr: virtualFeatures.efr & ~(1n << 55n) } }],
    ['Control.vIommuEn', { control: offControl(virtualControl.viommuEn) }],
    ['Control.IommuEn', { control: offControl(1n) }],
  ])('is the host’s without %s', (_, options) => {
    const rig = rigWithDevice(options)
    expect(route(rig, fault)).toBe(false)
    expect(requestOf(rig, [0x1164022300050600n, 0n])).toBeUndefined()
    expect(rig.virtual.deliverGuestEvent(3, 0, 0x20000000, 0, 0)).toBe(false)
  })

  it('is the host’s if the entry has no vImuEn, or if there is no entry', () => {
    const rig = rigWithDevice()
    rig.setDte(device, [0x6d80000100200803n, 0x000000000ffc0043n, 0n, 0x0000000300080000n])
    expect(route(rig, fault)).toBe(false)
    expect(requestOf(rig, [0x1164022300050600n, 0n])).toBeUndefined()
    expect(rig.virtual.routeEvent(-1, int32s(fault))).toBe(false)
    expect(rig.virtual.routeEvent(0, int32s(fault))).toBe(false)
  })

  it('is written to the guest’s own memory with GstBufferTRPMode', () => {
    const rig = rigWithDevice({ control: onControl | virtualControl.guestBuffersNested })
    route(rig, fault)
    expect([rig.load(guestSpa(3, ring.events)), rig.load(guestSpa(3, ring.events) + 8n)]).toEqual(
      faultOfGuest,
    )
    expect(rig.load(behind(privateAt.events(3)))).toBe(0n)
  })

  it('raises the guest’s interrupt if EventIntEn is on', () => {
    const rig = rigWithDevice()
    route(rig, fault)
    expect(rig.virtual.takeGuestInterrupt()).toBeUndefined()
    rig.control(3, vfc.event, ring.events | 0x388n)
    route(rig, fault)
    expect(rig.virtual.takeGuestInterrupt()).toEqual({ guestId: 3, line: 1 })
  })
})

describe('a guest’s log that does not take an event', () => {
  it('because it is off: GUEST_EVENT_FAULT, and INSERT_GUEST_EVENT tries again', () => {
    const rig = rigWithDevice()
    rig.control(3, vfc.event, ring.events | 0x88n)
    expect(route(rig, fault)).toBe(true)
    expect(route(rig, '00000600 20200043 00001000 00000000')).toBe(true)
    expect(rig.hostEvents()).toEqual([guestEventFault, guestEventFault])
    rig.virtual.insertGuestEvent(3)
    expect(rig.hostEvents()).toEqual([guestEventFault])
    rig.control(3, vfc.event, ring.events | ringOn | 0x80n)
    expect(rig.commands.carryOut(0, 0x90000003 | 0, 0, 0, 0, 0)).toBe(0)
    expect(rig.guestEvents(3)).toEqual([faultOfGuest])
    rig.virtual.insertGuestEvent(3)
    rig.virtual.insertGuestEvent(4)
    expect([...rig.guestEvents(3), ...rig.hostEvents()]).toEqual([])
  })

  it('because its length is reserved: the same', () => {
    const rig = rigWithDevice()
    rig.control(3, vfc.event, 0n)
    rig.control(3, vfc.event, ring.events | 0x107n)
    expect(route(rig, fault)).toBe(true)
    expect(rig.hostEvents()).toEqual([guestEventFault])
  })

  it('because the guest was never set up: GUEST_EVENT_FAULT, and nothing is held', () => {
    const rig = VirtualRig.create()
    rig.setDte(device, guestDte(3, 8, domain))
    expect(rig.virtual.routeEvent(rig.slot(device), int32s(fault))).toBe(true)
    expect(rig.hostEvents()).toEqual([guestEventFault])
    expect(rig.virtual.guestIds()).toEqual([])
    expect(requestOf(rig, [0x1164022300050600n, 0n])).toBe('dropped')
  })

  it('because the host’s table does not lead there: the walk’s event, GUEST_EVENT_FAULT, and the event is held', () => {
    const rig = rigWithDevice()
    rig.unmapPrivate(privateAt.events(3))
    expect(route(rig, fault)).toBe(true)
    expect(rig.hostEvents()).toEqual([words('20000002 20200077 00180000 00000040'), guestEventFault])
    rig.mapPrivate(privateAt.events(3), 0x1000n)
    rig.virtual.insertGuestEvent(3)
    expect(rig.guestEvents(3)).toEqual([faultOfGuest])
  })

  it('because no memory answers: VIOMMU_HARDWARE_ERROR, and the event is lost', () => {
    const rig = rigWithDevice()
    rig.losePrivate(privateAt.events(3))
    expect(route(rig, fault)).toBe(true)
    expect(rig.hostEvents()).toEqual([words('00020003 c0000000 00180000 00000040')])
    rig.virtual.insertGuestEvent(3)
    expect([rig.page(3, page.eventTail), rig.hostEvents()]).toEqual([0n, []])
  })
})

describe('a guest’s log that is full', () => {
  const fill = (rig: VirtualRig, count: number): void => {
    for (let n = 0; n < count; n++) rig.virtual.deliverGuestEvent(3, n, 0x20000000, 0, 0)
  }

  it('overflows, stops, and starts again when EventLogEn goes from 0 to 1', () => {
    const rig = rigWithDevice()
    fill(rig, 255)
    expect(rig.page(3, page.status) & 0x9n).toBe(0x8n)
    fill(rig, 1)
    expect(rig.page(3, page.status) & 0x9n).toBe(0x1n)
    fill(rig, 1)
    expect(rig.guestEvents(3)).toHaveLength(255)
    fill(rig, 1)
    expect(rig.guestEvents(3)).toEqual([])
    rig.control(3, vfc.event, ring.events | 0x88n)
    rig.control(3, vfc.event, ring.events | ringOn | 0x80n)
    expect(rig.page(3, page.status) & 0x9n).toBe(0x8n)
    fill(rig, 1)
    expect(rig.guestEvents(3)).toHaveLength(1)
    expect(rig.hostEvents()).toEqual([])
  })

  it('goes on in its other ring if the two take turns, until that is full, too', () => {
    const rig = rigWithDevice()
    rig.control(3, vfc.event, ring.events | ringOn | 0x80n | 0x800n)
    fill(rig, 256)
    expect(rig.page(3, page.status) & 0x18009n).toBe(0x10009n)
    expect(rig.load(behind(privateAt.eventsB(3)))).toBe((0x20000000n << 32n) | 255n)
    fill(rig, 254)
    expect(rig.page(3, page.eventBTail)).toBe(0xff0n)
    fill(rig, 1)
    expect(rig.page(3, page.status) & 0x18009n).toBe(0x18001n)
    rig.setPage(3, page.eventHead, 0xff0n)
    rig.setPage(3, page.eventBHead, 0xff0n)
    rig.setPage(3, page.status, 1n)
    rig.control(3, vfc.event, ring.events | 0x888n)
    rig.control(3, vfc.event, ring.events | 0x988n)
    fill(rig, 256)
    expect(rig.page(3, page.status) & 0x18009n).toBe(0x8008n)
  })

  it('does not go on where the other ring was lost, is full, or has a reserved length', () => {
    const short = rigWithDevice()
    short.control(3, vfc.event, 0n)
    short.control(3, vfc.event, ring.events | ringOn | 0x870n)
    fill(short, 256)
    expect(short.page(3, page.status) & 0x18009n).toBe(0x1n)
    const lost = rigWithDevice()
    lost.control(3, vfc.event, ring.events | ringOn | 0x880n)
    fill(lost, 256)
    lost.setPage(3, page.eventHead, 0x100n)
    fill(lost, 255)
    expect(lost.page(3, page.status) & 0x18009n).toBe(0x18001n)
    const full = rigWithDevice()
    full.control(3, vfc.event, ring.events | 0x888n)
    full.setPage(3, page.eventBTail, 0xff0n)
    full.control(3, vfc.event, ring.events | 0x988n)
    fill(full, 256)
    expect(full.page(3, page.status) & 0x18009n).toBe(0x18001n)
  })

  it('is ring B alone in mode 1; a chip without doubled logs has ring A alone', () => {
    const rig = rigWithDevice()
    rig.control(3, vfc.event, ring.events | ringOn | 0x80n | 0x400n)
    fill(rig, 1)
    expect([rig.page(3, page.eventTail), rig.page(3, page.eventBTail)]).toEqual([0n, 0x10n])
    const efr = virtualFeatures.efr & ~((3n << 28n) | (3n << 24n))
    const single = rigWithDevice({ features: { ...virtualFeatures, efr } })
    single.control(3, vfc.event, ring.events | ringOn | 0x80n | 0x800n)
    fill(single, 256)
    expect(single.page(3, page.status) & 0x18009n).toBe(0x1n)
    single.control(3, vfc.event, ring.events | ringOn | 0x480n)
    expect(single.page(3, page.status) & 0x10000n).toBe(0n)
  })
})

describe('a page request of a guest’s device', () => {
  /** PASID 5, group 23h, last, read and write, user. */
  const asked: Pair = [0x1164022300050600n, 0x7f0000003000n]
  const notLast: Pair = [0x1104042323450600n, 0x7f0000003000n]
  const withoutPasid: Pair = [0x1004020100000600n & ~(1n << 56n), 0x5000n]
  const stopMarker: Pair = [0x1140022300050600n, 0n]
  const pprControl = (ring.ppr << 4n) | ringOn | 0x80n | 0x400n
  const pprs = (rig: VirtualRig): bigint[] => [
    rig.load(behind(privateAt.ppr(3))),
    rig.load(behind(privateAt.ppr(3)) + 8n),
  ]

  it('goes to the guest’s log with the guest’s DeviceID', () => {
    const rig = rigWithDevice()
    rig.control(3, vfc.ppr, pprControl | 0x200n)
    expect(requestOf(rig, asked)).toBe('logged')
    expect(pprs(rig)).toEqual([0x1164022300050008n, 0x7f0000003000n])
    expect(rig.page(3, page.pprTail)).toBe(0x10n)
    expect(rig.page(3, page.status) & 0x40n).toBe(0x40n)
    expect(rig.virtual.takeGuestInterrupt()).toEqual({ guestId: 3, line: 2 })
  })

  it('goes there when the device makes it', () => {
    const rig = rigWithDevice()
    // DTE.I besides.
    rig.setDte(device, [0x6d80000100200803n, 0x000000010ffc0043n, 0n, 0x0000000300088000n])
    const { deviceTable } = rig.translator
    const made = { deviceId: device, pasid: 5, address: 0x7f0000003000n, group: 0x23, last: true }
    const parts = { ...rig.parts, deviceTable, guests: rig.virtual }
    expect(receivePageRequest(parts, { ...made, read: true, write: true })).toBe('logged')
    expect(pprs(rig)).toEqual([0x1164022300050008n, 0x7f0000003000n])
    expect(rig.readMmio(0x2038)).toBe(0n)
  })

  it('goes to the base that stands four bits higher, with GstBufferTRPMode', () => {
    const rig = rigWithDevice({ control: onControl | virtualControl.guestBuffersNested })
    expect(requestOf(rig, asked)).toBe('logged')
    expect(rig.load(guestSpa(3, ring.ppr))).toBe(0x1164022300050008n)
    rig.control(3, vfc.ppr, 0n)
    rig.mapGuest(3, 0x76_5432_1000n)
    rig.control(3, vfc.ppr, (0x76_5432_1000n << 4n) | 0x588n)
    expect(requestOf(rig, asked)).toBe('logged')
    expect(rig.load(guestSpa(3, 0x76_5432_1000n))).toBe(0x1164022300050008n)
  })

  it.each([
    ['PPREn', pprControl & ~0x400n],
    ['PPRLogEn', pprControl & ~0x100n],
  ])('is dropped without %s', (_, control) => {
    const rig = rigWithDevice()
    rig.control(3, vfc.ppr, control)
    expect(requestOf(rig, asked)).toBe('dropped')
    expect([...rig.hostEvents(), ...rig.guestEvents(3)]).toEqual([])
  })

  it('is dropped where the log cannot be written, and the host’s log tells', () => {
    const rig = rigWithDevice()
    rig.losePrivate(privateAt.ppr(3))
    expect(requestOf(rig, asked)).toBe('dropped')
    expect(rig.hostEvents()).toEqual([words('00030003 c0000000 00180000 00000030')])
    rig.unmapPrivate(privateAt.ppr(3))
    expect(requestOf(rig, asked)).toBe('dropped')
    expect(rig.hostEvents()).toEqual([words('20000002 20200077 00180000 00000030')])
  })

  it('is dropped if it is a stop marker that the guest does not want', () => {
    const rig = rigWithDevice()
    expect(requestOf(rig, stopMarker)).toBe('logged')
    rig.control(3, vfc.ppr, pprControl | 0x4000n)
    expect(requestOf(rig, stopMarker)).toBe('dropped')
    expect(requestOf(rig, asked)).toBe('logged')
    const efr = virtualFeatures.efr & ~(1n << 44n)
    const without = rigWithDevice({ features: { ...virtualFeatures, efr } })
    without.control(3, vfc.ppr, pprControl | 0x4000n)
    expect(requestOf(without, stopMarker)).toBe('logged')
  })

  it('is answered by hardware if the guest wants that: always, or when the log is full', () => {
    const rig = rigWithDevice()
    const auto = pprControl | 0x2000n
    rig.setPage(3, page.autoResponse, 0x1n)
    rig.control(3, vfc.ppr, auto | 0x8000n)
    expect(requestOf(rig, asked)).toBe('answered')
    expect(rig.parts.devices.take()).toEqual({
      ...{ kind: 'page-response', deviceId: device, pasid: 5, group: 0x23, response: 1 },
    })
    expect([requestOf(rig, notLast), requestOf(rig, stopMarker)]).toEqual(['dropped', 'dropped'])
    rig.control(3, vfc.ppr, auto)
    for (let n = 0; n < 255; n++) expect(requestOf(rig, asked)).toBe('logged')
    expect(requestOf(rig, asked)).toBe('answered')
    expect(rig.page(3, page.status) & 0xa0n).toBe(0x20n)
    rig.setPage(3, page.autoResponse, 0x1fn)
    expect(requestOf(rig, asked)).toBe('answered')
    expect(requestOf(rig, withoutPasid)).toBe('answered')
    rig.setPage(3, page.autoResponse, 0n)
    expect(requestOf(rig, withoutPasid)).toBe('answered')
    const answers = Array.from({ length: 4 }, () => rig.parts.devices.take())
    expect(answers.map((each) => each?.pasid)).toEqual([5, undefined, undefined, undefined])
    expect(requestOf(rig, notLast)).toBe('dropped')
    for (let n = 0; n < 64; n++) expect(requestOf(rig, asked)).toBe('answered')
    expect(requestOf(rig, asked)).toBe('dropped')
  })

  it('is not answered by hardware while two logs take turns, nor by a chip that cannot', () => {
    const rig = rigWithDevice()
    rig.control(3, vfc.ppr, pprControl | 0xb000n)
    for (let n = 0; n < 256; n++) expect(requestOf(rig, asked)).toBe('logged')
    expect(rig.page(3, page.status) & 0x1820n).toBe(0x1020n)
    expect(rig.load(behind(privateAt.pprB(3)))).toBe(0x1164022300050008n)
    const efr = virtualFeatures.efr & ~(1n << 41n)
    const without = rigWithDevice({ features: { ...virtualFeatures, efr } })
    without.control(3, vfc.ppr, pprControl | 0xa000n)
    expect(requestOf(without, asked)).toBe('logged')
  })
})
