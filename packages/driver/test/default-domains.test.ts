/** What devices are on before anybody asks for anything else. */
import { spa } from '@nestwalk/bits'
import { decodeDte, nestingFeatures } from '@nestwalk/hardware'
import type { DeviceTraits, Driver } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { defaultKindFor } from '../src/default-domain.js'
import { bytesOf, ivhd, ivmd, range } from './firmware.js'
import { answer, Machine } from './machine.js'
import type { MachineOptions } from './machine.js'

const ivrs = bytesOf(
  ivhd(range(0x10, 0x1f)),
  ivmd({ deviceId: 0x10, byteLength: 0x2000n }),
  ivmd({ deviceId: 0x11, start: 0x7a001000n, byteLength: 0x2000n }),
)

const booted = (options: MachineOptions): Machine => Machine.create({ ivrs, ...options })

function probe(machine: Machine, deviceId: number, group = 1, traits: Partial<DeviceTraits> = {}): void {
  machine.run(machine.driver.probe(deviceId, group, undefined, traits))
}

const kindOf = (driver: Driver, deviceId: number): string | undefined => driver.device(deviceId)?.domain.kind

const numberOf = (driver: Driver, deviceId: number): number => {
  const domain = driver.device(deviceId)!.domain
  return domain.kind === 'blocked' ? 0 : domain.number
}

const ask = (machine: Machine, deviceId: number, iova: bigint, write = false): string =>
  answer(machine.iommu.request({ deviceId, iova, write }))

describe('the kind of default domain', () => {
  it.each([
    ['identity', false, 0, 'identity'],
    ['dma', false, 0, 'dma'],
    ['identity', true, 0, 'dma'],
    ['identity', true, 0xffff, 'dma'],
    ['dma', false, 0xffff, 'identity'],
  ] as const)('system %s, untrusted %o, %i PASIDs: %s', (system, isUntrusted, maxPasids, kind) => {
    expect(defaultKindFor(system, { isUntrusted, maxPasids })).toBe(kind)
  })

  it('is asked of the first device of a group; the others join it', () => {
    const machine = booted({ systemDefault: 'identity' })
    probe(machine, 0x10, 1, { isUntrusted: true })
    probe(machine, 0x11, 1)
    probe(machine, 0x12, 2)
    probe(machine, 0x13, 3)
    const { driver } = machine
    expect([0x10, 0x11, 0x12].map((id) => kindOf(driver, id))).toEqual([
      'host-table',
      'host-table',
      'identity',
    ])
    expect(numberOf(driver, 0x10)).toBe(numberOf(driver, 0x11))
    // One identity domain serves all groups.
    expect(numberOf(driver, 0x12)).toBe(numberOf(driver, 0x13))
  })

  it('has guest tables where there are no host tables, and IOMMUs agree on five levels', () => {
    const features = { efr: nestingFeatures.efr | 0xc00n, efr2: nestingFeatures.efr2 }
    const machine = booted({
      systemDefault: 'dma',
      features,
      ivrs: bytesOf(ivhd(range(0x10, 0x1f), {}, features), ivmd()),
    })
    probe(machine, 0x10)
    expect(machine.driver.device(0x10)?.domain).toMatchObject({ kind: 'guest-table', levels: 5 })
    expect(ask(machine, 0x10, 0x7a000123n)).toBe('translated 7a000123')
  })

  it('there is none unless the system has one: everything is blocked', () => {
    const machine = booted({})
    probe(machine, 0x10, 1, { isUntrusted: true })
    expect(kindOf(machine.driver, 0x10)).toBe('blocked')
    expect(machine.driver.tags).toEqual([])
    expect(ask(machine, 0x10, 0x7a000123n)).toBe('fault')
  })
})

