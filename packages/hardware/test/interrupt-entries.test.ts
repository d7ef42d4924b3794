/** Interrupt table entries of every form: where they are, what they mean, and what is wrong with them. */
import { encode } from '@nestwalk/bits'
import { describe, expect, it } from 'vitest'
import { nestingFeatures } from '../src/index.js'
import { gaLayout } from '../src/layout/index.js'
import {
  device,
  tableAt,
  backingPage,
  long,
  guest,
  dte,
  irte32,
  irte128,
  irteGuest,
  rigWith,
  ask,
  zeros,
  silence,
  expectForwarded,
  expectAborted,
  expectRefused,
  spaOf,
  illegalLevel,
  malformed,
} from './interrupt-cases.js'
import type { Place } from './interrupt-cases.js'
import { allFeatures, on } from './interrupt-rig.js'

describe('an entry that cannot be read', () => {
  const root = 0xfffffffffffc0n
  const words = [1n, 0x42n, 0x2000000000000013n | root, 0n]

  it('is a hardware error at its address, of a kind to choose', () => {
    expectRefused({ dte: words }, '00000600 32080000 ffffffc0 000fffff')
    // Beyond 52 bits there is no memory either.
    expectRefused({ dte: words, control: long }, '00000600 32080000 00000030 00100000', 7)
    const other = (
      interruptEntryUnreadable: 'page-tab-hardware-error' | 'illegal-dev-table-entry',
    ): Place => ({
      dte: words,
      switches: { interruptEntryUnreadable },
    })
    expectRefused(other('page-tab-hardware-error'), '00000600 42080042 ffffffc4 000fffff', 1)
    expectRefused(other('illegal-dev-table-entry'), illegalLevel)
  })

  it('was an illegal device entry on the part whose table address had the encryption bit in it', () => {
    const rig = rigWith({ switches: { interruptEntryUnreadable: 'illegal-dev-table-entry' } })
    rig.setDte(0xc001, [3n, 0n, 0x2008000100258013n, 0n])
    const answer = rig.interrupt(0xc001, 0, 0xfffffffdf8140000n)
    expectAborted(rig, answer, '0000c001 10080000 f8140000 fffffffd')
  })

  it('leads to the documented address otherwise', () => {
    const rig = rigWith()
    expect(rig.interrupt(device, 0x23).entry).toBe(0x11784008cn)
    rig.control = long
    expect(rig.interrupt(device, 0x23).entry).toBe(0x117840230n)
    expect(rig.reads).toEqual([0x11784008cn, 0x117840230n])
  })

  it('carries into the high word', () => {
    // 2^10 entries from 1FFFFFFC0 on.
    const rig = rigWith({ control: long, dte: [0n, 0n, 0x20000001ffffffd5n, 0n] })
    expect(rig.interrupt(device, 4).entry).toBe(0x200000000n)
  })
})

describe('a short entry', () => {
  it('gives vector, type and destination', () => {
    expect(ask({ irte: [0x00310501n] }, 0)).toEqual({
      ...zeros,
      ...silence,
      outcome: 'remapped',
      address: 0xfee05000n,
      data: 0x31,
      vector: 0x31,
      destination: 5,
      index: 0,
      entry: tableAt,
      source: 1,
      requestAt: 0n,
    })
    const all = {
      interruptType: 1,
      requestEoi: true,
      logicalDestination: true,
      destination: 0xff,
      vector: 0xfe,
    }
    expect(ask({ irte: [irte32(all)] })).toMatchObject({
      address: 0xfeeff004n,
      data: 0x1fe,
      deliveryMode: 1,
      destinationMode: 1,
      destination: 0xff,
      requestEoi: 1,
      vector: 0xfe,
    })
  })

  it('leaves level, trigger mode and hint as the device wrote them, and nothing else', () => {
    const answer = ask({ irte: [irte32({ vector: 0x31 })] }, 0xfffff800 | 0, 0xfeeffff8n)
    expect(answer).toMatchObject({ address: 0xfee00008n, data: 0xc031 })
  })

  it('is read as one with the other entry of its 64 bits apart', () => {
    const rig = rigWith({ irte: [irte32({ vector: 1 }) | (irte32({ vector: 2 }) << 32n)] })
    expect([rig.interrupt(device, 0).vector, rig.interrupt(device, 1).vector]).toEqual([1, 2])
  })

  it.each([0x80n, 0x01000000n, 0x80000000n, 0x8n, 0xcn, 0x10n])('is malformed with %s', (bits) => {
    expectRefused({ dte: dte(0n, 0n, 1n), irte: [0x00310501n | bits] }, malformed)
  })

  it('with GuestMode may be taken as a remapping one', () => {
    expect(ask({ irte: [0x00310581n], switches: { guestModeOff: 'remap' } })).toMatchObject({ vector: 0x31 })
  })

  it('is what a part without guest APIC has, whatever GAEn says', () => {
    const features = { ...allFeatures, efr: allFeatures.efr & ~0x80n }
    expect(ask({ control: guest | on.x2apic, features, irte: [0x00310501n] })).toMatchObject({ data: 0x31 })
  })
})

