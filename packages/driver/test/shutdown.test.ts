/** What devices reach while the IOMMUs are given up, and afterwards. */
import { decode, iova, spa } from '@nestwalk/bits'
import { controlLayout, registers } from '@nestwalk/hardware'
import type { Effect } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { answer, Machine, readWrite, told } from './machine.js'

const [mapped, identity, idle] = [0x18, 0x19, 0x20]
const page = 0x5000n

function running(iommus = 1): Machine {
  const machine = Machine.create({ iommus })
  const { driver } = machine
  for (const id of [mapped, identity, idle])
    machine.run(driver.probe(id, id, id === identity ? iommus - 1 : 0))
  const table = machine.run(driver.allocateHostTable())
  machine.run(driver.map(table, iova(page), spa(0x700000n), 0x1000n, readWrite))
  machine.run(driver.attach(mapped, table))
  machine.run(driver.attach(identity, machine.run(driver.allocateIdentity())))
  return machine
}

const effectsOf = (machine: Machine, after?: 'refused' | 'forwarded'): readonly Effect[] => {
  const outcome = machine.driver.shutDown(after)
  if (!outcome.ok) throw new Error(outcome.why)
  return outcome.effects
}

const dma = (machine: Machine, deviceId: number): string =>
  answer(machine.iommu.request({ deviceId, iova: page + 0xabcn, write: true }))

const all = [mapped, identity, idle, 0x42]
const control = (value: bigint) => decode(controlLayout, BigUint64Array.of(value))

describe('shutdown', () => {
  it('blocks each device with everything that a detach takes, and only then stops commands and logs', () => {
    const machine = running()
    const lines = effectsOf(machine).map((effect) => told(effect, machine.driver.deviceTable))
    const update = (name: string): string[] => [
      ...[`${name} upper`, `${name} lower`, `DEVTAB ${name}`, 'WAIT', `DEVTAB ${name}`, 'WAIT'],
    ]
    expect(lines).toEqual([
      ...update('00:03.0'),
      ...['PAGES 1 all PDE', 'WAIT'],
      ...update('00:03.1'),
      'register 0x18',
    ])
  })

  it('blocks devices by DeviceID, whichever was probed first, and lets go of their processes', () => {
    const machine = Machine.create()
    const { driver } = machine
    const table = machine.run(driver.allocateGuestTable())
    const process = machine.run(driver.allocateProcess())
    for (const id of [idle, mapped, 0x1c]) {
      machine.run(driver.probe(id, id, 0, { maxPasids: 8 }))
      machine.run(driver.attach(id, table))
      machine.run(driver.attachPasid([id], 1, process))
    }
    const lines = effectsOf(machine).map((effect) => told(effect, driver.deviceTable))
    const order = lines.filter((line) => line.endsWith('lower'))
    expect(order).toEqual(['00:03.0 lower', '00:03.4 lower', '00:04.0 lower'])
    for (const id of [mapped, 0x1c, idle]) {
      expect(driver.device(id)).toMatchObject({ domain: { kind: 'blocked' }, gcr3: undefined })
      expect([...driver.device(id)!.processes]).toEqual([])
    }
    expect(driver.gcr3Tables).toEqual([])
  })

  it('leaves the IOMMU on, which refuses everything that comes', () => {
    const machine = running()
    machine.carryOut(effectsOf(machine))
    expect(all.map((id) => dma(machine, id))).toEqual(['fault', 'fault', 'fault', 'fault'])
    const value = control(machine.iommu.readMmio(registers.control.offset, 8))
    const off = { cmdBufEn: false, eventLogEn: false, eventIntEn: false, pprLogEn: false, pprIntEn: false }
    expect(value).toMatchObject({ iommuEn: true, ...off })
    expect(machine.driver.tags.every(({ users }) => users === 1)).toBe(true)
  })

  it('at no moment lets a request pass that the domain of its device would not have let pass', () => {
    const machine = running()
    for (const effect of effectsOf(machine)) {
      machine.carryOut([effect])
      expect(['translated 700abc', 'fault']).toContain(dma(machine, mapped))
      expect(['translated 5abc', 'fault']).toContain(dma(machine, identity))
      expect(dma(machine, idle)).toBe('fault')
    }
  })

  it('asked to forward turns the IOMMU off last: from then on every address is a physical one, as after Linux', () => {
    const machine = running()
    const effects = effectsOf(machine, 'forwarded')
    const values = effects.flatMap((effect) => (effect.kind === 'register' ? [control(effect.value)] : []))
    expect(values.map(({ cmdBufEn, iommuEn }) => [cmdBufEn, iommuEn])).toEqual([
      [false, true],
      [false, false],
    ])
    machine.carryOut(effects.slice(0, -1))
    expect(all.map((id) => dma(machine, id))).toEqual(['fault', 'fault', 'fault', 'fault'])
    machine.carryOut(effects.slice(-1))
    expect(all.map((id) => dma(machine, id))).toEqual(all.map(() => 'forwarded'))
  })

  it('of several IOMMUs turns none off before all devices are blocked', () => {
    const machine = running(2)
    const kinds = effectsOf(machine, 'forwarded').map(({ kind }) => kind)
    expect(kinds.slice(-4)).toEqual(['register', 'register', 'register', 'register'])
    expect(kinds.slice(0, -4)).not.toContain('register')
  })

  it('ends the use of PASIDs too', () => {
    const machine = Machine.create()
    const { driver } = machine
    machine.run(driver.probe(mapped, 1, 0, { maxPasids: 8 }))
    machine.run(driver.attach(mapped, machine.run(driver.allocateIdentity())))
    const process = machine.run(driver.allocateProcess())
    machine.run(driver.map(process, iova(page), spa(0x700000n), 0x1000n, readWrite))
    machine.run(driver.attachPasid([mapped], 3, process))
    const ask = (): string => answer(machine.iommu.request({ deviceId: mapped, iova: page, pasid: 3 }))
    expect(ask()).toBe('translated 700000')
    machine.carryOut(effectsOf(machine))
    expect(ask()).toBe('fault')
    expect(driver.device(mapped)).toMatchObject({ domain: { kind: 'blocked' }, processes: new Map() })
    expect(driver.gcr3Tables).toEqual([])
  })
})
