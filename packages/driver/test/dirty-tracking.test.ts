import { iova, spa } from '@nestwalk/bits'
import { decodeDte, nestingFeatures } from '@nestwalk/hardware'
import { allGaps, viommuMap } from '@nestwalk/driver'
import type { DomainIdPolicy, Gap, Mutant } from '@nestwalk/driver'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { guestEntry } from './guest-entry.js'
import { mapForGuest } from './guest-tables.js'
import { Machine, readWrite } from './machine.js'
import type { MachineOptions } from './machine.js'
import { runs } from './runs.js'

const deviceId = 0x18
const all = { first: 0n, last: (1n << 64n) - 1n }
const hdSup = 1n << 52n
const haSup = 1n << 49n
/** Host physical address of guest physical address 0. */
const guestMemory = 0x4000_0000n

/** A device, a nest parent for dirty tracking (1) with 1 MiB of guest memory, a vIOMMU (1), a nested domain (2). */
function machineFor(options: MachineOptions = {}): Machine {
  const machine = Machine.create(options)
  const { driver } = machine
  machine.run(driver.probe(deviceId, 1))
  machine.run(driver.allocateHostTable({ nestParent: true, dirtyTracking: true }))
  // One by one, so that each page has a mark of its own.
  for (let at = 0n; at < 0x20000n; at += 0x1000n) {
    machine.run(driver.map(1, iova(at), spa(guestMemory + at), 0x1000n, readWrite))
  }
  machine.run(driver.createViommu(1))
  machine.run(driver.allocateNested(1, guestEntry(5)))
  return machine
}
const [parent, nested] = [1, 2]

const withGaps = (...gaps: Gap[]): DomainIdPolicy => ({ ...viommuMap, gaps: new Set(gaps) })

/** First addresses of the pages with marks. */
const dirtyPages = (machine: Machine, clears = true): bigint[] =>
  machine.run(machine.driver.readDirty(parent, all, { clears })).map(({ first }) => first)

const write = (machine: Machine, address: bigint): string =>
  machine.iommu.request({ deviceId, iova: address, write: true }).kind

const hadOf = (machine: Machine, id = deviceId): number =>
  decodeDte(BigUint64Array.from([...machine.entry(id)])).hostAccessDirty

describe('what the rules are', () => {
  const lacking = { features: { ...nestingFeatures, efr: nestingFeatures.efr & ~hdSup } }

  it('a domain for dirty tracking needs an IOMMU that can mark', () => {
    for (const missing of [hdSup, haSup]) {
      const machine = Machine.create({
        features: { ...nestingFeatures, efr: nestingFeatures.efr & ~missing },
      })
      const allocate = () => machine.driver.allocateHostTable({ dirtyTracking: true })
      expect(machine.refusal(allocate)).toBe('EOPNOTSUPP dirty-tracking-unsupported')
    }
  })

  it('tracking and reading need a domain that was allocated for it', () => {
    const machine = machineFor()
    const { driver } = machine
    const other = machine.run(driver.allocateHostTable())
    const guest = machine.run(driver.allocateGuestTable())
    for (const domain of [other, guest, nested]) {
      const attempts = [() => driver.setDirtyTracking(domain, true), () => driver.readDirty(domain, all)]
      for (const attempt of attempts) expect(machine.refusal(attempt)).toBe('EOPNOTSUPP no-dirty-tracking')
    }
    expect(machine.refusal(() => driver.readDirty(77, all))).toBe('ENOENT no-such-domain')
    expect(machine.refusal(() => driver.setDirtyTracking(77, true))).toBe('ENOENT no-such-domain')
  })

  /** Two IOMMUs of which the second cannot mark. */
  function mixed(policy: DomainIdPolicy): Machine {
    const machine = Machine.create({ policy, iommus: 2, otherFeatures: lacking.features })
    const { driver } = machine
    machine.run(driver.probe(deviceId, 1, 1))
    machine.run(driver.allocateHostTable({ nestParent: true, dirtyTracking: true }))
    machine.run(driver.createViommu(1, 1))
    machine.run(driver.allocateNested(1, guestEntry(5)))
    return machine
  }

  it('a device behind an IOMMU that cannot mark is refused the domain, and what is nested on it', () => {
    const machine = mixed(viommuMap)
    const { driver } = machine
    const again = () => driver.allocateHostTable({ dirtyTracking: true, iommu: 1 })
    expect(machine.refusal(again)).toBe('EOPNOTSUPP dirty-tracking-unsupported')
    for (const domain of [parent, nested]) {
      expect(machine.refusal(() => driver.attach(deviceId, domain))).toBe('EINVAL cannot-mark-writes')
    }
  })

  it('of Linux 7.3 refuse it the domain alone (U9)', () => {
    const machine = mixed(withGaps('U9'))
    const { driver } = machine
    expect(machine.refusal(() => driver.attach(deviceId, parent))).toBe('EINVAL cannot-mark-writes')
    machine.run(driver.attach(deviceId, nested))
  })
})

