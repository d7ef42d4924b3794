/** Through which tables a translation request goes, and what an answer owes to earlier ones. */
import { describe, expect, it } from 'vitest'
import type { AtsAnswer } from '../src/index.js'
import { controlBit, quietControl } from './chip.js'
import type { Chip, ChipOptions } from './chip.js'
import { guestEntryAt, guestPages, hostEntryAt, hostPages, nestedChip, nestedDte } from './tables.js'

const device = 5
const iotlb = 1n << 32n
const bit = { giov: 1n << 54n, gv: 1n << 55n, hostMarks: 3n << 7n } as const
const mode = 0xe00n
const leaf = { write: 1n << 62n, untranslated: 1n << 59n } as const
/** Where the host's pages lie. */
const host = 0x200000000n

/** The nested device of `tables.ts`, which may ask; bits of quad-word 0 set and cleared. */
function chipOf(set = 0n, cleared = 0n, options: ChipOptions = {}): Chip {
  const chip = nestedChip([device], options)
  const [q0 = 0n, q1 = 0n] = nestedDte(device)
  chip.setDte(device, [(q0 & ~cleared) | set, q1 | iotlb, 0n, 0n])
  return chip
}

/** The guest's tables again, where a chip without host table looks for them. */
function withoutHost(chip: Chip): Chip {
  for (let gpa = 0x10000n; gpa < 0x30000n; gpa += 8n) chip.put([gpa, chip.load(host + gpa) ?? 0n])
  return chip
}

/** A GPA that the host maps, and no guest does; and an address that guests map, and the host does not. */
const hostAddress = 0x12345n
const guestAddress = guestPages + 0x2345n
const places = { host: host + hostAddress, nested: host + hostPages + 0x2345n, guest: hostPages + 0x2345n }

const nothing = { spa: 0n, sizeLog2: 12, readable: false, writable: false, executable: false, from: 'walk' }

const granted = (spa: bigint): object => ({ spa, readable: true, writable: true })

describe('a translation request is answered from the tables that Mode, GV, GIoV and its PASID choose', () => {
  it.each([
    ['Mode 3, GV=0', undefined, 'host', () => chipOf(0n, bit.gv)],
    ['Mode 3, GV=0, whatever GIoV', undefined, 'host', () => chipOf(bit.giov, bit.gv)],
    ['Mode 3, GV=1, GIoV=0', undefined, 'host', () => chipOf()],
    ['Mode 3, GV=1, GIoV=1', undefined, 'nested', () => chipOf(bit.giov)],
    ['Mode 3, GV=1, GIoV=0', 5, 'nested', () => chipOf()],
    ['Mode 3, GV=1, GIoV=1', 5, 'nested', () => chipOf(bit.giov)],
    ['Mode 3, GV=1, GIoV=0', 0, 'nested', () => chipOf()],
    ['Mode 0, GV=1, GIoV=1', undefined, 'guest', () => withoutHost(chipOf(bit.giov, mode))],
    ['Mode 0, GV=1, GIoV=0', 5, 'guest', () => withoutHost(chipOf(0n, mode))],
    ['Mode 0, GV=1, GIoV=0', 0, 'guest', () => withoutHost(chipOf(0n, mode))],
  ] as const)('%s, PASID %s: %s', (_, pasid, tables, make) => {
    const chip = make()
    const ask = (iova: bigint): AtsAnswer => chip.iommu.translationRequest({ deviceId: device, pasid, iova })
    expect(ask(hostAddress)).toMatchObject(tables === 'host' ? granted(places.host) : nothing)
    expect(ask(guestAddress)).toMatchObject(tables === 'host' ? nothing : granted(places[tables]))
  })

  it('under GIoV from those of its own PASID, not of PASID 0', () => {
    const chip = chipOf(bit.giov)
    // The first page of PASID 5 lies elsewhere.
    chip.put([guestEntryAt(1, 0n), (hostPages + 0x5000n) | 7n])
    const spaOf = (pasid?: number): unknown =>
      chip.iommu.translationRequest({ deviceId: device, pasid, iova: guestPages })
    expect(spaOf()).toMatchObject({ spa: host + hostPages })
    expect(spaOf(0)).toMatchObject({ spa: host + hostPages })
    expect(spaOf(5)).toMatchObject({ spa: host + hostPages + 0x5000n })
  })

  it('under GIoV with the privilege that PASID 0 brings, where it is brought', () => {
    const chip = chipOf(bit.giov)
    chip.put([guestEntryAt(0, 0n), hostPages | 3n])
    const asked = { deviceId: device, iova: guestPages, supervisor: true }
    expect(chip.iommu.translationRequest({ ...asked, pasid: 0 })).toMatchObject(granted(host + hostPages))
    const untagged = chip.iommu.translationRequest(asked)
    expect(untagged).toMatchObject({ readable: false, writable: false })
  })

  it.each([0, 5])('with GV=0 from none for PASID %s; by choice as one without PASID', (pasid) => {
    const asked = { deviceId: device, pasid, iova: hostAddress }
    expect(chipOf(0n, bit.gv).iommu.translationRequest(asked)).toMatchObject(nothing)
    const switches = { pasidWithoutGuestTables: 'ignore-pasid' } as const
    for (const giov of [0n, bit.giov]) {
      const chip = chipOf(giov, bit.gv, { switches })
      expect(chip.iommu.translationRequest(asked)).toMatchObject(granted(places.host))
    }
    const identity = chipOf(0n, bit.gv | mode, { switches })
    expect(identity.iommu.translationRequest(asked)).toMatchObject({
      ...granted(hostAddress),
      ...{ from: 'identity', sizeLog2: 64 },
    })
  })
})