describe('a DMA domain', () => {
  it('has the unity maps of a device in it before the entry says so', () => {
    const machine = booted({ systemDefault: 'dma' })
    const probed = machine.driver.probe(0x10, 1)
    if (!probed.ok) throw new Error(probed.why)
    let seen = 0
    for (const effect of probed.effects) {
      machine.carryOut([effect])
      const { translationValid, mode } = decodeDte(BigUint64Array.from(machine.entry(0x10)))
      if (!translationValid || mode === 0) continue
      seen += 1
      expect(answer(machine.iommu.walkFresh({ deviceId: 0x10, iova: 0x7a000123n }))).toBe(
        'translated 7a000123',
      )
    }
    expect(seen).toBeGreaterThan(1)
    expect(ask(machine, 0x10, 0x7a000123n)).toBe('translated 7a000123')
  })

  it('gets those of each further member of the group, where they are not there yet', () => {
    const machine = booted({ systemDefault: 'dma' })
    probe(machine, 0x10)
    expect(ask(machine, 0x10, 0x7a002123n)).toBe('fault')
    probe(machine, 0x11)
    for (const id of [0x10, 0x11]) {
      const pages = [0x7a000123n, 0x7a001123n, 0x7a002123n].map((address) => ask(machine, id, address))
      expect(pages).toEqual(['translated 7a000123', 'translated 7a001123', 'translated 7a002123'])
    }
  })

  it('lets a device do what the map allows', () => {
    const flags = { unity: true, ir: true, iw: false, exclusion: false, reserved: 0 }
    const machine = booted({ systemDefault: 'dma', ivrs: bytesOf(ivhd(range(0x10, 0x1f)), ivmd({ flags })) })
    probe(machine, 0x10)
    expect([false, true].map((write) => ask(machine, 0x10, 0x7a000123n, write))).toEqual([
      'translated 7a000123',
      'fault',
    ])
  })

  it('grows for a unity map that lies high', () => {
    const start = 1n << 51n
    const machine = booted({ systemDefault: 'dma', ivrs: bytesOf(ivhd(range(0x10, 0x1f)), ivmd({ start })) })
    probe(machine, 0x10)
    expect(ask(machine, 0x10, start + 0x123n)).toBe(`translated ${(start + 0x123n).toString(16)}`)
  })

  it('that cannot be made, or cannot hold the maps, leaves nothing behind', () => {
    const short = booted({ systemDefault: 'dma', lastDomainId: 1 })
    probe(short, 0x10)
    expect(short.refusal(() => short.driver.probe(0x12, 2))).toBe('ENOMEM no-domain-id')
    const features = { efr: nestingFeatures.efr & ~0xc00n, efr2: nestingFeatures.efr2 }
    const high = bytesOf(ivhd(range(0x10, 0x1f), {}, features), ivmd({ start: 1n << 51n }))
    const shallow = booted({ systemDefault: 'dma', features, ivrs: high })
    expect(shallow.refusal(() => shallow.driver.probe(0x10, 1))).toBe('EOVERFLOW aperture')
    // Bring-up takes 9 pages, a host table 1, and the unity maps 2 more.
    const pages = (count: number): Machine =>
      booted({ systemDefault: 'dma', pages: { first: spa(0x100000n), pages: count } })
    expect(pages(9).refusal(() => pages(9).driver.probe(0x10, 1))).toBe('ENOMEM no-table-page')
    const one = pages(11)
    expect(one.refusal(() => one.driver.probe(0x10, 1))).toBe('ENOMEM no-table-page')
    probe(pages(12), 0x10)
  })
})

describe('a default domain', () => {
  it('cannot be freed, and a device can be given back to it', () => {
    const machine = booted({ systemDefault: 'dma' })
    const { driver } = machine
    probe(machine, 0x10)
    const number = numberOf(driver, 0x10)
    machine.run(driver.detach(0x10))
    expect(machine.refusal(() => driver.freeDomain(number))).toBe('EBUSY default-domain')
    expect(ask(machine, 0x10, 0x7a000123n)).toBe('fault')
    machine.run(driver.attachDefault(0x10))
    expect(ask(machine, 0x10, 0x7a000123n)).toBe('translated 7a000123')
    expect(machine.refusal(() => driver.attachDefault(0x55))).toBe('ENODEV no-such-device')
  })

  it('is blocked where there is none', () => {
    const machine = booted({})
    const { driver } = machine
    probe(machine, 0x10)
    machine.run(driver.attach(0x10, machine.run(driver.allocateIdentity())))
    machine.run(driver.attachDefault(0x10))
    expect(kindOf(driver, 0x10)).toBe('blocked')
  })

  it('identity lets everything pass, unity maps too', () => {
    const machine = booted({ systemDefault: 'identity' })
    probe(machine, 0x10)
    expect([0x7a000123n, 0x123n].map((address) => ask(machine, 0x10, address, true))).toEqual([
      'translated 7a000123',
      'translated 123',
    ])
  })
})