describe('a long entry', () => {
  it('gives vector, type and destination', () => {
    expect(ask({ control: long, irte: [0x501n, 0x31n] })).toMatchObject({
      outcome: 'remapped',
      address: 0xfee05000n,
      data: 0x31,
      destination: 5,
      entry: tableAt,
    })
    const mode = { interruptType: 1, logicalDestination: true, softwareAvailable: 0xffffffff, vector: 0xff }
    expect(ask({ control: long, irte: irte128(mode) })).toMatchObject({ address: 0xfee00004n, data: 0x1ff })
  })

  it('has a destination of 32 bits with XTEn alone', () => {
    const irte = [0x20301n, 0x0100000000000041n]
    expect(ask({ control: long | on.x2apic, irte })).toMatchObject({
      address: 0x010002_00fee03000n,
      data: 0x41,
      destination: 0x01000203,
    })
    expect(ask({ control: long | on.x2apic, irte: [0xffffff01n, 0xff00000000000041n] })).toMatchObject({
      destination: 0xffffffff,
      address: 0xffffff00_feeff000n,
    })
    expect(ask({ control: long, irte })).toMatchObject({ address: 0xfee03000n, destination: 3 })
    expect(ask({ control: long | on.x2apic, irte, features: nestingFeatures })).toMatchObject({
      destination: 3,
    })
  })

  it('may be malformed with a destination too wide for an xAPIC', () => {
    const choice = { switches: { xapicHighDestination: 'reserved' }, dte: dte(0n, 0n, 1n) } as const
    expectRefused({ control: long, irte: [0x10001n, 0x41n], ...choice }, malformed)
    expectRefused({ control: long, irte: [0x1n, 0x0100000000000041n], ...choice }, malformed)
    expectRefused({ control: guest, irte: irteGuest({ destination: 0x100 }), ...choice }, malformed)
    expect(ask({ control: long, irte: [0xff01n, 0x41n], ...choice }).outcome).toBe('remapped')
    expect(ask({ control: long | on.x2apic, irte: [0x10001n, 0x41n], ...choice }).outcome).toBe('remapped')
    expect(ask({ irte: [0x00310501n], ...choice }).outcome).toBe('remapped')
  })

  it.each([8n, 16n, 72n, 95n, 96n, 119n, 3n, 4n])('is malformed with bit %i', (bit) => {
    const irte = bit < 64n ? [0x501n | (1n << bit), 0x31n] : [0x501n, 0x31n | (1n << (bit - 64n))]
    // Bits 16:8 are the destination.
    if (bit >= 8n && bit < 64n) expect(ask({ control: long, irte }).outcome).toBe('remapped')
    else expectRefused({ control: long, dte: dte(0n, 0n, 1n), irte }, malformed)
  })
})

describe('2048 interrupts a function', () => {
  const many = on.iommu | on.manyInterrupts
  const words = [1n, 0x42n, 0x2000000117840017n, 0n]

  it('are told by logical messages, whatever delivery mode the index looks like', () => {
    const rig = rigWith({ control: many, dte: words })
    for (const index of [0x000, 0x200, 0x400, 0x7ff]) {
      rig.put((tableAt + BigInt(index) * 4n) & ~7n, irte32({ vector: 9 }) * 0x100000001n)
      expect(rig.interrupt(device, index, 0xfee00004n)).toMatchObject({ outcome: 'remapped', index, data: 9 })
    }
  })

  it('leave physical messages, other parts and other modes as they were', () => {
    expectForwarded(ask({ control: many, dte: words }, 0x200), 0x200)
    expectRefused({ control: many, dte: words }, undefined, 0x400)
    const logical = 0xfee00004n
    expectRefused({ control: on.iommu, dte: words }, undefined, 0x400, logical)
    expectRefused({ control: on.iommu | (3n << 43n), dte: words }, undefined, 0x400, logical)
    expectRefused({ control: many, dte: words, features: nestingFeatures }, undefined, 0x400, logical)
  })

  it('obey IntCtl', () => {
    const forward = words.map((word, n) => (n === 2 ? 0x1000000117840017n : word))
    expectForwarded(ask({ control: many, dte: forward }, 0x7ff, 0xfee00004n), 0x7ff, 0xfee00004n)
  })
})

