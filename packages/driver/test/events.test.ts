import { decodeEvent, deviceId as asDeviceId, encodeEvent, registers, store64 } from '@nestwalk/hardware'
import type { EventFields } from '@nestwalk/hardware'
import { viommuMap, viommuMapLinux73 } from '@nestwalk/driver'
import type { DomainIdPolicy, Effect, Gap } from '@nestwalk/driver'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { guestEntry } from './guest-entry.js'
import { Machine } from './machine.js'
import type { MachineOptions } from './machine.js'
import { allEvents } from './reports.js'
import { runs } from './runs.js'

const deviceId = 0x18
const [parent, nested] = [1, 2]
const { status, control, eventHead, eventTail, eventLogBase } = registers
const eventLogInt = 2n
const eventOverflow = 1n
const eventLogRun = 8n

/** A device (blocked), a nest parent (1), a vIOMMU (1) and a nested domain (2) under the guest's DomainID 5. */
function machineWith(options: MachineOptions = {}): Machine {
  const machine = Machine.create(options)
  const { driver } = machine
  machine.run(driver.probe(deviceId, 1))
  machine.run(driver.allocateHostTable({ nestParent: true }))
  machine.run(driver.createViommu(1))
  machine.run(driver.allocateNested(1, guestEntry(5)))
  return machine
}

const withGaps = (...gaps: Gap[]): DomainIdPolicy => ({ ...viommuMap, gaps: new Set(gaps) })

const read = (machine: Machine, register: { readonly offset: number }): bigint =>
  machine.iommu.readMmio(register.offset, 8)

/** Makes the device ask for an address that leads nowhere. */
const fault = (machine: Machine, address = 0x5000n): void => {
  expect(machine.iommu.request({ deviceId, iova: address }).kind).toBe('fault')
}

const logAddress = (machine: Machine): bigint => read(machine, eventLogBase) & 0xf_ffff_ffff_f000n

/** Puts an event into the log, in the place of one that the chip has just written. */
function report(machine: Machine, fields: EventFields): readonly bigint[] {
  machine.iommu.request({ deviceId: 0x77, iova: 0n })
  const words = [...encodeEvent(fields)]
  const at = logAddress(machine) + read(machine, eventTail) - 16n
  words.forEach((word, i) => store64(machine.memory, at + BigInt(i * 8), word))
  return words
}

/** An effect on the log in a few words. */
function told(machine: Machine, effect: Effect): string {
  if (effect.kind === 'store') return `clear ${(effect.address - logAddress(machine)).toString(16)}`
  if (effect.kind === 'register') return `${nameOf(effect.offset)} ${effect.value.toString(16)}`
  return effect.kind === 'command' ? effect.command.kind : effect.kind
}

const nameOf = (offset: number): string =>
  Object.entries({ status, control, eventHead }).find(([, register]) => register.offset === offset)?.[0] ??
  '?'