describe('the effects of switching, in order', () => {
  it('on: HAD in place, the entry read anew, then every ID of the domain, and one wait', () => {
    const machine = machineFor()
    machine.run(machine.driver.attach(deviceId, parent))
    const before = machine.entry(deviceId)
    const lines = machine.tell(machine.driver.setDirtyTracking(parent, true))
    expect(lines).toEqual(['tables', 'DEVTAB 00:03.0', 'PAGES 1 all PDE', 'WAIT'])
    expect(machine.entry(deviceId)).toEqual([before[0] | (3n << 7n), ...before.slice(1)])
    machine.run(machine.driver.setDirtyTracking(parent, false))
    expect(machine.entry(deviceId)).toEqual(before)
  })

  it('of a device with a TLB and an alias: both entries, and the TLB', () => {
    const machine = machineFor()
    const { driver } = machine
    machine.run(driver.probe(0x20, 2, 0, { aliases: [0x28], atsQueueDepth: 8 }))
    machine.run(driver.attach(0x20, parent))
    const lines = machine.tell(driver.setDirtyTracking(parent, true))
    expect(lines).toEqual([
      ...['tables', 'tables', 'DEVTAB 00:04.0', 'DEVTAB 00:05.0', 'IOTLB 00:04.0 all'],
      ...['PAGES 1 all PDE', 'IOTLB 00:04.0 all', 'WAIT'],
    ])
    expect([0x20, 0x28].map((id) => hadOf(machine, id))).toEqual([3, 3])
  })

  it('of a device with an alias under Linux 7.3: the alias is read anew, but stays as it was (U9)', () => {
    const machine = machineFor({ policy: withGaps('U9') })
    const { driver } = machine
    machine.run(driver.probe(0x20, 2, 0, { aliases: [0x28] }))
    machine.run(driver.attach(0x20, parent))
    expect(machine.tell(driver.setDirtyTracking(parent, true))).toEqual([
      ...['tables', 'DEVTAB 00:04.0', 'DEVTAB 00:05.0', 'PAGES 1 all PDE', 'WAIT'],
    ])
    expect([0x20, 0x28].map((id) => hadOf(machine, id))).toEqual([3, 0])
  })

  it('of a domain that its devices have left: none', () => {
    const machine = machineFor()
    const { driver } = machine
    machine.run(driver.attach(deviceId, parent))
    machine.run(driver.detach(deviceId))
    expect(machine.tell(driver.setDirtyTracking(parent, true))).toEqual([])
  })

  it('of a domain without devices: none, and devices that come later take it from the domain', () => {
    const machine = machineFor()
    const { driver } = machine
    expect(machine.tell(driver.setDirtyTracking(parent, true))).toEqual([])
    for (const domain of [parent, nested]) {
      machine.run(driver.attach(deviceId, domain))
      expect(hadOf(machine)).toBe(3)
    }
    machine.run(driver.setDirtyTracking(parent, false))
    expect(hadOf(machine)).toBe(0)
  })

  it('to what it is already: none', () => {
    const machine = machineFor()
    machine.run(machine.driver.attach(deviceId, parent))
    expect(machine.tell(machine.driver.setDirtyTracking(parent, false))).toEqual([])
    machine.run(machine.driver.setDirtyTracking(parent, true))
    expect(machine.tell(machine.driver.setDirtyTracking(parent, true))).toEqual([])
  })

  it('leaves the entry of a blocked device alone', () => {
    const machine = machineFor({ policy: { ...viommuMap, aliasConflict: 'block' } })
    const { driver } = machine
    machine.run(driver.probe(0x20, 1, 0, { aliases: [0x28] }))
    machine.run(driver.probe(0x30, 1, 0, { aliases: [0x28] }))
    machine.run(driver.allocateIdentity())
    machine.run(driver.attach(0x20, parent))
    machine.run(driver.attach(0x30, 3))
    const before = machine.entry(0x20)
    machine.run(driver.setDirtyTracking(parent, true))
    expect(machine.entry(0x20)).toEqual(before)
  })
})

