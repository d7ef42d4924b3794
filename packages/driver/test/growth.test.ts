import { iova, spa } from '@nestwalk/bits'
import { decodeDte } from '@nestwalk/hardware'
import type { Dte } from '@nestwalk/hardware'
import { viommuMap } from '@nestwalk/driver'
import type { Gap } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { guestEntry } from './guest-entry.js'
import { mapForGuest } from './guest-tables.js'
import { Machine, readWrite, withoutTables } from './machine.js'

const deviceId = 0x18
const guestMemory = 0x4000_0000n
const high = 1n << 39n
const [parent, nested, other] = [1, 2, 3]

/** A device, a nest parent (1) with guest memory, a nested domain (2), another host table (3). */
function machineWith(gaps: readonly Gap[], ...way: number[]): Machine {
  const machine = Machine.create({ policy: { ...viommuMap, gaps: new Set(gaps) } })
  const { driver } = machine
  machine.run(driver.probe(deviceId, 1))
  machine.run(driver.allocateHostTable({ nestParent: true }))
  machine.run(driver.map(parent, iova(0n), spa(guestMemory), 0x100000n, readWrite))
  machine.run(driver.createViommu(1))
  machine.run(driver.allocateNested(1, guestEntry(5)))
  machine.run(driver.allocateHostTable())
  mapForGuest(machine.memory, guestMemory, 0x7000n, 0x5000n)
  for (const domain of way) machine.run(driver.attach(deviceId, domain))
  return machine
}

const entryOf = (machine: Machine): Dte => decodeDte(BigUint64Array.from([...machine.entry(deviceId)]))

/** Maps above what the table reaches, and tells what that took. */
const grow = (machine: Machine): string[] =>
  withoutTables(machine.tell(machine.driver.map(parent, iova(high), spa(0x9000n), 0x1000n, readWrite)))

/** Where the device's address leads now. */
function leadsTo(machine: Machine, address: bigint): string {
  const answer = machine.iommu.request({ deviceId, iova: address })
  return answer.kind === 'translated' ? answer.spa.toString(16) : answer.kind
}

const rewrite = ['00:03.0 upper', '00:03.0 lower', 'DEVTAB 00:03.0', 'WAIT', 'DEVTAB 00:03.0', 'WAIT']

describe('the effects of growth, in order', () => {
  it('of a device on the table: its entry, the pages of the ID that stood there, the entry once more', () => {
    expect(grow(machineWith([], parent))).toEqual([
      ...rewrite,
      ...['PAGES 1 all PDE', 'WAIT', 'DEVTAB 00:03.0', 'WAIT'],
    ])
  })

  it('of two devices: each by itself, then one wait for both', () => {
    const machine = machineWith([], parent)
    machine.run(machine.driver.probe(0x20, 2))
    machine.run(machine.driver.attach(0x20, parent))
    const second = rewrite.map((line) => line.replace('00:03.0', '00:04.0'))
    expect(grow(machine)).toEqual([
      ...[...rewrite, 'PAGES 1 all PDE', 'WAIT', ...second, 'PAGES 1 all PDE', 'WAIT'],
      ...['DEVTAB 00:03.0', 'DEVTAB 00:04.0', 'WAIT'],
    ])
  })

  it('of a device with a TLB and an alias: both entries, the TLB, and all of it once more', () => {
    const machine = machineWith([])
    const { driver } = machine
    machine.run(driver.probe(0x20, 2, 0, { aliases: [0x28], atsQueueDepth: 8 }))
    machine.run(driver.attach(0x20, parent))
    const change = (name: string): string[] => [`${name} upper`, `${name} lower`, `DEVTAB ${name}`, 'WAIT']
    const flush = ['DEVTAB 00:04.0', 'DEVTAB 00:05.0', 'IOTLB 00:04.0 all', 'WAIT']
    expect(grow(machine)).toEqual([
      ...[...change('00:04.0'), ...change('00:05.0'), ...flush, 'PAGES 1 all PDE', 'WAIT'],
      ...[...change('00:05.0'), ...flush],
    ])
    expect(machine.entry(0x28)).toEqual(machine.entry(0x20))
  })

  it('of a table without devices: none', () => {
    expect(grow(machineWith([]))).toEqual([])
  })

  it('the new top leads to the old one before any entry names it, and the mapping comes last', () => {
    const machine = machineWith([], parent)
    const grown = machine.driver.map(parent, iova(high), spa(0x9000n), 0x1000n, readWrite)
    if (!grown.ok) throw new Error(grown.why)
    for (const effect of grown.effects) {
      machine.carryOut([effect])
      expect(leadsTo(machine, 0x5000n)).toBe('40005000')
    }
    expect(leadsTo(machine, high)).toBe('9000')
  })
})