describe('the effects of taking events, in order', () => {
  it('the status first, then each entry is cleared and given back', () => {
    const machine = machineWith()
    machine.run(machine.driver.attach(deviceId, parent))
    fault(machine)
    fault(machine, 0x6000n)
    const taken = machine.driver.takeEvents(0)
    if (!taken.ok) throw new Error(taken.why)
    expect(taken.effects.map((effect) => told(machine, effect))).toEqual([
      ...['status 2', 'clear 0', 'eventHead 10', 'clear 10', 'eventHead 20'],
    ])
    machine.carryOut(taken.effects)
    expect(read(machine, status) & eventLogInt).toBe(0n)
    expect(taken.value.events.map(({ event }) => 'address' in event && event.address)).toEqual([
      0x5000n,
      0x6000n,
    ])
    const base = logAddress(machine)
    expect([0n, 8n, 16n, 24n].map((offset) => machine.load(base + offset))).toEqual([0n, 0n, 0n, 0n])
  })

  it('of a log without events: none', () => {
    const machine = machineWith()
    expect(machine.driver.takeEvents(0)).toMatchObject({
      value: { events: [], isIncomplete: false },
      effects: [],
    })
  })

  it('an event that comes between two of them is found by the next reading', () => {
    const machine = machineWith()
    machine.run(machine.driver.attach(deviceId, parent))
    fault(machine)
    const first = machine.driver.takeEvents(0)
    if (!first.ok) throw new Error(first.why)
    for (let i = 0; i <= first.effects.length; i++) {
      const fork = machine.fork()
      fork.carryOut(first.effects.slice(0, i))
      fault(fork, 0x7000n)
      fork.carryOut(first.effects.slice(i))
      expect(allEvents(fork).map(({ event }) => 'address' in event && event.address)).toEqual([0x7000n])
      expect(read(fork, status) & eventLogInt).toBe(0n)
    }
  })

  it('goes around the end of the ring, again and again', () => {
    const machine = machineWith()
    machine.run(machine.driver.attach(deviceId, parent))
    for (let round = 0n; round < 7n; round++) {
      const addresses = Array.from({ length: 200 }, (_, i) => (round * 200n + BigInt(i)) << 12n)
      for (const address of addresses) fault(machine, address)
      expect(allEvents(machine).map(({ event }) => 'address' in event && event.address)).toEqual(addresses)
    }
  })

  it('waits for an entry that was announced and has not been written', () => {
    const machine = machineWith()
    machine.run(machine.driver.attach(deviceId, parent))
    fault(machine)
    const base = logAddress(machine)
    const words = [machine.load(base), machine.load(base + 8n)]
    store64(machine.memory, base, 0n)
    const early = machine.driver.takeEvents(0)
    expect(early).toMatchObject({ value: { events: [], isIncomplete: true } })
    machine.run(early)
    expect(read(machine, eventHead)).toBe(0n)
    store64(machine.memory, base, words[0]!)
    expect(allEvents(machine).map((each) => each.words)).toEqual([words])
  })

  it('restarts a log that had been full; what was lost stays lost', () => {
    const machine = machineWith()
    machine.run(machine.driver.attach(deviceId, parent))
    for (let i = 0n; i < 600n; i++) fault(machine, i << 12n)
    expect(read(machine, status) & (eventOverflow | eventLogRun)).toBe(eventOverflow)
    const taken = machine.driver.takeEvents(0)
    if (!taken.ok) throw new Error(taken.why)
    const on = read(machine, control)
    const [log, interrupt] = [4n, 8n]
    expect(taken.effects.slice(-5).map((effect) => told(machine, effect))).toEqual([
      `control ${(on & ~log).toString(16)}`,
      `control ${(on & ~log & ~interrupt).toString(16)}`,
      'status 1',
      `control ${(on & ~log).toString(16)}`,
      `control ${on.toString(16)}`,
    ])
    machine.carryOut(taken.effects)
    expect(taken.value.events).toHaveLength(511)
    expect(read(machine, status) & (eventOverflow | eventLogRun)).toBe(eventLogRun)
    fault(machine, 0x9999000n)
    expect(allEvents(machine).map(({ event }) => 'address' in event && event.address)).toEqual([0x9999000n])
  })

  it('takes each event once, whenever it is taken', () => {
    const step = fc.oneof(fc.bigInt({ min: 1n, max: 1n << 20n }), fc.constant('take' as const))
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const machine = machineWith()
        machine.run(machine.driver.attach(deviceId, parent))
        const found: bigint[] = []
        const take = (): void => {
          for (const { event } of allEvents(machine)) if ('address' in event) found.push(event.address)
        }
        for (const each of steps) {
          if (each === 'take') take()
          else fault(machine, each << 12n)
        }
        take()
        expect(found).toEqual(steps.flatMap((each) => (each === 'take' ? [] : [each << 12n])))
      }),
      { numRuns: runs(30) },
    )
  })

  it('of an IOMMU that there is not: ENODEV', () => {
    const machine = machineWith()
    expect(machine.refusal(() => machine.driver.takeEvents(1))).toBe('ENODEV no-such-iommu')
    expect(machine.refusal(() => machine.driver.takePageRequests(7))).toBe('ENODEV no-such-iommu')
  })
})

