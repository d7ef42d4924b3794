/** A guest's life through the calls of iommufd on AMD: as Linux 7.3 has it, and with the extensions. */
import {
  decodeEvent,
  deviceId,
  domainId,
  encodeCommand,
  encodeDte,
  load64,
  pasid,
  store64,
} from '@nestwalk/hardware'
import type { CommandFields, EndpointOptions } from '@nestwalk/hardware'
import { gva, spa } from '@nestwalk/bits'
import { describe, expect, it } from 'vitest'
import { guestCommandArray, guestEntryData, hwptFlags, Iommufd } from '../src/index.js'
import type { Context, ObjectId } from '../src/index.js'
import { driverData } from '../src/user-data.js'
import { guestGcr3, mapForGuest } from './amd-guest-tables.js'
import { AmdRig, featuresBut } from './amd-rig.js'
import type { RigOptions } from './amd-rig.js'

const [hostId, virtualId] = [0x18, 0x08]
const guestMemory = 0x4000_0000n
const pasids = 16

const endpoint: EndpointOptions = {
  ...{ deviceId: hostId, pasids, atc: { capacity: 16 }, ats: false, pri: false },
  outstandingPageRequests: 32,
}

/** A device that is bound, and an IOAS. */
function bound(options: RigOptions = {}) {
  const rig = AmdRig.create({ endpoints: [endpoint], ...options })
  rig.run(rig.driver.probe(hostId, 1, 0, { atsQueueDepth: 8, maxPasids: pasids, pageRequests: true }))
  const iommufd = Iommufd.create(rig.backend)
  const context = iommufd.open()
  const device = rig.run(context.bind(hostId))
  const ioas = rig.run(context.ioasAlloc())
  return { rig, iommufd, context, device, ioas }
}

const map = (context: Context, ioas: ObjectId, iova: bigint, memory: bigint, length: bigint) =>
  context.ioasMap({ ioas, iova, memory: spa(memory), length, readable: true, writeable: true })

describe('Linux 7.3', () => {
  it('makes a vIOMMU and a vDEVICE, and nothing can be done with them', () => {
    const { rig, context, device, ioas } = bound()
    const parent = rig.run(context.hwptAlloc({ device, pageTable: ioas, flags: hwptFlags.nestParent }))
    const viommu = rig.run(context.viommuAlloc({ device, parent, type: 1 }))
    rig.run(context.vdeviceAlloc(viommu, device, 1n << 40n))
    const entry = guestEntryData([0n, 0n, 0n, 0n])
    const answers = [
      context.hwptAlloc({ device, pageTable: viommu, data: entry }),
      context.hwptAlloc({ device, pageTable: parent, data: entry }),
      context.hwQueueAlloc({ viommu, type: 3, index: 0, iova: 0n, length: 4096n }),
    ]
    expect(answers.map((each) => (each.ok ? 'accepted' : each.errno))).toEqual(Array(3).fill('EOPNOTSUPP'))
    const done = context.invalidate(viommu, guestCommandArray([[0n, 0n]]))
    expect(done.ok ? [done.value.handled, done.value.refused?.errno] : [0, done.errno]).toEqual([
      0,
      'EOPNOTSUPP',
    ])
  })

  it('has HWPTs for PASIDs, but puts none behind one', () => {
    const { rig, context, device, ioas } = bound()
    const flags = hwptFlags.pasid
    const hwpt = rig.run(context.hwptAlloc({ device, pageTable: ioas, flags }))
    rig.run(context.attach(device, hwpt))
    expect(rig.refusal(() => context.attach(device, hwpt, 3))).toBe('EOPNOTSUPP amd-pasid-attach')
  })
})

