/** Guests that write anything anywhere: they reach what their maps hold, and nothing else; and forks of all that. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { SparseMemory } from '../src/index.js'
import { register } from './chip.js'
import { behind, guestDte, guestSpa, onControl, page, privateAt, ring, ringOn } from './virtual-rig.js'
import { translateDevice, vfc, virtualControl, VirtualRig } from './virtual-rig.js'
import type { Pair } from './virtual-rig.js'
import { Random } from './slow/random.js'

/** Far more than it takes: these run beside other tests. */
const timeout = 120_000

/** Host's devices 10h to 17h with domains 20h to 27h; guest 1 has the first two of each, guest 2 the next two. */
const hostDevices = [0, 1, 2, 3, 4, 5, 6, 7].map((n) => 0x10 + n)
const domainOf = (deviceId: number): number => deviceId + 0x10
const ofGuest = (guestId: number): number[] => hostDevices.slice(guestId * 2 - 2, guestId * 2)

function sharedRig(control = onControl, unmappedGuestId: 'halts' | 'skipped' = 'skipped'): VirtualRig {
  const rig = VirtualRig.create({ control, choices: { unmappedGuestId } })
  for (const guestId of [1, 2]) {
    rig.addGuest(guestId)
    ofGuest(guestId).forEach((deviceId, n) => {
      rig.mapDevice(guestId, 0x10 + n, deviceId)
      rig.mapDomain(guestId, 0x20 + n, domainOf(deviceId))
    })
  }
  for (const deviceId of hostDevices) rig.setDte(deviceId, guestDte(1, 0, domainOf(deviceId)))
  return rig
}

function warm(rig: VirtualRig): void {
  for (const deviceId of hostDevices) rig.touch(deviceId, 0x1000n)
}

/** Devices and domains of the host that guest 1 has nothing to do with. */
function others(rig: VirtualRig): unknown {
  const foreign = hostDevices.filter((deviceId) => !ofGuest(1).includes(deviceId))
  return {
    domains: rig.cachedDomains().filter((domainId) => foreign.includes(domainId - 0x10)),
    devices: rig.cachedDevices().filter((deviceId) => foreign.includes(deviceId)),
    memory: [0x1000n, 0x42000n].map((gpa) => rig.load(guestSpa(2, gpa))),
    registers: Object.values(vfc).map((offset) => rig.readControl(2, offset)),
    page: Object.values(page).map((offset) => rig.page(2, offset)),
  }
}

const id = fc.oneof(fc.integer({ min: 0x0e, max: 0x2a }), fc.nat(0xffff))
const noise = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })
const code = fc.bigInt({ min: 0n, max: 15n })
/** Commands that look like some, and noise. */
const command: fc.Arbitrary<Pair> = fc.oneof(
  fc.tuple(noise, noise),
  fc
    .tuple(
      code,
      id,
      id,
      fc.constantFrom(0n, 0n, 1n, 4n, 0x7ffffffffffff003n),
      fc.constantFrom(0n, 0n, 3n, 1n << 31n),
    )
    .map(([opcode, low, high, hi, bits]): Pair => [
      (opcode << 60n) | (BigInt(high) << 32n) | BigInt(low) | bits,
      hi,
    ]),
  fc.tuple(code, noise, id).map(([opcode, hi, low]): Pair => [(opcode << 60n) | BigInt(low), hi]),
)

function drainMessages(rig: VirtualRig): number[] {
  const named: number[] = []
  for (let message = rig.parts.devices.take(); message !== undefined; message = rig.parts.devices.take()) {
    named.push(message.deviceId)
    if (message.kind === 'invalidate') rig.parts.devices.complete(message.deviceId, message.tag)
  }
  return named
}

