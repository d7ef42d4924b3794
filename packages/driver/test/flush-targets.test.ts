/** Whom a flush reaches after a change of a table, by which names, and in which order it is waited for. */
import { iova, spa } from '@nestwalk/bits'
import { sharedGcr3, viommuMap } from '@nestwalk/driver'
import type { DeviceTraits, Effect, Outcome } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { Machine, readWrite, withoutTables } from './machine.js'

const deviceId = 0x18
const [host, guest] = [1, 2]

/** A host table (1) and a guest table (2), each with a page at 0x5000; devices behind IOMMUs, each in a group of its own. */
function machineWith(
  domain: number,
  traits: Partial<DeviceTraits>,
  places: readonly (readonly [device: number, iommu: number])[] = [[deviceId, 0]],
  policy = viommuMap,
): Machine {
  const machine = Machine.create({ policy, iommus: 2 })
  const { driver } = machine
  machine.run(driver.allocateHostTable())
  machine.run(driver.allocateGuestTable())
  for (const each of [host, guest]) {
    machine.run(driver.map(each, iova(0x5000n), spa(0x9000n), 0x1000n, readWrite))
  }
  for (const [device, iommu] of places) {
    machine.run(driver.probe(device, device, iommu, traits))
    machine.run(driver.attach(device, domain))
  }
  return machine
}

const unmap = ({ driver }: Machine, domain: number): Outcome<bigint> =>
  driver.unmap(domain, iova(0x5000n), 0x1000n)
const effectsOf = (outcome: Outcome<unknown>): readonly Effect[] => {
  if (!outcome.ok) throw new Error(outcome.why)
  return outcome.effects
}

describe('a device with a TLB', () => {
  const withTlb = { atsQueueDepth: 7, maxPasids: 16 }

  it('on a host table is told the range that went', () => {
    const machine = machineWith(host, withTlb)
    expect(withoutTables(machine.tell(unmap(machine, host)))).toEqual([
      ...['PAGES 1 5000+1000', 'IOTLB 00:03.0 5000+1000', 'WAIT'],
    ])
  })

  it('on a guest table filed what it asked for without PASID under none', () => {
    for (const policy of [viommuMap, sharedGcr3]) {
      const machine = machineWith(guest, withTlb, undefined, policy)
      expect(withoutTables(machine.tell(unmap(machine, guest)))).toEqual([
        ...['PAGES 3 5000+1000 GN 0', 'IOTLB 00:03.0 5000+1000', 'WAIT'],
      ])
    }
  })

  it('is named by its DeviceID, which is the queue too, with the invalidations that it takes at once', () => {
    for (const domain of [host, guest]) {
      const effects = effectsOf(unmap(machineWith(domain, withTlb), domain))
      const commands = effects.flatMap((each) => (each.kind === 'command' ? [each.command] : []))
      expect(commands.at(-1)).toMatchObject({
        ...{ kind: 'InvalidateIotlbPages', deviceId, queueId: deviceId, maxPending: 7 },
      })
    }
  })

  it('keeps its ATS on from a guest table to a host table: the host knows which PASIDs it used', () => {
    const machine = machineWith(guest, withTlb)
    const lines = machine.tell(machine.driver.replace(deviceId, host))
    expect(lines.filter((line) => line.startsWith('ats'))).toEqual([])
  })
})

describe('several IOMMUs', () => {
  const places = [
    [0x20, 1],
    [0x18, 0],
  ] as const

  it.each([viommuMap, sharedGcr3])('are waited for in order, each once: $letter', (policy) => {
    const machine = machineWith(guest, { atsQueueDepth: 7, maxPasids: 16 }, places, policy)
    const where = effectsOf(unmap(machine, guest)).flatMap((each) =>
      'iommu' in each ? [`${each.kind} ${each.iommu}`] : [],
    )
    expect(where.slice(-2)).toEqual(['wait 0', 'wait 1'])
    expect(where.slice(0, -2).every((each) => each.startsWith('command'))).toBe(true)
    expect(where).toHaveLength(2 + 2 + 2)
  })
})