describe('who hears of a page fault', () => {
  const recipient = (policy: DomainIdPolicy, ...way: number[]): unknown => {
    const machine = machineWith({ policy })
    for (const domain of way) machine.run(machine.driver.attach(deviceId, domain))
    fault(machine)
    const [taken, ...others] = allEvents(machine)
    expect(others).toEqual([])
    expect(decodeEvent(BigUint64Array.of(...taken!.words))).toEqual(taken!.event)
    return taken!.to
  }
  const guest = { kind: 'viommu', viommu: 1, deviceId, guestDomainId: 5 }

  it('the domain that the device is on', () => {
    expect(recipient(viommuMap, parent)).toEqual({ kind: 'domain', domain: parent })
  })

  it('the guest, if the device is nested, however it came there', () => {
    expect(recipient(viommuMap, nested)).toEqual(guest)
    expect(recipient(viommuMap, parent, nested)).toEqual(guest)
    expect(recipient(withGaps('U3', 'U12'), nested)).toEqual(guest)
  })

  it('under Linux 7.3 whichever domain is recorded, or nobody (U13)', () => {
    expect(recipient(viommuMapLinux73, nested)).toEqual({ kind: 'host' })
    expect(recipient(viommuMapLinux73, parent, nested)).toEqual({ kind: 'domain', domain: parent })
  })

  it('the host alone, of a blocked device and of one that nobody knows', () => {
    expect(recipient(viommuMap)).toEqual({ kind: 'host' })
    const machine = machineWith()
    machine.iommu.request({ deviceId: 0x77, iova: 0x5000n })
    expect(allEvents(machine).map(({ to }) => to)).toEqual([{ kind: 'host' }])
  })

  it('nobody but the host, if it is taken while the device is blocked, before another guest has it (I17)', () => {
    const machine = machineWith()
    machine.run(machine.driver.attach(deviceId, nested))
    fault(machine)
    machine.run(machine.driver.detach(deviceId))
    expect(allEvents(machine).map(({ to }) => to)).toEqual([{ kind: 'host' }])
  })

  it('the guest by the device’s own ID, though the request carried an alias', () => {
    const machine = machineWith()
    const { driver } = machine
    machine.run(driver.probe(0x20, 2, 0, { aliases: [0x28] }))
    machine.run(driver.attach(0x20, nested))
    machine.iommu.request({ deviceId: 0x28, iova: 0x5000n })
    expect(allEvents(machine).map(({ to }) => to)).toEqual([{ ...guest, deviceId: 0x20 }])
  })
})

describe('of other events of a nested device the guest hears', () => {
  const fields = { deviceId: asDeviceId(deviceId) }
  const kinds: readonly (readonly [EventFields, 'viommu' | 'host'])[] = [
    [{ kind: 'IllegalDevTableEntry', ...fields }, 'viommu'],
    [{ kind: 'InvalidDeviceRequest', ...fields }, 'viommu'],
    [{ kind: 'DevTabHardwareError', ...fields }, 'host'],
    [{ kind: 'PageTabHardwareError', ...fields }, 'host'],
    [{ kind: 'GuestPageTabHardwareError', ...fields }, 'host'],
    [{ kind: 'IotlbInvTimeout', ...fields }, 'host'],
    [{ kind: 'IllegalCommandError' }, 'host'],
    [{ kind: 'CommandHardwareError' }, 'host'],
    [{ kind: 'RmpPageFault', ...fields }, 'host'],
  ]
  it.each(kinds)('$kind: %s', (event, kind) => {
    const machine = machineWith()
    machine.run(machine.driver.attach(deviceId, nested))
    const words = report(machine, event)
    const [taken] = allEvents(machine)
    expect(taken).toMatchObject({ words, event: { kind: event.kind }, to: { kind } })
  })
})