describe('guest mode', () => {
  const running = [0x0000abcd000005c5n, 0x0000000123456051n]
  const waiting = irteGuest({
    gaLogInterrupt: true,
    gaTag: 0x2345,
    vector: 0x51,
    destination: 5,
    backingPage: spaOf(backingPage),
  })

  it('sets the request bit and rings the processor that runs the guest', () => {
    const rig = rigWith({ control: guest, irte: running })
    rig.put(backingPage + 0x220n, 0xffffffff_00000001n)
    expect(rig.interrupt(device, 0x4000)).toEqual({
      ...zeros,
      ...silence,
      outcome: 'posted',
      address: 0n,
      data: 0,
      vector: 0x51,
      destination: 5,
      notice: 1,
      index: 0,
      entry: tableAt,
      source: 1,
      requestAt: backingPage + 0x220n,
    })
    expect(rig.load(backingPage + 0x220n)).toBe(0xffffffff_00020001n)
    expect(rig.gaLog).toEqual([])
  })

  it('writes the log where the guest does not run', () => {
    const rig = rigWith({ control: guest, irte: waiting })
    expect(rig.interrupt(device, 0)).toMatchObject({
      outcome: 'posted',
      notice: 2,
      destination: 0,
      vector: 0x51,
    })
    expect(rig.gaLog).toEqual([0x1000060000002345n])
    expect(rig.gaLog).toEqual([...encode(gaLayout, { gaTag: 0x2345, deviceId: device as never, code: 1 })])
    rig.put(tableAt, waiting[0]! & ~4n)
    rig.cache.invalidateAll()
    expect(rig.interrupt(device, 0)).toMatchObject({ outcome: 'posted', notice: 0 })
    expect(rig.gaLog).toHaveLength(1)
  })

  it('finds the word and the bit of every vector', () => {
    const rig = rigWith({ control: guest, sizeBytes: 2 ** 48 })
    for (let vector = 0; vector < 256; vector++) {
      const page = 0xfffff0000000n + BigInt(vector << 12)
      rig.put(tableAt, ...irteGuest({ vector, backingPage: spaOf(page) }))
      rig.cache.invalidateAll()
      expect(rig.interrupt(device, 0).outcome).toBe('posted')
      for (let word = 0; word < 8; word++) {
        const stored = rig.load(page + 0x200n + BigInt(word * 16))
        expect(stored).toBe(word === vector >> 5 ? 1n << BigInt(vector & 31) : 0n)
      }
    }
  })

  it('rings a destination of 32 bits with XTEn', () => {
    const irte = irteGuest({ isRunning: true, destination: 0x81000203 })
    expect(ask({ control: guest | on.x2apic, irte })).toMatchObject({ destination: 0x81000203, notice: 1 })
    expect(ask({ control: guest, irte })).toMatchObject({ destination: 3, notice: 1 })
  })

  it('may heed GAPPIDis', () => {
    const irte = irteGuest({ isRunning: true, gaPhysicalInterruptDisabled: true, destination: 5 })
    expect(ask({ control: guest, irte })).toMatchObject({ notice: 1 })
    const choice = { switches: { physicalInterruptDisabled: 'no-doorbell' } } as const
    expect(ask({ control: guest, irte, ...choice })).toMatchObject({ outcome: 'posted', notice: 0 })
    expect(ask({ control: guest, irte: running, ...choice })).toMatchObject({ notice: 1 })
  })

  it.each([3n, 4n, 72n, 75n, 116n, 119n])('is malformed with bit %i', (bit) => {
    const irte = running.map((word, n) => word | (bit >> 6n === BigInt(n) ? 1n << (bit & 63n) : 0n))
    expectRefused({ control: guest, dte: dte(0n, 0n, 1n), irte }, malformed)
  })

  it('is malformed where it is not on', () => {
    const off: Place[] = [
      { control: long },
      { control: long | (2n << 25n) },
      { control: guest, features: { ...allFeatures, efr: allFeatures.efr & ~(1n << 21n) } },
    ]
    for (const place of off) expectRefused({ dte: dte(0n, 0n, 1n), irte: running, ...place }, malformed)
    const remapped = ask({ control: long, irte: [0x581n, 0x31n], switches: { guestModeOff: 'remap' } })
    expect(remapped).toMatchObject({ outcome: 'remapped', vector: 0x31, destination: 5 })
  })

  it('with a backing page that no memory answers for is a hardware error there', () => {
    const irte = irteGuest({ isRunning: true, vector: 0x51, backingPage: spaOf(0xffffffffff000n) })
    expectRefused({ control: guest, irte }, '00000600 32080000 fffff220 000fffff')
  })
})
