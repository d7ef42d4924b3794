import { iova, parseHex, spa, wordsFromHex } from '@nestwalk/bits'
import { decodeDte } from '@nestwalk/hardware'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import vectors from '@nestwalk/hardware/vectors/dte.json' with { type: 'json' }
import { Machine, readWrite } from './machine.js'
import type { Entry, MachineOptions } from './machine.js'
import { runs } from './runs.js'

const deviceId = 0x18

const vector = (name: string): BigUint64Array =>
  wordsFromHex(vectors.vectors.find((each) => each.name === name)!.words)

const fields = (words: Iterable<bigint>): ReturnType<typeof decodeDte> =>
  decodeDte(BigUint64Array.from([...words]))

/** A machine with one probed device, on which the next DomainID is `nextId`. */
function machineWith(nextId: number, options: MachineOptions = {}): Machine {
  const machine = Machine.create(options)
  machine.run(machine.driver.probe(deviceId, 1))
  for (let id = 1; id < nextId; id++) machine.run(machine.driver.allocateIdentity())
  return machine
}

/** Makes what `work` makes with the driver's pages moved so that the page it answers comes to lie at `address`. */
function placed(nextId: number, address: bigint, work: (machine: Machine) => bigint): Machine {
  const first = 0x1_0000_0000n
  const range = (from: bigint): MachineOptions => ({ pages: { first: spa(from), pages: 64 } })
  const found = work(machineWith(nextId, range(first)))
  const machine = machineWith(nextId, range(first + address - found))
  expect(work(machine)).toBe(address)
  return machine
}

/** A host table with four levels as the last domain, and the device attached to it; answers its root. */
function fourLevels(machine: Machine): bigint {
  const number = machine.run(machine.driver.allocateHostTable({ nestParent: true }))
  machine.run(machine.driver.map(number, iova(1n << 40n), spa(0n), 0x1000n, readWrite))
  machine.run(machine.driver.attach(deviceId, number))
  const domain = machine.driver.domain(number)
  if (domain?.kind !== 'host-table') throw new Error('no host table')
  return domain.root
}

/** The device's entry on a nested domain over the host table of D3, under a DomainID. */
function nestedEntryOf(guestEntry: Iterable<bigint>, hostDomainId: number): Entry {
  const machine = placed(hostDomainId - 1, 0x1_0020_0000n, fourLevels)
  const parent = machine.driver.device(deviceId)!.domain
  if (parent.kind !== 'host-table') throw new Error('no host table')
  const viommu = machine.run(machine.driver.createViommu(parent.number))
  const nested = machine.run(machine.driver.allocateNested(viommu, [...guestEntry]))
  machine.run(machine.driver.attach(deviceId, nested))
  return machine.entry(deviceId)
}

describe('the entries of the hardware reference, as domains make them', () => {
  it('D2: guest tables for requests without PASID; ours have a GCR3 table of one level', () => {
    const machine = placed(0x41, 0x1234_5678_9000n, (each) => {
      const number = each.run(each.driver.allocateGuestTable({ levels: 4 }))
      each.run(each.driver.attach(deviceId, number))
      return each.driver.gcr3Tables[0]!.root
    })
    expect(fields(machine.entry(deviceId))).toEqual({ ...fields(vector('D2')), gcr3Levels: 0 })
  })

  it('D3: a host table of four levels', () => {
    const machine = placed(7, 0x1_0020_0000n, fourLevels)
    expect(machine.entry(deviceId)).toEqual([...vector('D3')])
  })

  it('D4: the guest entry G1 on the host table of D3, but for ATS', () => {
    const { guest, parent, hostDomainId, result } = vectors.nested
    expect([parseHex(parent.mode), parseHex(parent.hostRoot)]).toEqual([4n, 0x1_0020_0000n])
    const entry = nestedEntryOf(vector(guest), Number(parseHex(hostDomainId)))
    expect(fields(entry)).toEqual({ ...fields(vector(result)), iotlbEnabled: false })
  })

  it('D5: a GCR3 root of all ones and five guest levels, but for HAD', () => {
    const wanted = fields(vector('D5'))
    // What a guest writes for it: no host table.
    const guest = vector('D5')
    guest[0] = guest[0]! & ~0xffff_ffff_ff80n
    const entry = nestedEntryOf(guest, 0x44)
    expect(fields(entry)).toEqual({ ...wanted, hostAccessDirty: 0 })
  })

  it('D6: identity', () => {
    const machine = machineWith(1)
    machine.run(machine.driver.attach(deviceId, machine.run(machine.driver.allocateIdentity())))
    expect(machine.entry(deviceId)).toEqual([...vector('D6')])
  })

  it('D7: blocked, when probed and when detached', () => {
    const machine = machineWith(2)
    expect(machine.entry(deviceId)).toEqual([...vector('D7')])
    machine.run(machine.driver.attach(deviceId, 1))
    machine.run(machine.driver.detach(deviceId))
    expect(machine.entry(deviceId)).toEqual([...vector('D7')])
  })

  it('five-level guest tables have GuestPagingMode 1', () => {
    const machine = machineWith(1)
    machine.run(
      machine.driver.attach(deviceId, machine.run(machine.driver.allocateGuestTable({ levels: 5 }))),
    )
    expect(fields(machine.entry(deviceId)).guestPagingMode).toBe(1)
  })
})