describe('the addresses of an IOAS', () => {
  it('have holes for interrupts and HyperTransport while a device is attached', () => {
    const { rig, context, device, ioas } = bound()
    rig.run(context.attach(device, ioas))
    expect(rig.run(context.ioasRanges(ioas))).toEqual({
      alignment: 4096n,
      ranges: [
        { first: 0n, last: 0xfedf_ffffn },
        { first: 0xfef0_0000n, last: 0xfc_ffff_ffffn },
        { first: 0x100_0000_0000n, last: (1n << 64n) - 1n },
      ],
    })
    expect(map(context, ioas, 0xfee0_0000n, 0x9000n, 0x1000n)).toMatchObject({ ok: false, errno: 'EINVAL' })
    rig.run(context.detach(device))
    rig.run(map(context, ioas, 0xfee0_0000n, 0x9000n, 0x1000n))
    expect(context.attach(device, ioas)).toMatchObject({ ok: false, errno: 'EADDRINUSE' })
  })

  it('have none for HyperTransport where the IOMMU ignores it', () => {
    const { rig, context, device, ioas } = bound({ features: featuresBut({ efr2: 8n | (1n << 11n) }) })
    rig.run(context.attach(device, ioas))
    rig.run(map(context, ioas, 0xfd_0000_0000n, 0x9000n, 0x1000n))
    expect(rig.leads(hostId, 0xfd_0000_0000n)).toBe('9000')
  })

  it('end where the table ends', () => {
    const { rig, context, device, ioas } = bound()
    rig.run(context.hwptAlloc({ device, pageTable: ioas, flags: hwptFlags.pasid }))
    const { ranges } = rig.run(context.ioasRanges(ioas))
    expect(ranges).toEqual([{ first: 0n, last: (1n << 56n) - 1n }])
    expect(map(context, ioas, 1n << 56n, 0x9000n, 0x1000n)).toMatchObject({ ok: false, errno: 'EINVAL' })
  })
})

/** A guest with the device nested, whose tables map 0x5000 to guest physical 0x6000 for PASID 4. */
function guest() {
  const made = bound({ extensions: true })
  const { rig, context, device, ioas } = made
  const { nestParent, dirtyTracking, faultIdValid } = hwptFlags
  const flags = nestParent | dirtyTracking
  rig.run(map(context, ioas, 0n, guestMemory, 0x10_0000n))
  const parent = rig.run(context.hwptAlloc({ device, pageTable: ioas, flags }))
  const answer = new Uint8Array(16)
  const viommu = rig.run(context.viommuAlloc({ device, parent, type: 3, data: driverData(3, answer) }))
  rig.run(context.vdeviceAlloc(viommu, device, BigInt(virtualId)))
  mapForGuest(rig.memory, guestMemory, 0x5000n, 0x6000n, 4)
  const entry = encodeDte({
    ...{ valid: true, translationValid: true, guestValid: true, guestIoValid: true },
    ...{ gcr3Root: guestGcr3, domainId: domainId(5), pageRequestsAllowed: true },
  })
  const faults = rig.run(context.faultQueueAlloc())
  const data = guestEntryData([...entry])
  const request = { device, pageTable: viommu, data, flags: faultIdValid, faultQueue: faults }
  const nested = rig.run(context.hwptAlloc(request))
  rig.run(context.attach(device, nested))
  const deliver = (): void => rig.run(made.iommufd.deliverReports())
  const dma = (address: bigint): string => {
    const asked = { iova: address, pasid: 4, write: true, pages: 1 }
    const done = rig.endpoints[0]!.dma(rig.iommus[0]!, asked)
    return done.kind === 'done' ? done.address.toString(16) : done.kind
  }
  return { ...made, parent, viommu, nested, faults, answer, deliver, dma }
}

