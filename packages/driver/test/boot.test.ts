/** The host's driver from firmware's table to the first DMA. */
import { iova, spa } from '@nestwalk/bits'
import { decodeDte, nestingFeatures, registers } from '@nestwalk/hardware'
import { Driver } from '@nestwalk/driver'
import type { Effect } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { persistentBits } from '../src/firmware-settings.js'
import { aliasOf, bytesOf, ivhd, ivmd, range, select, withoutAts } from './firmware.js'
import { answer, Machine, readWrite, told } from './machine.js'
import type { MachineOptions } from './machine.js'

/**
 * IOMMU 0 has devices 00:02.0 to 00:03.7, of which 00:02.0 has a unity map and 00:03.0 bits in its entry; IOMMU 1 has
 * 00:10.0, whose requests come as 00:12.0, and 00:11.0 without ATS.
 */
const twoIommus = bytesOf(
  ivhd([...range(0x10, 0x1f), select(0x18, 0x51)]),
  ivhd([aliasOf(0x80, 0x90), withoutAts(0x88)], { deviceId: 0xf2, mmioBase: 0xfec00000n }),
  ivmd({ deviceId: 0x10 }),
  ivmd({ type: 0x22, deviceId: 0x80, auxiliary: 0x8f, start: 0x70000000n, byteLength: 0x3000n }),
)

const booted = (options: MachineOptions = {}): Machine =>
  Machine.create({ iommus: 2, ivrs: twoIommus, lastDeviceId: 0xff, systemDefault: 'dma', ...options })

const fails = (options: MachineOptions): string => {
  try {
    booted(options)
  } catch (error) {
    return (error as Error).message
  }
  return 'booted'
}

/** The effects of a bring-up but for memory. */
function registerLines(options: MachineOptions): string[] {
  const { memory, iommus } = booted()
  const pages = { first: spa(0x800000n), pages: 64 }
  const made = Driver.create({ ...options, lastDeviceId: 0xff, pages, memory, ports: iommus })
  if (!made.ok) throw new Error(made.why)
  const name = (effect: Effect): string => (effect.kind === 'register' ? effect.what : told(effect, spa(0n)))
  return made.effects.filter(({ kind }) => kind !== 'store' && kind !== 'fill').map(name)
}

describe('the order in which an IOMMU is turned on', () => {
  const ring = (name: string, base = `${name} Log Base`): string[] => [base, `${name} Head`, `${name} Tail`]
  const turnOn = [
    'Control',
    'Device Table Base',
    ...ring('Command', 'Command Buffer Base'),
    ...ring('Event'),
    ...ring('PPR'),
    'Control',
    'Control',
    'InvalidateIommuAll',
    'WAIT',
  ]

  it('off, device table, rings and logs, features, on, and a flush of everything; one IOMMU after the other', () => {
    expect(registerLines({})).toEqual([...turnOn, ...turnOn])
  })

  it('registers that do not answer yet are made to, high half of the base first', () => {
    const made = Driver.create({
      ivrs: twoIommus,
      ports: Machine.create({ iommus: 2 }).iommus,
      memory: Machine.create().memory,
      pages: { first: spa(0x800000n), pages: 64 },
    })
    const effects = made.ok ? made.effects.filter(({ kind }) => kind === 'configuration') : []
    expect(effects).toMatchObject([
      { iommu: 0, offset: 0x48, value: 0n },
      { iommu: 0, offset: 0x44, value: 0xfeb80001n },
      { iommu: 1, offset: 0x48, value: 0n },
      { iommu: 1, offset: 0x44, value: 0xfec00001n },
    ])
    const bases = booted().iommus.map((iommu) => iommu.readConfig(0x44, 4) >>> 0)
    expect(bases).toEqual([0xfeb80001, 0xfec00001])
  })

  it('firmware says how the HyperTransport link is used', () => {
    const flags = { iotlbSup: true, coherent: false, preFSup: false, pprSup: false }
    const link = { htTunEn: true, passPW: true, resPassPW: true, isoc: true }
    const ivrs = bytesOf(ivhd([select(0x10)], { flags: { ...flags, ...link } }))
    const control = (machine: Machine): bigint => machine.iommu.readMmio(registers.control.offset, 8)
    const bits = (1n << 1n) | (1n << 8n) | (1n << 9n) | (1n << 11n)
    expect(control(booted({ ivrs, iommus: 1 })) & bits).toBe(bits)
    expect(control(booted()) & bits).toBe(0n)
  })

  it('the books say where rings and logs are; a log is empty before anything is written', () => {
    const machine = booted()
    for (const [iommu, port] of machine.iommus.entries()) {
      const { ring, eventLog, pprLog } = machine.driver.iommus[iommu]!
      const base = (name: 'commandBufferBase' | 'eventLogBase' | 'pprLogBase'): bigint =>
        port.readMmio(registers[name].offset, 8) & 0xffffffffff000n
      expect([base('commandBufferBase'), base('eventLogBase'), base('pprLogBase')]).toEqual([
        ring,
        eventLog,
        pprLog,
      ])
    }
  })

  it('there is no PPR log where there are no page requests', () => {
    const features = { efr: nestingFeatures.efr & ~2n, efr2: nestingFeatures.efr2 }
    const ivrs = bytesOf(ivhd([select(0x10)], {}, features))
    const machine = booted({ ivrs, features, iommus: 1 })
    expect(machine.driver.iommus[0]!.pprLog).toBeUndefined()
    expect(machine.iommu.readMmio(registers.control.offset, 8) & (7n << 13n)).toBe(0n)
  })
})

