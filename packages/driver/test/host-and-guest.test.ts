/** One driver, twice in one machine: the host's on the chip, a guest's on what it is shown as its IOMMU. */
import { iova, spa } from '@nestwalk/bits'
import { domainId, encodeCommand, Iommu } from '@nestwalk/hardware'
import { Driver, runEffects, sharedGcr3, viommuMap, viommuMapLinux73 } from '@nestwalk/driver'
import type { DomainIdPolicy, Effect, Outcome } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { answer, Machine, readWrite } from './machine.js'

const [hostDevice, guestDevice] = [0x18, 0x08]
/** The guest's memory: its driver's pages, then what it maps for its device. */
const [memoryOfGuest, target, bytes] = [0x4000_0000n, 0x4020_0000n, 0x40_0000n]
const page = 0x7000_0000n

/** A guest whose physical addresses are the system's, behind a VMM that does what a VMM must. */
class Guest {
  readonly driver: Driver
  private readonly chip: Iommu
  private nested: number | undefined

  constructor(
    private readonly machine: Machine,
    private readonly viommu: number,
    policy: DomainIdPolicy,
  ) {
    // A chip of its own stands in for the virtual one: it takes the guest's commands, and no device is behind it.
    this.chip = Iommu.create({ memory: machine.memory })
    const made = Driver.create({
      ...{ ports: [this.chip], memory: machine.memory, policy, lastDeviceId: 0x1f },
      pages: { first: spa(memoryOfGuest), pages: 256 },
    })
    if (!made.ok) throw new Error(made.why)
    this.driver = made.value
    this.run(made)
  }

  /** Carries out what the guest's driver wants, and tells the host what it has to know of it. */
  run<T>(outcome: Outcome<T>): T {
    if (!outcome.ok) throw new Error(outcome.why)
    for (const effect of outcome.effects) {
      expect(runEffects(this.driver, [effect], () => this.chip.step())).toBe(0)
      if (effect.kind === 'command') this.trap(effect)
    }
    return outcome.value
  }

  private trap({ command }: Extract<Effect, { kind: 'command' }>): void {
    if (command.kind === 'InvalidateDevtabEntry') this.followEntry()
    if (command.kind !== 'InvalidateIommuPages') return
    const words = [...encodeCommand(command)]
    const { driver } = this.machine
    const answered = this.machine.run(driver.invalidateForGuest(this.viommu, [[words[0]!, words[1]!]]))
    expect(answered).toEqual({ handled: 1, refusal: undefined })
  }

  /** The guest's entry has changed: the device goes onto a nested domain of it, or is blocked. */
  private followEntry(): void {
    const { machine } = this
    const at = this.driver.deviceTable + BigInt(guestDevice * 32)
    const entry = [0n, 8n, 16n, 24n].map((offset) => machine.load(at + offset))
    const last = this.nested
    const isNested = (entry[0]! & 3n) === 3n && ((entry[0]! >> 55n) & 1n) === 1n
    if (isNested) {
      this.nested = machine.run(machine.driver.allocateNested(this.viommu, entry))
      machine.run(machine.driver.attach(hostDevice, this.nested))
    } else {
      this.nested = undefined
      machine.run(machine.driver.detach(hostDevice))
    }
    if (last !== undefined) machine.run(machine.driver.freeDomain(last))
  }
}

function boot(host: DomainIdPolicy, guest: DomainIdPolicy): { machine: Machine; guest: Guest } {
  const machine = Machine.create({ policy: host })
  const { driver } = machine
  machine.run(driver.probe(hostDevice, 1))
  const parent = machine.run(driver.allocateHostTable({ nestParent: true }))
  machine.run(driver.map(parent, iova(memoryOfGuest), spa(memoryOfGuest), bytes, readWrite))
  const viommu = machine.run(driver.createViommu(parent))
  return { machine, guest: new Guest(machine, viommu, guest) }
}

describe.each([
  { host: viommuMap, policy: viommuMap },
  { host: sharedGcr3, policy: viommuMapLinux73 },
  { host: viommuMapLinux73, policy: sharedGcr3 },
])('$host.letter on the host and $policy.letter in the guest', ({ host, policy }) => {
  const dma = (machine: Machine): string =>
    answer(machine.iommu.request({ deviceId: hostDevice, iova: page + 0xabcn }))

  it('the guest maps, attaches, unmaps and detaches, and the device follows', () => {
    const { machine, guest } = boot(host, policy)
    const { driver } = guest
    expect(dma(machine)).toBe('fault')
    guest.run(driver.probe(guestDevice, 1))
    const domain = guest.run(driver.allocateGuestTable())
    guest.run(driver.attach(guestDevice, domain))
    expect(dma(machine)).toBe('fault')
    guest.run(driver.map(domain, iova(page), spa(target), 0x1000n, readWrite))
    expect(dma(machine)).toBe(`translated ${(target + 0xabcn).toString(16)}`)
    guest.run(driver.unmap(domain, iova(page), 0x1000n))
    expect(dma(machine)).toBe('fault')
    guest.run(driver.map(domain, iova(page), spa(target + 0x1000n), 0x1000n, readWrite))
    expect(dma(machine)).toBe(`translated ${(target + 0x1abcn).toString(16)}`)
    guest.run(driver.detach(guestDevice))
    expect(dma(machine)).toBe('fault')
  })

  it('the guest’s DomainID is the guest’s choice, and the entry has the host’s', () => {
    const { machine, guest } = boot(host, policy)
    const { driver } = guest
    guest.run(driver.probe(guestDevice, 1))
    for (let n = 0; n < 6; n++) guest.run(driver.allocateIdentity())
    guest.run(driver.attach(guestDevice, guest.run(driver.allocateGuestTable())))
    const at = (table: bigint, device: number): bigint =>
      machine.load(table + BigInt(device * 32) + 8n) & 0xffffn
    const [asked, given] = [at(driver.deviceTable, guestDevice), at(machine.driver.deviceTable, hostDevice)]
    expect(asked).not.toBe(given)
    const kept = machine.driver.tags.find((tag) => tag.domainId === domainId(Number(given)))
    expect(kept?.tables).toEqual([1])
  })
})

it('both are the same class, with books of their own', () => {
  const { machine, guest } = boot(viommuMap, viommuMap)
  expect(guest.driver.constructor).toBe(machine.driver.constructor)
  const before = machine.driver.snapshot()
  guest.run(guest.driver.allocateHostTable())
  expect(machine.driver.snapshot()).toEqual(before)
})