describe('U and N of a page of the guest', () => {
  it('are those of its host leaf', () => {
    for (const [bits, untranslatedOnly, noSnoop] of [
      [0n, false, true],
      [leaf.untranslated, true, true],
      [1n << 60n, false, false],
    ] as const) {
      const chip = chipOf()
      const [q0 = 0n, q1 = 0n] = nestedDte(device)
      chip.setDte(device, [q0, q1 | iotlb | (1n << 38n), 0n, 0n])
      const at = hostEntryAt(hostPages)
      chip.put([at, chip.load(at)! | bits])
      for (let times = 0; times < 2; times++) {
        const answer = chip.iommu.translationRequest({ deviceId: device, pasid: 5, iova: guestPages })
        expect(answer).toMatchObject({ ...granted(host + hostPages), untranslatedOnly, noSnoop })
      }
    }
  })
})

describe('an answer that grants nothing', () => {
  it('tells nothing of the page that was answered before', () => {
    const chip = chipOf()
    const at = hostEntryAt(0x12000n)
    chip.put([at, chip.load(at)! | leaf.untranslated])
    const first = chip.iommu.translationRequest({ deviceId: device, iova: hostAddress })
    expect(first).toMatchObject({ ...granted(places.host), untranslatedOnly: true })
    const second = chip.iommu.translationRequest({ deviceId: device, iova: guestAddress })
    expect(second).toMatchObject({ ...nothing, untranslatedOnly: false })
    chip.setDte(6, [0x6000000000000003n, 6n | iotlb, 0n, 0n])
    const identity = chip.iommu.translationRequest({ deviceId: 6, iova: hostAddress })
    expect(identity).toMatchObject({ sizeLog2: 64, from: 'identity' })
    const third = chip.iommu.translationRequest({ deviceId: 6, pasid: 5, iova: hostAddress })
    expect(third).toMatchObject({ ...nothing, untranslatedOnly: false })
  })

  it('stays so when the page of a supervisor becomes one that may be written', () => {
    const chip = chipOf()
    const at = guestEntryAt(1, 0n)
    const asked = { deviceId: device, pasid: 5, iova: guestPages, write: true }
    chip.put([at, hostPages | 1n])
    expect(chip.iommu.translationRequest(asked)).toMatchObject({ readable: false, writable: false })
    chip.put([at, hostPages | 3n])
    expect(chip.iommu.translationRequest(asked)).toMatchObject({ readable: false, writable: false })
  })
})

describe('what is filed without the right to write', () => {
  it('answers a request that does not ask for it', () => {
    const chip = chipOf()
    const at = hostEntryAt(0x12000n)
    const writable = chip.load(at)!
    chip.put([at, writable & ~leaf.write])
    const asked = { deviceId: device, iova: hostAddress }
    expect(chip.iommu.translationRequest(asked)).toMatchObject({ writable: false, from: 'walk', reads: 3 })
    chip.put([at, writable])
    expect(chip.iommu.translationRequest(asked)).toMatchObject({ writable: false, from: 'iotlb', reads: 0 })
    const writing = chip.iommu.translationRequest({ ...asked, write: true })
    expect(writing).toMatchObject({ writable: true, from: 'walk', reads: 3 })
  })
})

describe('the walk that sets D', () => {
  const marking = (): Chip => chipOf(bit.hostMarks, 0n, { control: quietControl | controlBit.hostDirty })
  const asked = { deviceId: device, iova: hostAddress }

  it('counts with the one before it', () => {
    expect(marking().iommu.translationRequest(asked)).toMatchObject({
      ...{ writable: true, from: 'walk', reads: 6 },
    })
  })

  it('is where an answer comes from that the IOTLB could not give alone', () => {
    const chip = marking()
    chip.iommu.request(asked)
    const walked = { writable: true, from: 'walk', reads: 3 }
    expect(chip.iommu.translationRequest(asked)).toMatchObject(walked)
    expect(chip.iommu.translationRequest(asked)).toMatchObject({ writable: true, from: 'iotlb', reads: 0 })
  })
})
