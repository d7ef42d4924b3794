import { decode, spa } from '@nestwalk/bits'
import {
  commandBufferBaseLayout,
  controlLayout,
  decodeEvent,
  deviceTableBaseLayout,
  Iommu,
  nestingFeatures,
  registers,
  SparseMemory,
  store64,
} from '@nestwalk/hardware'
import { Driver } from '@nestwalk/driver'
import type { DriverOptions, Effect, Outcome } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { Machine } from './machine.js'

const pages = { first: spa(0x100000n), pages: 64 }

function made(options: Partial<DriverOptions> = {}, features = nestingFeatures): Outcome<Driver> {
  const memory = SparseMemory.create(1 << 24)
  const ports = [Iommu.create({ memory, features })]
  return Driver.create({ ports, memory, pages, lastDeviceId: 0xff, ...options })
}

const effectsOf = (outcome: Outcome<unknown>): readonly Effect[] => (outcome.ok ? outcome.effects : [])

/** The values written to a register, in order. */
const writes = (effects: readonly Effect[], { offset }: { readonly offset: number }): bigint[] =>
  effects.flatMap((effect) => (effect.kind === 'register' && effect.offset === offset ? [effect.value] : []))

const control = (value: bigint) => decode(controlLayout, BigUint64Array.of(value))

describe('bring-up', () => {
  it('turns guest tables and GCR3TRPMode on before the IOMMU itself', () => {
    const values = writes(effectsOf(made()), registers.control).map(control)
    expect(values.map(({ iommuEn }) => iommuEn)).toEqual([false, false, true])
    const on = { gtEn: true, gcr3TrpMode: true, cmdBufEn: true, eventLogEn: true, iommuEn: false }
    expect(values[1]).toMatchObject(on)
    expect({ ...values[2], iommuEn: false }).toEqual(values[1])
  })

  it('turns on only what the chip has', () => {
    const efr = nestingFeatures.efr & ~((1n << 4n) | (1n << 50n))
    const values = writes(effectsOf(made({}, { efr, efr2: 0n })), registers.control).map(control)
    expect(values.at(-1)).toMatchObject({ gtEn: false, gcr3TrpMode: false, ephEn: false, iommuEn: true })
  })

  it('lets devices ask for pages and tables be marked, and has everything told by interrupts', () => {
    const on = control(writes(effectsOf(made()), registers.control).at(-1)!)
    expect(on).toMatchObject({ coherent: true, invTimeOut: 4, hadUpdate: 3 })
    expect(on).toMatchObject({ eventLogEn: true, eventIntEn: true })
    expect(on).toMatchObject({ pprEn: true, pprLogEn: true, pprIntEn: true })
  })

  it.each([
    ['page requests', 1n << 1n, { pprEn: false, pprLogEn: false, pprIntEn: false, hadUpdate: 3 }],
    ['marks of what was read', 1n << 49n, { hadUpdate: 0, pprEn: true }],
    ['marks of what was written', 1n << 52n, { hadUpdate: 0, pprEn: true }],
    ['guest tables', 1n << 4n, { gtEn: false, gcr3TrpMode: false }],
  ])('does without %s where the chip has none', (_name, feature, fields) => {
    const { efr, efr2 } = nestingFeatures
    const lacking = { efr: efr & ~feature, efr2 }
    expect(control(writes(effectsOf(made({}, lacking)), registers.control).at(-1)!)).toMatchObject(fields)
  })

  it('flushes everything at the end, and waits', () => {
    const [flush, wait] = effectsOf(made()).slice(-2)
    expect(flush).toMatchObject({ kind: 'command', command: { kind: 'InvalidateIommuAll' } })
    expect(wait).toMatchObject({ kind: 'wait' })
  })

  it('names a device table of 4 KiB for every 128 devices, and rings of 512 entries', () => {
    const effects = effectsOf(made({ lastDeviceId: 0x1ff }))
    const [table] = writes(effects, registers.deviceTableBase)
    expect(decode(deviceTableBaseLayout, BigUint64Array.of(table!))).toEqual({ base: 0x100000n, size: 3 })
    const bases = [registers.commandBufferBase, registers.eventLogBase].map(
      (each) => writes(effects, each)[0]!,
    )
    const rings = bases.map((base) => decode(commandBufferBaseLayout, BigUint64Array.of(base)))
    expect(rings).toEqual([
      { base: 0x104000n, lengthLog2: 9 },
      { base: 0x106000n, lengthLog2: 9 },
    ])
  })

  it('refuses every request of a device that is not known: PR=1 PE=1', () => {
    const machine = Machine.create()
    const refused = machine.iommu.request({ deviceId: 0x42, iova: 0x1000n, write: true })
    if (refused.kind !== 'fault') throw new Error(refused.kind)
    const event = decodeEvent(BigUint64Array.from(refused.event))
    expect(event).toMatchObject({ kind: 'IoPageFault', present: true, permissionViolated: true })
  })

  it('does not take what the memory held before for entries or for a completed wait', () => {
    const memory = SparseMemory.create(1 << 24)
    for (let at = 0x100000n; at < 0x120000n; at += 8n) store64(memory, at, 0x7fff_ffff_ffff_ffffn)
    const ports = [Iommu.create({ memory })]
    const driver = Driver.create({ ports, memory, pages, lastDeviceId: 0xff })
    if (!driver.ok) throw new Error(driver.why)
    for (const effect of driver.effects) {
      if (effect.kind !== 'wait') expect(driver.value.apply(effect)).toBe(true)
      else expect(driver.value.apply(effect)).toBe(false)
    }
    const machine = Machine.create({ memory, pages })
    for (const device of [0, 0x42, 0xff]) expect(machine.entry(device)).toEqual([3n, 0n, 0n, 0n])
    machine.run(machine.driver.probe(0x42, 1))
    expect(machine.entry(0x42)).toEqual([1n, 0n, 0n, 0n])
  })

  it('clears its logs, and touches no page beyond those that it takes', () => {
    const memory = SparseMemory.create(1 << 24)
    const [taken, end] = [0x109000n, 0x120000n]
    const rubbish = 0x7fff_ffff_ffff_ffffn
    for (let at = 0x100000n; at < end; at += 8n) store64(memory, at, rubbish)
    const machine = Machine.create({ memory, pages })
    const { eventLog, pprLog } = machine.driver.iommus[0]!
    const words = (first: bigint, bytes: number): Set<bigint> =>
      new Set(Array.from({ length: bytes / 8 }, (_, i) => machine.load(first + BigInt(i * 8))))
    for (const log of [eventLog, pprLog!]) expect([...words(log, 8192)]).toEqual([0n])
    expect([...words(taken, Number(end - taken))]).toEqual([rubbish])
  })

  it('needs pages for device table, rings, logs and completion words', () => {
    const short = (count: number) => made({ pages: { first: pages.first, pages: count } })
    for (const count of [1, 3, 5, 7, 8]) {
      expect(short(count)).toMatchObject({ ok: false, errno: 'ENOMEM', rule: 'no-bring-up-pages' })
    }
    expect(short(9).ok).toBe(true)
  })

  it('takes no range that is none', () => {
    expect(() => made({ pages: { first: spa(0x100800n), pages: 64 } })).toThrow(RangeError)
    expect(() => made({ pages: { first: spa(0x100000n), pages: 0 } })).toThrow(RangeError)
  })
})
