/** A guest's own commands in HWPT_INVALIDATE on its vIOMMU: how many took effect, and what they reach. */
import { gva, iova } from '@nestwalk/bits'
import { deviceId, domainId, encodeCommand, pasid, store64 } from '@nestwalk/hardware'
import type { CommandFields } from '@nestwalk/hardware'
import { describe, expect, it } from 'vitest'
import type { Invalidated } from '../src/backend.js'
import { driverDataArray, userDataArray } from '../src/user-data.js'
import { guestDomainId, guestMemory, guestWith, one, virtualOne } from './amd-guest.js'
import type { Guest } from './amd-guest.js'
import { mapForGuest } from './amd-guest-tables.js'

const bytesOf = (fields: CommandFields): Uint8Array => new Uint8Array(encodeCommand(fields).slice().buffer)

const pages = (id: number = guestDomainId): Uint8Array =>
  bytesOf({
    ...{ kind: 'InvalidateIommuPages', domainId: domainId(id), guestNested: true },
    ...{ address: gva(0x5000n) },
  })

const inDevice = (id: number = virtualOne): Uint8Array =>
  bytesOf({ kind: 'InvalidateIotlbPages', deviceId: deviceId(id), address: iova(0x5000n) })

const wait = bytesOf({ kind: 'CompletionWait' })

const invalidate = ({ rig, viommu }: Guest, ...entries: readonly Uint8Array[]): Invalidated =>
  rig.run(rig.backend.invalidateViommu(viommu, driverDataArray(3, entries)))

const told = ({ handled, refused }: Invalidated): string =>
  `${handled}${refused === undefined ? '' : ` ${refused.errno} ${refused.rule}`}`

/** Where a request of the first device leads, by its own TLB or the IOMMU's. */
function leads({ rig }: Guest): string {
  const answer = rig.endpoints[0]!.dma(rig.iommus[0]!, {
    iova: 0x5000n,
    pasid: undefined,
    write: false,
    pages: 1,
  })
  return answer.kind === 'done' ? answer.address.toString(16) : answer.kind
}

describe('the commands', () => {
  it('reach the IOTLB under the DomainID of the host, and the TLB of the device that the guest means', () => {
    const guest = guestWith()
    expect(leads(guest)).toBe('40006000')
    mapForGuest(guest.rig.memory, guestMemory, 0x5000n, 0x7000n)
    expect(leads(guest)).toBe('40006000')
    // The device would fetch what the IOMMU still has.
    expect(told(invalidate(guest, inDevice()))).toBe('1')
    expect(leads(guest)).toBe('40006000')
    expect(told(invalidate(guest, pages(), inDevice()))).toBe('2')
    expect(leads(guest)).toBe('40007000')
  })

  it('without a page of the DomainID are handled, as there is nothing to do', () => {
    expect(told(invalidate(guestWith(), pages(77)))).toBe('1')
  })
})

describe('the count', () => {
  it.each([
    ['all are good', [pages(), pages(), inDevice()], '3'],
    ['the second is another command', [pages(), wait, pages()], '1 EOPNOTSUPP guest-command-kind'],
    [
      'the third has reserved bits',
      [pages(), pages(), withReservedBit(pages())],
      '2 EINVAL guest-command-reserved-bits',
    ],
    ['the first names no device', [inDevice(0x77), pages()], '0 ENODEV no-such-virtual-device'],
    ['the second has a PASID without GN', [pages(), withoutGn()], '1 EINVAL guest-command-pasid'],
  ])('%s', (_name, entries, expected) => {
    expect(told(invalidate(guestWith(), ...entries))).toBe(expected)
  })

  it('stops at an entry that is not in memory, after those before it took effect', () => {
    const guest = guestWith()
    const bytes = pages()
    const memory = {
      read: (address: bigint, into: Uint8Array) => {
        into.set(bytes)
        return address < 0x1010n
      },
      write: () => false,
    }
    leads(guest)
    mapForGuest(guest.rig.memory, guestMemory, 0x5000n, 0x7000n)
    const array = userDataArray(memory, { type: 3, address: 0x1000n, entryLength: 16, count: 3 })
    const { handled, refused } = guest.rig.run(guest.rig.backend.invalidateViommu(guest.viommu, array))
    expect([handled, refused?.errno]).toEqual([1, 'EFAULT'])
    expect(guest.rig.leads(one, 0x5000n)).toBe('40007000')
  })

  it('is of what came before a bad entry, though a later one is not in memory', () => {
    const guest = guestWith()
    const memory = {
      read: (address: bigint, into: Uint8Array) => {
        into.set(address === 0x1000n ? pages() : wait)
        return address < 0x1020n
      },
      write: () => false,
    }
    const array = userDataArray(memory, { type: 3, address: 0x1000n, entryLength: 16, count: 3 })
    expect(told(guest.rig.run(guest.rig.backend.invalidateViommu(guest.viommu, array)))).toBe(
      '1 EOPNOTSUPP guest-command-kind',
    )
  })
})

describe('the type', () => {
  it('can be asked for with no entries', () => {
    const guest = guestWith()
    const ask = (type: number) => guest.rig.backend.invalidateViommu(guest.viommu, driverDataArray(type, []))
    expect(guest.rig.run(ask(3))).toEqual({ handled: 0 })
    for (const type of [0, 1, 2, 4]) {
      expect(guest.rig.refusal(() => ask(type))).toBe('EINVAL amd-invalidation-type')
    }
  })

  it.each([
    ['another type', 1, 16],
    ['shorter entries', 3, 15],
    ['longer entries', 3, 17],
  ])('%s: nothing is handled', (_name, type, length) => {
    const { rig, viommu } = guestWith()
    const array = driverDataArray(type, [new Uint8Array(length)])
    const { handled, refused } = rig.run(rig.backend.invalidateViommu(viommu, array))
    expect([handled, refused?.errno]).toEqual([0, 'EINVAL'])
  })

  it('takes more commands at once than the ring of the host holds', () => {
    const guest = guestWith()
    expect(told(invalidate(guest, ...Array.from({ length: 1500 }, () => pages())))).toBe('1500')
  })
})

it('a guest whose memory has gone is told nothing wrong: the host walks nothing for it', () => {
  const guest = guestWith()
  store64(guest.rig.memory, guestMemory + 0x10000n, 0n)
  expect(told(invalidate(guest, pages(), inDevice()))).toBe('2')
})

/** A command with bit 31 of the first quad-word, which is reserved in INVALIDATE_IOMMU_PAGES. */
function withReservedBit(bytes: Uint8Array): Uint8Array {
  const changed = bytes.slice()
  new DataView(changed.buffer).setUint8(3, 0x80)
  return changed
}

function withoutGn(): Uint8Array {
  const fields = { domainId: domainId(guestDomainId), pasid: pasid(3), address: gva(0n) }
  return bytesOf({ kind: 'InvalidateIommuPages', ...fields })
}
