/** Special ranges for which the device table entry is read: what is wrong with it, and who changes it. */
import { describe, expect, it } from 'vitest'
import type { Translation } from '../src/index.js'
import { bit, fullChip, passing } from './rig-chip.js'
import type { Chip } from './rig-chip.js'
import type { ChipOptions } from './chip.js'
import { place } from './chip.js'

const device = 0x600
const domain = 0x42n
const port = 0xfdfc000000n
const management = 0xfdf9100000n
/** DTE q1 with IoCtl, and with SysMgt. */
const ioCtl = (value: bigint): bigint => domain | (value << 35n)
const sysMgt = (value: bigint): bigint => domain | (value << 40n)

function chipOf(dte: readonly bigint[], options: ChipOptions = {}): Chip {
  const chip = fullChip(0n, options)
  chip.setDte(device, dte)
  return chip
}

const write = (chip: Chip, iova: bigint): Translation =>
  chip.iommu.request({ deviceId: device, iova, write: true })

/** What is logged: the address sign-extended, as parts do for the hole. */
const logged = (lo: bigint, iova: bigint): object => ({
  ...{ kind: 'fault', logged: true, event: [lo | BigInt(device), iova | 0xffffff0000000000n] },
})

describe('the device table entry of a request to port I/O or system management', () => {
  it.each([port, management])('with a reserved bit is illegal, RZ=1: %s', (iova) => {
    for (const reserved of [bit(2), bit(63)]) {
      const chip = chipOf([passing | reserved, ioCtl(1n) | sysMgt(1n)])
      expect(write(chip, iova)).toMatchObject(logged(0x10a0000000000000n, iova))
    }
  })

  it.each([port, management])('beyond the table is an IO_PAGE_FAULT with PR=0 and domain 0: %s', (iova) => {
    const chip = chipOf([passing, ioCtl(1n) | sysMgt(1n)])
    chip.write(0, place.deviceTable)
    expect(write(chip, iova)).toMatchObject(logged(0x2020000000000000n, iova))
  })

  it('that no memory answers for is a DEV_TAB_HARDWARE_ERROR, which names the entry', () => {
    const chip = chipOf([passing, ioCtl(1n)])
    chip.write(0, 0xfffffffe00000n | 0x1ffn)
    expect(write(chip, port)).toMatchObject({
      ...{ kind: 'fault', logged: true, event: [0x3220000000000600n, 0xfffffffe0c000n] },
    })
  })

  it('is cached: a change counts from its invalidation on', () => {
    const chip = chipOf([passing, ioCtl(1n)])
    expect(write(chip, port)).toEqual({ kind: 'forwarded', address: port })
    chip.setDte(device, [passing, ioCtl(0n)])
    expect(write(chip, port)).toEqual({ kind: 'forwarded', address: port })
    chip.command([0x2000000000000000n | BigInt(device), 0n])
    expect(write(chip, port)).toMatchObject(logged(0x8400000000000000n, port))
  })

  it('is read from memory by who only looks, and not cached for him', () => {
    const chip = chipOf([passing, ioCtl(1n)])
    const look = (): Translation => chip.iommu.walkFresh({ deviceId: device, iova: port, write: true })
    expect(look()).toEqual({ kind: 'forwarded', address: port })
    chip.setDte(device, [passing, ioCtl(0n)])
    expect(look()).toMatchObject({ kind: 'fault', logged: false })
    expect(write(chip, port)).toMatchObject(logged(0x8400000000000000n, port))
    chip.setDte(device, [passing, ioCtl(1n)])
    expect(look()).toEqual({ kind: 'forwarded', address: port })
    expect(write(chip, port)).toMatchObject({ kind: 'fault' })
  })
})

describe('the acknowledge cycles of the interrupt controller, FD_F900_0000 to FD_F90F_FFFF', () => {
  it.each([0xfdf9000000n, 0xfdf90ffffcn])('are not system management, and not memory: %s', (iova) => {
    for (const value of [0n, 1n, 2n, 3n]) {
      for (const isWrite of [false, true]) {
        // Nor port I/O, which this entry would forward.
        const chip = chipOf([passing, ioCtl(1n) | sysMgt(value)])
        const answer = chip.iommu.request({ deviceId: device, iova, write: isWrite })
        expect(answer).toMatchObject({ kind: 'fault', logged: true })
        expect(answer.kind === 'fault' && answer.event[0] >> 60n).toBe(8n)
      }
    }
  })
})

describe('address translation, FD_FBxx_xxxx, that is not reserved', () => {
  it.each([0xfdfb000000n, 0xfdfbfffffcn])(
    'takes posted writes, whatever the entry, and no reads: %s',
    (iova) => {
      const chip = chipOf([passing, ioCtl(0n) | sysMgt(0n)], { pci: { htAtsResv: false } })
      expect(write(chip, iova)).toEqual({ kind: 'forwarded', address: iova })
      const read = chip.iommu.request({ deviceId: device, iova })
      expect(read).toMatchObject(logged(0x8800000000000000n, iova))
    },
  )
})

describe('the address of an event in the hole', () => {
  it('is sign-extended, or as it came, by choice', () => {
    for (const [choice, shown] of [
      ['sign-extended', port | 0xffffff0000000000n],
      ['as-requested', port],
    ] as const) {
      const chip = chipOf([passing, ioCtl(0n)], { switches: { hyperTransportAddress: choice } })
      expect(write(chip, port)).toMatchObject({ kind: 'fault', event: [0x8400000000000600n, shown] })
    }
  })
})
