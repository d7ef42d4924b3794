/** The flush of a whole IOMMU, with INVALIDATE_IOMMU_ALL and without. */
import { iova, spa } from '@nestwalk/bits'
import { nestingFeatures } from '@nestwalk/hardware'
import { Driver, runEffects, viommuMap } from '@nestwalk/driver'
import type { Effect, Gap } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { flushWhole } from '../src/full-flush.js'
import { Plan } from '../src/plan.js'
import { Machine, readWrite, told } from './machine.js'

const withoutAll = { efr: nestingFeatures.efr & ~(1n << 6n), efr2: nestingFeatures.efr2 }

function lines(scope: Parameters<typeof flushWhole>[2]): string[] {
  const plan = new Plan(Machine.create().memory)
  flushWhole(plan, 0, scope)
  return plan.effects.map((effect) => told(effect, spa(0n)))
}

describe('the commands, in order', () => {
  it('INVALIDATE_IOMMU_ALL is all where there is one', () => {
    const scope = { invalidateAll: true, lastDeviceId: 0xffff, lastDomainId: 0xffff, walksDeviceIds: false }
    expect(lines(scope)).toEqual(['InvalidateIommuAll', 'WAIT'])
  })

  it('else each entry, each interrupt table, each DomainID, and a wait after each kind', () => {
    const scope = { invalidateAll: false, lastDeviceId: 1, lastDomainId: 3, walksDeviceIds: false }
    const before = [
      ...['DEVTAB 00:00.0', 'DEVTAB 00:00.1', 'WAIT'],
      ...['InvalidateInterruptTable', 'InvalidateInterruptTable', 'WAIT'],
    ]
    const pages = (last: number): string[] =>
      Array.from({ length: last + 1 }, (_, id) => `PAGES ${id} all PDE`)
    expect(lines(scope)).toEqual([...before, ...pages(3), 'WAIT'])
    // Gap U18.
    expect(lines({ ...scope, walksDeviceIds: true })).toEqual([...before, ...pages(1), 'WAIT'])
    expect(lines({ ...scope, lastDomainId: 0, walksDeviceIds: true })).toEqual([
      ...before,
      ...pages(1),
      'WAIT',
    ])
  })
})

describe('on a chip without INVALIDATE_IOMMU_ALL', () => {
  /** DomainIDs in the IOTLB before and after another driver brings the IOMMU up. */
  function survivors(gaps: readonly Gap[]): [before: number[], after: number[]] {
    const machine = Machine.create({ features: withoutAll, lastDeviceId: 0x7f, lastDomainId: 0x90 })
    const { driver, iommu, memory } = machine
    machine.run(driver.probe(0x18, 1))
    machine.run(driver.probe(0x19, 2))
    const domains = Array.from({ length: 0x90 }, () => machine.run(driver.allocateHostTable()))
    const [low, high] = [domains[0]!, domains.at(-1)!]
    for (const [device, domain] of [
      [0x18, low],
      [0x19, high],
    ] as const) {
      machine.run(driver.map(domain, iova(0x5000n), spa(0x700000n), 0x1000n, readWrite))
      machine.run(driver.attach(device, domain))
      iommu.request({ deviceId: device, iova: 0x5000n })
    }
    const ids = (): number[] =>
      iommu
        .iotlbEntries()
        .map(({ domainId }) => domainId)
        .sort((a, b) => a - b)
    const before = ids()
    const pages = { first: spa(0x2000000n), pages: 64 }
    const policy = { ...viommuMap, gaps: new Set(gaps) }
    const next = Driver.create({
      memory,
      pages,
      policy,
      ports: [iommu],
      lastDeviceId: 0x7f,
      lastDomainId: 0x90,
    })
    if (!next.ok) throw new Error(next.why)
    expect(runEffects(next.value, next.effects, machine.advance)).toBe(0)
    return [before, ids()]
  }

  it('nothing stays cached under any DomainID that may be handed out', () => {
    expect(survivors([])).toEqual([[1, 0x90], []])
  })

  it('gap U18: what is under DomainIDs above the last DeviceID stays', () => {
    expect(survivors(['U18'])).toEqual([[1, 0x90], [0x90]])
  })

  it('more commands than the ring holds go through it all the same', () => {
    const machine = Machine.create({ features: withoutAll, lastDeviceId: 0xfff, lastDomainId: 0xfff })
    const commands = ({ kind }: Effect): boolean => kind === 'command'
    const again = Driver.create({
      ...{ memory: machine.memory, ports: machine.iommus, lastDeviceId: 0xfff, lastDomainId: 0xfff },
      pages: { first: spa(0x2000000n), pages: 64 },
    })
    expect(again.ok && again.effects.filter(commands).length).toBe(3 * 0x1000)
  })
})