describe('a host booted from the table of two IOMMUs', () => {
  it('finds for each device its IOMMU, its alias and what firmware wants of it', () => {
    const machine = booted({ systemDefault: 'blocked' })
    const { driver } = machine
    for (const device of [0x18, 0x80, 0x88])
      machine.run(driver.probe(device, device, undefined, { atsQueueDepth: 4 }))
    expect(driver.device(0x18)).toMatchObject({ iommu: 0, aliases: [], atsQueueDepth: 4 })
    expect(driver.device(0x18)!.persistentBits).toEqual(persistentBits(0x51))
    expect(driver.device(0x80)).toMatchObject({ iommu: 1, aliases: [0x90], atsQueueDepth: 4 })
    expect(driver.device(0x88)).toMatchObject({ iommu: 1, aliases: [], atsQueueDepth: 0 })
  })

  it('refuses devices that it cannot serve', () => {
    const machine = booted()
    const { driver } = machine
    expect(machine.refusal(() => driver.probe(0x20, 1))).toBe('ENODEV no-iommu-for-device')
    expect(machine.refusal(() => driver.probe(0xf2, 1))).toBe('ENODEV no-iommu-for-device')
    expect(machine.refusal(() => driver.probe(0x80, 1, 0))).toBe('EINVAL iommu-of-the-table')
    const itself = booted({ ivrs: bytesOf(ivhd([...range(0, 0xff)])), iommus: 1 })
    expect(itself.refusal(() => itself.driver.probe(2, 1))).toBe('ENODEV no-iommu-for-device')
    const short = booted({ lastDeviceId: 0x8f })
    expect(short.refusal(() => short.driver.probe(0x80, 1))).toBe('ENODEV no-device-table-entry')
  })

  it('does not boot from a table that does not serve', () => {
    expect(fails({ ivrs: Uint8Array.of(1, 2, 3) })).toMatch(/48 bytes/)
    expect(fails({ iommus: 1 })).toMatch(/2 IOMMUs/)
    expect(fails({ segment: 1 })).toMatch(/0 IOMMUs/)
  })

  it('lets DMA through unity maps at once, and nothing else, until more is mapped', () => {
    const machine = booted()
    const { driver, iommus } = machine
    const [first, second] = [iommus[0]!, iommus[1]!]
    machine.run(driver.probe(0x10, 1))
    machine.run(driver.probe(0x80, 2))
    const ask = (iommu: typeof first, deviceId: number, address: bigint): string =>
      answer(iommu.request({ deviceId, iova: address, write: true }))
    expect(ask(first, 0x10, 0x7a000123n)).toBe('translated 7a000123')
    expect(ask(first, 0x10, 0x7a001000n)).toBe('fault')
    expect(ask(first, 0x10, 0x70000000n)).toBe('fault')
    // The device's own DeviceID, and the one that its requests carry.
    for (const id of [0x80, 0x90]) {
      expect(ask(second, id, 0x70002fffn)).toBe('translated 70002fff')
      expect(ask(second, id, 0x7a000123n)).toBe('fault')
    }
    const mine = driver.device(0x80)!.domain
    const number = mine.kind === 'host-table' ? mine.number : 0
    machine.run(driver.map(number, iova(0x5000n), spa(0x200000n), 0x1000n, readWrite))
    for (const id of [0x80, 0x90]) expect(ask(second, id, 0x5abcn)).toBe('translated 200abc')
    expect(ask(first, 0x10, 0x5abcn)).toBe('fault')
    machine.run(driver.unmap(number, iova(0x5000n), 0x1000n))
    for (const id of [0x80, 0x90]) expect(ask(second, id, 0x5abcn)).toBe('fault')
  })

  it('keeps the bits that firmware wants in the entry, whatever the device is on', () => {
    const machine = booted({ systemDefault: 'blocked' })
    const { driver } = machine
    const bits = (): boolean[] =>
      machine.entry(0x18).map((word, i) => (word & persistentBits(0x51)[i]!) === persistentBits(0x51)[i]!)
    expect(bits()).toEqual([true, true, true, true])
    machine.run(driver.probe(0x18, 1))
    const domain = machine.run(driver.allocateHostTable())
    for (const move of [() => driver.attach(0x18, domain), () => driver.detach(0x18)]) {
      machine.run(move())
      expect(bits()).toEqual([true, true, true, true])
    }
    expect(machine.entry(0x17)).toEqual([3n, 0n, 0n, 0n])
  })

  it('has bits for devices of the table that is wanted, though firmware names more', () => {
    const settings = 0xc7
    const ivrs = bytesOf(ivhd([{ kind: 'all', deviceId: 0, settings }, ...range(0x100, 0x1ff, settings)]))
    const machine = booted({ ivrs, iommus: 1, lastDeviceId: 0x7f })
    const { ring } = machine.driver.iommus[0]!
    expect(ring).toBe(machine.driver.deviceTable + 0x1000n)
    expect(machine.entry(0x7f)[2]).toBe(persistentBits(settings)[2])
    // The ring holds the commands of the bring-up: INVALIDATE_IOMMU_ALL and a wait, and nothing behind them.
    expect([0x10n, 0x20n, 0x30n].map((offset) => machine.load(ring + offset) >> 63n)).toEqual([0n, 0n, 0n])
    expect(machine.load(ring + 0x30n)).toBe(0n)
  })

  it('refuses a device that nobody has probed, though IW is among the bits that firmware wants', () => {
    const machine = booted()
    const entry = decodeDte(BigUint64Array.from(machine.entry(0x18)))
    expect(entry).toMatchObject({ valid: true, translationValid: false, writeAllowed: true })
    for (const deviceId of [0x10, 0x18]) {
      expect(answer(machine.iommu.request({ deviceId, iova: 0x1000n, write: true }))).toBe('fault')
    }
  })

  it('believes the capability that absent entries may be cached: what is mapped is reachable at once all the same', () => {
    const machine = booted({ microArchitecture: { cachesAbsent: true } })
    const { driver, iommu } = machine
    machine.run(driver.probe(0x10, 1))
    const ask = (): string => answer(iommu.request({ deviceId: 0x10, iova: 0x5abcn }))
    expect(ask()).toBe('fault')
    const mine = driver.device(0x10)!.domain
    const number = mine.kind === 'host-table' ? mine.number : 0
    const lines = machine.tell(driver.map(number, iova(0x5000n), spa(0x200000n), 0x1000n, readWrite))
    expect(lines.filter((line) => line !== 'tables')).toEqual(['PAGES 1 5000+1000 PDE', 'WAIT'])
    expect(ask()).toBe('translated 200abc')
  })

  it('has no use for devices where the IOMMUs have no tables at all', () => {
    const features = { efr: (nestingFeatures.efr | 0xc00n) & ~(1n << 4n), efr2: 0n }
    const ivrs = bytesOf(ivhd([select(0x10)], {}, features))
    const machine = booted({ ivrs, features, iommus: 1 })
    expect(machine.refusal(() => machine.driver.probe(0x10, 1))).toBe('ENODEV no-translation')
  })

  it('tells where firmware and the hardware do not agree', () => {
    expect(booted().driver.findings).toEqual([])
    const machine = booted({ features: { efr: nestingFeatures.efr & ~8n, efr2: 8n } })
    expect(machine.driver.findings.map(({ rule, iommu }) => [rule, iommu])).toEqual([
      ['feature-mismatch', 0],
      ['feature-mismatch', 1],
    ])
  })
})