describe('with the extensions', () => {
  it('a guest invalidates by its own commands', () => {
    const { rig, context, viommu, dma } = guest()
    expect(dma(0x5000n)).toBe('40006000')
    mapForGuest(rig.memory, guestMemory, 0x5000n, 0x7000n, 4)
    const command = (fields: CommandFields): readonly [bigint, bigint] => {
      const [low, high] = encodeCommand(fields)
      return [low!, high!]
    }
    const page = { address: gva(0x5000n), guestNested: true, pasid: pasid(4) }
    const requests = guestCommandArray([
      command({ kind: 'InvalidateIommuPages', domainId: domainId(5), ...page }),
      command({ kind: 'InvalidateIotlbPages', deviceId: deviceId(virtualId), ...page }),
      command({ kind: 'CompletionWait' }),
    ])
    expect(rig.run(context.invalidate(viommu, requests))).toMatchObject({
      ...{ handled: 2, refused: { errno: 'EOPNOTSUPP' } },
    })
    expect(dma(0x5000n)).toBe('40007000')
  })

  it('a guest hears of its events', () => {
    const { rig, context, viommu, deliver } = guest()
    const queue = rig.run(context.veventqAlloc(viommu, 3, 8))
    rig.leads(hostId, 0x9000n, 4)
    deliver()
    const bytes = rig.run(context.readEvents(queue, 128n))
    expect(bytes.length).toBe(24)
    expect([...bytes.subarray(0, 8)]).toEqual(Array(8).fill(0))
    const event = decodeEvent(new BigUint64Array(bytes.slice(8).buffer))
    expect(event).toMatchObject({ kind: 'GuestIoPageFault', deviceId: virtualId, pasid: 4, address: 0x9000n })
  })

  it('a guest is asked for a page, and the device goes on once it is there', () => {
    const { rig, context, device, faults, deliver, dma } = guest()
    expect(dma(0x8000n)).toBe('waiting')
    deliver()
    const bytes = rig.run(context.readFaults(faults, 40n))
    const view = new DataView(bytes.buffer, bytes.byteOffset)
    expect([0, 4, 8].map((at) => view.getUint32(at, true))).toEqual([3, device, 4])
    expect(view.getBigUint64(24, true)).toBe(0x8000n)
    mapForGuest(rig.memory, guestMemory, 0x8000n, 0x9000n, 4)
    const response = new Uint8Array(8)
    new DataView(response.buffer).setUint32(0, view.getUint32(36, true), true)
    expect(rig.run(context.answerFaults(faults, response))).toBe(8)
    while (rig.advance());
    expect(dma(0x8000n)).toBe('40009000')
  })

  it('a device that leaves is answered, and the host has nothing more to say', () => {
    const { rig, context, device, faults, deliver, dma } = guest()
    dma(0x8000n)
    deliver()
    rig.run(context.detach(device))
    expect(rig.run(context.readFaults(faults, 40n))).toHaveLength(0)
    expect(rig.driver.pendingPageRequests(hostId)).toEqual([])
  })

  it('what a nested device writes is in the dirty bitmap of the parent', () => {
    const { rig, context, parent, dma } = guest()
    rig.run(context.setDirtyTracking(parent, true))
    dma(0x5000n)
    const bitmap = new Uint8Array(2)
    const memory = {
      read: (address: bigint, into: Uint8Array) => {
        into.set(bitmap.subarray(Number(address), Number(address) + into.length))
        return true
      },
      write: (address: bigint, from: Uint8Array) => {
        bitmap.set(from, Number(address))
        return true
      },
    }
    const request = { hwpt: parent, iova: 0n, length: 0x1_0000n, pageSize: 0x1000n, clears: true }
    rig.run(context.readDirtyBitmap(request, memory))
    // The page at 0 is of 1 MiB, as the memory is contiguous: it is dirty as a whole.
    expect([...bitmap]).toEqual([0xff, 0xff])
  })

  it('a guest queues commands in its memory, which stays there', () => {
    const { rig, context, viommu, ioas, answer, deliver } = guest()
    const queue = rig.run(context.hwQueueAlloc({ viommu, type: 3, index: 0, iova: 0x2_0000n, length: 4096n }))
    const offset = new DataView(answer.buffer).getBigUint64(0, true)
    const shared = { length: 4096n, protection: 3, flags: 1, offset }
    const mapped = context.regions.find(shared)
    if (!('region' in mapped)) throw new Error(mapped.why)
    const [low, high] = encodeCommand({
      ...{ kind: 'CompletionWait', store: true, storeAddress: spa(0x3_0000n), storeData: 77n },
    })
    store64(rig.memory, guestMemory + 0x2_0000n, low!)
    store64(rig.memory, guestMemory + 0x2_0008n, high!)
    new DataView(mapped.region.bytes.buffer).setBigUint64(8, 16n, true)
    deliver()
    expect(load64(rig.memory, guestMemory + 0x3_0000n)).toBe(77n)
    expect(context.ioasUnmap(ioas, 0n, 0x10_0000n)).toMatchObject({ ok: false, errno: 'EBUSY' })
    expect(context.destroy(viommu)).toMatchObject({ ok: false, errno: 'EBUSY' })
    rig.run(context.destroy(queue))
    rig.run(context.close())
    expect(rig.backend.snapshot()).toEqual([])
  })
})