describe('a guest that writes what it likes into its ring', () => {
  it.each([onControl, onControl | virtualControl.guestBuffersNested])(
    'touches what its maps hold, and nothing else: control %d',
    { timeout },
    (control) => {
      const start = sharedRig(control)
      warm(start)
      fc.assert(
        fc.property(fc.array(command, { minLength: 1, maxLength: 40 }), (commands) => {
          const rig = start.fork()
          const before = others(rig)
          for (const each of commands) {
            rig.command(1, each)
            rig.memory.words.activate()
            for (const deviceId of drainMessages(rig)) expect(ofGuest(1)).toContain(deviceId)
            if ((rig.page(1, page.status) & 0x10n) === 0n) rig.restart(1)
          }
          expect(others(rig)).toEqual(before)
        }),
        { numRuns: 300 },
      )
    },
  )

  it('gives the host’s commands no ID but those in its maps', { timeout }, () => {
    const start = sharedRig()
    fc.assert(
      fc.property(command, (each) => {
        const rig = start.fork()
        rig.enqueue(1, each)
        rig.virtual.stepGuest(1, {
          asker: -1,
          carryOut: (w0, w1) => {
            const opcode = w1 >>> 28
            expect([2, 3, 4, 5, 6, 7]).toContain(opcode)
            if (opcode === 3) expect(ofGuest(1).map(domainOf)).toContain(w1 & 0xffff)
            else expect(ofGuest(1)).toContain(w0 & 0xffff)
            if (opcode === 4) expect(w1 & 0xffff).toBe(w0 & 0xffff)
            return 0
          },
        })
      }),
      { numRuns: 2000 },
    )
  })

  it('stores into its own memory alone', { timeout }, () => {
    const start = sharedRig()
    const gpa = fc.bigInt({ min: 0n, max: (1n << 52n) - 1n }).map((address) => address & ~7n)
    const near = fc.bigInt({ min: 0n, max: 0x1fffffn }).map((address) => address & ~7n)
    fc.assert(
      fc.property(fc.oneof(gpa, near), (address) => {
        const rig = start.fork()
        rig.command(1, [0x1000000000000001n | address, 0x55n])
        const isMapped = address < 0x100000n
        expect(rig.load(guestSpa(1, address & 0xfffff8n))).toBe(isMapped ? 0x55n : 0n)
        if (address < 2n ** 40n) expect(rig.load(address)).not.toBe(0x55n)
        expect(rig.page(1, page.status) & 0x10n).toBe(isMapped ? 0x10n : 0n)
      }),
      { numRuns: 300 },
    )
  })
})

const wildOffset = (random: Random, each: number): number =>
  random.below(4) * each + (random.chance(0.9) ? random.below(each / 8) * 8 : random.below(each))

/** Addresses that lie somewhere, bits that mean something, and noise. */
function wild(random: Random): bigint {
  switch (random.below(5)) {
    case 0:
      return random.bits(64)
    case 1:
      return 1n << BigInt(random.below(64))
    case 2:
      return 0x8000000000000001n | (random.bits(4) << 46n) | (random.bits(5) << 14n)
    case 3:
      return (random.bits(8) << 12n) | 0x100n | random.bits(4) | 8n | (random.bits(6) << 10n)
    default:
      return random.bits(12)
  }
}

describe('a hardware vIOMMU under hostile software', () => {
  it.each([1, 2, 3])('goes on: registers, rings, maps and tables at random, seed %d', { timeout }, (seed) => {
    const random = new Random(seed)
    let rig = sharedRig(onControl, random.pick(['halts', 'skipped']))
    const spots = [privateAt.commands(1), privateAt.domains(1), privateAt.devices(1), privateAt.events(1)]
    const outcomes = new Set<boolean>()
    for (let n = 0; n < 6000; n++) {
      const guestId = random.below(4)
      const what = random.below(100)
      if (what < 15) rig.virtual.writeVf(wildOffset(random, 4096), random.pick([4, 8]), wild(random))
      else if (what < 25)
        rig.virtual.writeVfControl(wildOffset(random, 64), random.pick([4, 8]), wild(random))
      else if (what < 30) rig.virtual.readVf(wildOffset(random, 4096), random.pick([4, 8]))
      else if (what < 35) rig.virtual.readVfControl(wildOffset(random, 64), random.pick([4, 8]))
      else if (what < 50) {
        const lo = (BigInt(random.below(16)) << 60n) | (random.bits(6) << 32n) | random.bits(6)
        rig.put([behind(random.pick(spots)) + random.bits(9) * 8n, random.chance(0.5) ? lo : random.bits(64)])
      } else if (what < 52) rig.put([0x9000000n + random.bits(14) * 8n, random.bits(64)])
      else if (what < 53) {
        const [q0 = 0n, q1 = 0n] = guestDte(guestId, 1, 0x20)
        const deviceId = random.chance(0.5) ? translateDevice(guestId) : random.below(0x20)
        rig.setDte(deviceId, [q0 ^ random.some(0.3, 0x7fn), q1, 0n, random.bits(64)])
      } else if (what < 54) rig.writeMmio(register.control, random.chance(0.9) ? onControl : random.bits(64))
      else if (what < 60)
        rig.virtual.routeEvent(
          rig.slot(random.below(0x20)),
          Int32Array.from([1, 2, 3, 4], () => random.next()),
        )
      else if (what < 66)
        rig.virtual.routePageRequest(rig.slot(random.below(0x20)), random.next(), random.next(), 0, 0)
      else if (what < 68) rig.virtual.insertGuestEvent(guestId)
      else if (what < 69) rig.virtual.resetVmmio(guestId, random.chance(0.2), random.chance(0.5))
      else if (what < 71) {
        rig.control(guestId, vfc.command, random.bits(8))
        rig.control(guestId, vfc.command, ring.commands | ringOn)
        rig.setPage(guestId, page.commandTail, random.bits(12))
      } else if (what < 73) drainMessages(rig)
      else if (what < 74) rig = rig.fork()
      else if (what < 76) rig.virtual.takeGuestInterrupt()
      else outcomes.add(rig.step(guestId))
      expect(rig.virtual.guestIds().length).toBeLessThanOrEqual(64)
    }
    expect(outcomes).toEqual(new Set([true, false]))
  })
})

