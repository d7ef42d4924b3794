import { describe, expect, it } from 'vitest'
import { readConsoleLine, tellsOf } from '../src/linux/console.js'

describe('a line of the console', () => {
  const event =
    '[    8.837423] vfio-pci 0000:00:04.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000c address=0x10000000 flags=0x0050]'

  it('of the driver is told from others', () => {
    expect(readConsoleLine('[    0.1] AMD-Vi: Extended features (0x9c1, 0x0): PreF IA GA HE')).toEqual({
      kind: 'driver',
      text: 'AMD-Vi: Extended features (0x9c1, 0x0): PreF IA GA HE',
    })
    expect(readConsoleLine('[    0.1] pci 0000:00:04.0: Adding to iommu group 0').kind).toBe('driver')
    expect(readConsoleLine('[    0.1] Block layer SCSI generic').kind).toBe('other')
  })

  it('about a fault has domain, address and flags', () => {
    expect(readConsoleLine(event)).toMatchObject({
      ...{ kind: 'fault', domainId: 12, address: 0x10000000n, flags: 0x50 },
    })
  })

  it('about a fault tells of the event with the same domain, address and flags, and of no other', () => {
    const line = readConsoleLine(event)
    if (line.kind !== 'fault') throw new Error('a fault')
    // IO_PAGE_FAULT of device 20h: flags in bits 59:48, domain in 47:32.
    const lo = 0x2050_000c_0000_0020n
    expect(tellsOf(line, [lo, 0x10000000n])).toBe(true)
    for (const [word, address] of [
      [lo ^ (1n << 32n), 0x10000000n],
      [lo ^ (1n << 59n), 0x10000000n],
      [lo ^ (1n << 48n), 0x10000000n],
      [lo, 0x10001000n],
    ] as const) {
      expect(tellsOf(line, [word, address])).toBe(false)
    }
  })

  it('of the guest’s program is a value', () => {
    expect(readConsoleLine('NW ENGINE good 326 refused 42 bad 1')).toEqual({
      ...{ kind: 'copies', good: 326, refused: 42, bad: 1 },
    })
    expect(readConsoleLine('NW INTERRUPTS 26')).toEqual({ kind: 'interrupts', count: 26 })
    expect(readConsoleLine('NW MARK 3')).toEqual({ kind: 'mark', mark: 3 })
    expect(readConsoleLine('NW UNMAP ffff0000 10000')).toEqual({
      ...{ kind: 'unmapped', iova: 0xffff0000n, sizeBytes: 0x10000n },
    })
    expect(readConsoleLine('NW XLATE 100000 2000 37fd000 1 0')).toEqual({
      kind: 'mapped',
      mapping: { iova: 0x100000n, sizeBytes: 0x2000n, physical: 0x37fd000n, readable: true, writable: false },
    })
    expect(readConsoleLine('NW DIED group not viable: Success')).toMatchObject({ kind: 'trouble' })
    expect(readConsoleLine('NW BAD copy: from 1 to 2')).toMatchObject({ kind: 'trouble' })
  })
})