describe('marks', () => {
  it('are read and cleared with one flush of the pages between the first and the last', () => {
    const machine = machineFor()
    machine.run(machine.driver.attach(deviceId, parent))
    machine.run(machine.driver.setDirtyTracking(parent, true))
    for (const page of [0x3000n, 0x8000n]) write(machine, page)
    const read = machine.driver.readDirty(parent, all)
    expect(read).toMatchObject({
      value: [
        { first: 0x3000n, last: 0x3fffn },
        { first: 0x8000n, last: 0x8fffn },
      ],
    })
    expect(machine.tell(read)).toEqual(['tables', 'tables', 'PAGES 1 0+10000', 'WAIT'])
    expect(machine.tell(machine.driver.readDirty(parent, all))).toEqual([])
  })

  it('stay where they are only looked at, and nothing is flushed', () => {
    const machine = machineFor()
    machine.run(machine.driver.attach(deviceId, parent))
    machine.run(machine.driver.setDirtyTracking(parent, true))
    write(machine, 0x3abcn)
    expect(machine.tell(machine.driver.readDirty(parent, all, { clears: false }))).toEqual([])
    expect([dirtyPages(machine, false), dirtyPages(machine), dirtyPages(machine)]).toEqual([
      [0x3000n],
      [0x3000n],
      [],
    ])
  })

  it('are those of the range alone', () => {
    const machine = machineFor()
    machine.run(machine.driver.attach(deviceId, parent))
    machine.run(machine.driver.setDirtyTracking(parent, true))
    for (const page of [0x3000n, 0x4000n, 0x8000n]) write(machine, page)
    const read = machine.driver.readDirty(parent, { first: 0x4000n, last: 0x7fffn })
    expect(machine.run(read).map(({ first }) => first)).toEqual([0x4000n])
    expect(dirtyPages(machine)).toEqual([0x3000n, 0x8000n])
  })

  it('that were left behind are forgotten when tracking begins anew', () => {
    const machine = machineFor()
    machine.run(machine.driver.attach(deviceId, parent))
    machine.run(machine.driver.setDirtyTracking(parent, true))
    write(machine, 0x3000n)
    machine.run(machine.driver.setDirtyTracking(parent, false))
    expect(dirtyPages(machine, false)).toEqual([0x3000n])
    machine.run(machine.driver.setDirtyTracking(parent, true))
    expect(dirtyPages(machine)).toEqual([])
  })

  it('are not made by reads, nor before tracking is on, nor after it is off', () => {
    const machine = machineFor()
    machine.run(machine.driver.attach(deviceId, parent))
    write(machine, 0x3000n)
    machine.run(machine.driver.setDirtyTracking(parent, true))
    machine.iommu.request({ deviceId, iova: 0x3000n })
    expect(dirtyPages(machine)).toEqual([])
    machine.run(machine.driver.setDirtyTracking(parent, false))
    write(machine, 0x3000n)
    expect(dirtyPages(machine)).toEqual([])
  })

  it('may stand in any of the entries of a large page', () => {
    for (let entry = 0n; entry < 16n; entry++) {
      const machine = machineFor()
      const { driver } = machine
      machine.run(driver.map(parent, iova(0x100000n), spa(0x100000n), 0x10000n, readWrite))
      machine.run(driver.attach(deviceId, parent))
      machine.run(driver.setDirtyTracking(parent, true))
      write(machine, 0x100000n + entry * 0x1000n)
      const read = driver.readDirty(parent, { first: 0x10f000n, last: 0x10ffffn })
      expect(machine.run(read)).toEqual([{ first: 0x100000n, last: 0x10ffffn }])
      expect(dirtyPages(machine)).toEqual([])
    }
  })
})

/** Pages of several sizes, by first address. */
const layout = [
  ...[0x0n, 0x1000n, 0x2000n].map((first) => ({ first, length: 0x1000n, to: 0x10_0000_1000n + 2n * first })),
  { first: 0x4000n, length: 0x4000n, to: 0x10_0001_0000n },
  { first: 0x10000n, length: 0x10000n, to: 0x10_0002_0000n },
  { first: 0x20_0000n, length: 0x20_0000n, to: 0x10_0040_0000n },
  { first: 0x8000_0000n, length: 0x8000_0000n, to: 0x10_8000_0000n },
]