describe('a fork', () => {
  const operation = fc.oneof(
    command.map((each) => (rig: VirtualRig) => String(rig.command(1, each))),
    fc.tuple(id, id, fc.boolean()).map(([from, to, isValid]) => (rig: VirtualRig) => {
      rig.mapDomain(2, from, to, isValid)
      return ''
    }),
    fc.tuple(fc.constantFrom(...Object.values(page)), noise).map(([offset, value]) => (rig: VirtualRig) => {
      rig.setPage(3, offset, value)
      return String(rig.page(3, offset))
    }),
    fc.nat(7).map((n) => (rig: VirtualRig) => {
      const event = Int32Array.of(0x10 + n, 0x20000020 + n, n, 0)
      return String(rig.virtual.routeEvent(rig.slot(0x10 + n), event))
    }),
    fc.constant((rig: VirtualRig) => {
      rig.virtual.resetVmmio(3, false, true)
      return String(rig.virtual.guestIds())
    }),
  )
  const program = fc.array(operation, { maxLength: 12 })

  it('goes its own way, and so does the machine, each as if it had been alone', { timeout }, () => {
    const start = sharedRig()
    fc.assert(
      fc.property(program, program, program, (before, ofRig, ofFork) => {
        const run = (...parts: (typeof before)[]): { rig: VirtualRig; seen: string[] } => {
          const rig = start.fork()
          return { rig, seen: parts.flat().map((each) => each(rig)) }
        }
        const { rig, seen } = run(before)
        const fork = rig.fork()
        const seenByFork = [...seen]
        for (let n = 0; n < Math.max(ofRig.length, ofFork.length); n++) {
          for (const each of ofRig.slice(n, n + 1)) seen.push(each(rig))
          for (const each of ofFork.slice(n, n + 1)) seenByFork.push(each(fork))
        }
        const alone = run(before, ofRig)
        const aloneFork = run(before, ofFork)
        expect([seen, rig.fingerprint()]).toEqual([alone.seen, alone.rig.fingerprint()])
        expect([seenByFork, fork.fingerprint()]).toEqual([aloneFork.seen, aloneFork.rig.fingerprint()])
      }),
      { numRuns: 60 },
    )
  })

  it('shares no places for guests: as many fit in each', () => {
    const rig = VirtualRig.create({ guests: 1 })
    const fork = rig.fork()
    rig.control(1, vfc.misc, 0x10000n)
    fork.control(2, vfc.misc, 0x20000n)
    expect([rig.virtual.guestIds(), fork.virtual.guestIds()]).toEqual([[1], [2]])
    expect([rig.virtual.hasRefusedGuest, fork.virtual.hasRefusedGuest]).toEqual([false, false])
  })

  it('is equal to a machine that took another way to the same state', () => {
    const make = (...guestIds: number[]): string => {
      const rig = VirtualRig.create()
      for (const guestId of guestIds) rig.control(guestId, vfc.misc, 0x10000n)
      return rig.fingerprint()
    }
    expect(make(1, 2)).toBe(make(2, 1))
    expect(new Set([make(), make(1), make(2), make(1, 2)]).size).toBe(4)
  })
})

describe('memory of one chunk', () => {
  it('is enough for a chip with a hardware vIOMMU that nobody uses', () => {
    const memory = SparseMemory.create(1 << 16)
    expect(memory.sizeBytes).toBe(65536)
    const rig = VirtualRig.create({ sizeBytes: 1 << 16, control: 0n })
    expect(rig.virtual.guestIds()).toEqual([])
    rig.virtual.insertGuestEvent(3)
    expect(rig.step(3)).toBe(false)
  })
})