/** The bits of a guest's entry that may reach the host's: PPR, GIoV, GLX, the GCR3 root, GuestPagingMode. */
const passed: Entry = [
  (1n << 52n) | (1n << 54n) | (0x1fn << 56n),
  (0xffffn << 16n) | (0x1fffffn << 43n),
  3n << 54n,
  0n,
]
/** Mode and host root must be zero, or there is no domain. */
const mustBeZero = 0xffff_ffff_fe00n | (0xfn << 48n)

describe('nothing of the guest entry but GLX, GCR3 root, GIoV, PPR and GuestPagingMode reaches the host entry (I14)', () => {
  const guest = [...vector('G1')]

  function hostEntryOf(words: readonly bigint[], machine = freshMachine()): Entry {
    const { driver } = machine
    const nested = machine.run(driver.allocateNested(1, words))
    machine.run(driver.attach(deviceId, nested))
    const entry = machine.entry(deviceId)
    machine.run(driver.attach(deviceId, 1))
    machine.run(driver.freeDomain(nested))
    return entry
  }

  function freshMachine(): Machine {
    const machine = machineWith(1)
    const parent = machine.run(machine.driver.allocateHostTable({ nestParent: true }))
    machine.run(machine.driver.createViommu(parent))
    machine.run(machine.driver.attach(deviceId, parent))
    return machine
  }

  it('every other bit, flipped alone', () => {
    const machine = freshMachine()
    const before = hostEntryOf(guest, machine)
    for (let bit = 0; bit < 256; bit++) {
      const [word, mask] = [bit >> 6, 1n << BigInt(bit & 63)]
      if ((passed[word]! & mask) !== 0n || (word === 0 && (mustBeZero & mask) !== 0n)) continue
      const flipped = guest.map((each, i) => (i === word ? each ^ mask : each))
      expect([bit, hostEntryOf(flipped, machine)]).toEqual([bit, before])
    }
  })

  it('any others together', () => {
    const machine = freshMachine()
    const word = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })
    fc.assert(
      fc.property(fc.tuple(word, word, word, word), (noise) => {
        const others = noise.map((each, i) => each & ~passed[i]! & ~(i === 0 ? mustBeZero : 0n))
        const mixed = guest.map((each, i) => (each & passed[i]!) | others[i]!)
        expect(hostEntryOf(mixed, machine)).toEqual(hostEntryOf(guest, machine))
      }),
      { numRuns: runs(50) },
    )
  })

  it('and what may reach it, does, bit by bit', () => {
    const machine = freshMachine()
    const before = hostEntryOf(guest, machine)
    for (let bit = 0; bit < 256; bit++) {
      const [word, mask] = [bit >> 6, 1n << BigInt(bit & 63)]
      // GLX is 1, so its upper bit would make the reserved 3; GuestPagingMode 2 is reserved.
      if ((passed[word]! & mask) === 0n || bit === 57 || bit === 183) continue
      const flipped = guest.map((each, i) => (i === word ? each ^ mask : each))
      const wanted = before.map((each, i) => (i === word ? each ^ mask : each))
      expect([bit, hostEntryOf(flipped, machine)]).toEqual([bit, wanted])
    }
  })

  it("GV, V, TV, IR and IW are the host's: a guest entry of zeros still makes a nested entry", () => {
    const { valid, translationValid, guestValid, readAllowed, writeAllowed } = fields(
      hostEntryOf([0n, 0n, 0n, 0n]),
    )
    expect([valid, translationValid, guestValid, readAllowed, writeAllowed]).toEqual(Array(5).fill(true))
  })
})