describe('every write is in the next reading (I18)', () => {
  const step = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        page: fc.nat(layout.length - 1),
        offset: fc.bigInt({ min: 0n, max: 0x7fff_ffffn }),
        isWrite: fc.boolean(),
      }),
    },
    { weight: 1, arbitrary: fc.constant('read' as const) },
  )
  const designs: readonly (readonly [string, MachineOptions])[] = [
    ['plain', {}],
    ['with a page-walk cache', { microArchitecture: { pageWalkCache: { kind: 'hashed' } } }],
  ]
  it.each(designs)('whatever is cached: %s', (_name, options) => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const machine = Machine.create(options)
        const { driver } = machine
        machine.run(driver.probe(deviceId, 1))
        machine.run(driver.allocateHostTable({ dirtyTracking: true }))
        for (const { first, length, to } of layout) {
          machine.run(driver.map(parent, iova(first), spa(to), length, readWrite))
        }
        machine.run(driver.attach(deviceId, parent))
        machine.run(driver.setDirtyTracking(parent, true))
        const written = new Set<bigint>()
        const check = (): void => {
          expect(dirtyPages(machine)).toEqual([...written].sort((a, b) => (a < b ? -1 : 1)))
          written.clear()
        }
        for (const each of steps) {
          if (each === 'read') {
            check()
            continue
          }
          const { first, length } = layout[each.page]!
          machine.iommu.request({ deviceId, iova: first + (each.offset % length), write: each.isWrite })
          if (each.isWrite) written.add(first)
        }
        check()
      }),
      { numRuns: runs(25), endOnFailure: true },
    )
  })
})

describe('a second write through a cached entry (S21)', () => {
  const marksTwice = (domain: number, mutants: Mutant[] = []): boolean[] => {
    const machine = machineFor({ mutants: new Set(mutants) })
    const { driver } = machine
    mapForGuest(machine.memory, guestMemory, 0x7000n, 0x5000n)
    machine.run(driver.attach(deviceId, domain))
    machine.run(driver.setDirtyTracking(parent, true))
    const address = domain === parent ? 0x5000n : 0x7000n
    return [1, 2].map(() => {
      expect(write(machine, address)).toBe('translated')
      return dirtyPages(machine).includes(0x5000n)
    })
  }

  it.each([
    ['of a device on the domain', parent],
    ['of a device nested on it', nested],
  ])('%s marks again, for reading flushed it', (_name, domain) => {
    expect(marksTwice(domain)).toEqual([true, true])
  })

  it.each([
    ['of a device on the domain', parent],
    ['of a device nested on it', nested],
  ])('%s is lost without the flush', (_name, domain) => {
    expect(marksTwice(domain, ['S21'])).toEqual([true, false])
  })
})

describe('a nested device that the parent does not list (U9)', () => {
  /** Whether its write is marked; on from blocked or by way of the parent, before tracking begins. */
  function marks(policy: DomainIdPolicy, ...way: number[]): boolean {
    const machine = machineFor({ policy })
    const { driver } = machine
    mapForGuest(machine.memory, guestMemory, 0x7000n, 0x5000n)
    for (const domain of way) machine.run(driver.attach(deviceId, domain))
    machine.run(driver.setDirtyTracking(parent, true))
    expect(write(machine, 0x7000n)).toBe('translated')
    return dirtyPages(machine).includes(0x5000n)
  }

  it('writes without a mark under Linux 7.3, as after a reset', () => {
    expect(marks({ ...viommuMap, gaps: allGaps }, nested)).toBe(false)
    expect(marks(withGaps('U3', 'U9'), nested)).toBe(false)
  })

  it('is marked if it came by way of the parent', () => {
    expect(marks({ ...viommuMap, gaps: allGaps }, parent, nested)).toBe(true)
  })

  it('is marked with the gap closed, whatever is listed', () => {
    expect(marks(withGaps('U3'), nested)).toBe(true)
    expect(marks(viommuMap, nested)).toBe(true)
  })

  it('takes the mark from the domain if it is attached later', () => {
    const machine = machineFor({ policy: { ...viommuMap, gaps: allGaps } })
    machine.run(machine.driver.setDirtyTracking(parent, true))
    machine.run(machine.driver.attach(deviceId, nested))
    expect(hadOf(machine)).toBe(3)
  })
})