describe('a nested device when its parent grows (S09)', () => {
  const ways: readonly (readonly [string, number[]])[] = [
    ['from blocked (state B)', [nested]],
    ['by way of the parent (state P)', [parent, nested]],
    ['by way of another table (state O)', [other, nested]],
  ]

  it.each(ways)('keeps its guest tables and reaches the new range: %s', (_name, way) => {
    for (const gaps of [[], ['U3'], ['U3', 'U12']] as const) {
      const machine = machineWith(gaps, ...way)
      const before = entryOf(machine)
      expect(leadsTo(machine, 0x7000n)).toBe('40005000')
      grow(machine)
      const domain = machine.driver.domain(parent)
      if (domain?.kind !== 'host-table') throw new Error('no host table')
      expect(entryOf(machine)).toEqual({ ...before, mode: 4, hostRoot: domain.root })
      expect(leadsTo(machine, 0x7000n)).toBe('40005000')
      mapForGuest(machine.memory, guestMemory, 0x8000n, high)
      expect(leadsTo(machine, 0x8000n)).toBe('9000')
    }
  })

  it('loses its guest tables under Linux 7.3 if it is listed (U7)', () => {
    const machine = machineWith(['U3', 'U7', 'U8'], parent, nested)
    expect(grow(machine)).toEqual([
      ...['00:03.0 lower', '00:03.0 upper', ...rewrite.slice(2)],
      ...['PAGES 2 all PDE', 'WAIT', 'DEVTAB 00:03.0', 'WAIT'],
    ])
    expect(entryOf(machine)).toMatchObject({ guestValid: false, domainId: 1, mode: 4 })
    // The guest virtual address is taken for a guest physical one.
    expect(leadsTo(machine, 0x7000n)).toBe('40007000')
  })

  it('keeps the old top under Linux 7.3 if it is not listed (U8)', () => {
    for (const way of [[nested], [other, nested]]) {
      const machine = machineWith(['U3', 'U7', 'U8'], ...way)
      const before = machine.entry(deviceId)
      expect(grow(machine)).toEqual([])
      expect(machine.entry(deviceId)).toEqual(before)
      expect(leadsTo(machine, 0x7000n)).toBe('40005000')
      mapForGuest(machine.memory, guestMemory, 0x8000n, high)
      expect(leadsTo(machine, 0x8000n)).toBe('fault')
    }
  })

  it('keeps its guest tables with U7 closed alone, and reaches the new range with U8 closed alone', () => {
    const seven = machineWith(['U3', 'U8'], parent, nested)
    grow(seven)
    expect(leadsTo(seven, 0x7000n)).toBe('40005000')
    const eight = machineWith(['U3', 'U7'], nested)
    grow(eight)
    mapForGuest(eight.memory, guestMemory, 0x8000n, high)
    expect(leadsTo(eight, 0x8000n)).toBe('9000')
  })

  it('is put on a table that it left if that one still lists it (U7 with U12)', () => {
    const machine = machineWith(['U3', 'U7', 'U8', 'U12'], other, nested)
    machine.run(machine.driver.map(other, iova(high), spa(0x9000n), 0x1000n, readWrite))
    expect(entryOf(machine)).toMatchObject({ guestValid: false, domainId: 3 })
  })

  it('is left alone by the growth of a table that still lists it, unless U7 is open', () => {
    const growOther = (...gaps: Gap[]): [string[], boolean] => {
      const machine = machineWith(['U3', 'U12', ...gaps], other, nested)
      const grown = machine.driver.map(other, iova(high), spa(0x9000n), 0x1000n, readWrite)
      return [withoutTables(machine.tell(grown)).slice(0, 2), entryOf(machine).guestValid]
    }
    expect(growOther()).toEqual([[], true])
    expect(growOther('U8')).toEqual([[], true])
    expect(growOther('U7')).toEqual([['00:03.0 lower', '00:03.0 upper'], false])
  })

  it('is reached by an unmap after U7, for its tag is the parent’s now', () => {
    const machine = machineWith(['U3', 'U7', 'U8'], parent, nested)
    grow(machine)
    expect(leadsTo(machine, 0x7000n)).toBe('40007000')
    machine.run(machine.driver.unmap(parent, iova(0n), 0x100000n))
    expect(leadsTo(machine, 0x7000n)).toBe('fault')
  })
})
