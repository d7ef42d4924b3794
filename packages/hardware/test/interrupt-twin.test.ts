/** The remapper against an independent slow model of it, on random machines, switches and messages. */
import { hexDigits } from '@nestwalk/bits'
import { describe, expect, it } from 'vitest'
import { interruptSwitchChoices } from '../src/interrupt/interrupt-switches.js'
import type { InterruptSwitches } from '../src/interrupt/interrupt-switches.js'
import type { FeatureRegisters } from '../src/index.js'
import { allFeatures, InterruptRig, on } from './interrupt-rig.js'
import type { Answer } from './interrupt-rig.js'
import { remapSlowly } from './interrupt-twin.js'
import type { TwinAnswer, TwinRequest, TwinWorld } from './interrupt-twin.js'
import { Random } from './slow/random.js'

const sizeBytes = 1 << 20
const deviceTable = 0x10000n
const tables = 0x20000n
const backingPages = 0x40000n
const cases = 24_000

const oneOf = (random: Random, ...values: bigint[]): bigint => random.pick(values)

function randomControl(random: Random): bigint {
  return (
    random.flag(0.97, on.iommu) |
    random.flag(0.75, on.guestApic) |
    (random.chance(0.7) ? on.guestMode : random.bits(3) << 25n) |
    random.flag(0.5, on.x2apic) |
    random.flag(0.4, on.smiFilter) |
    random.flag(0.5, on.viommu) |
    (random.chance(0.5) ? on.manyInterrupts : random.bits(2) << 43n)
  )
}

function randomDte(random: Random): bigint[] {
  const root = random.chance(0.95)
    ? oneOf(random, tables, tables + 0x40n, tables + 0x2000n)
    : oneOf(random, BigInt(sizeBytes) - 0x40n, random.bits(52), 0xfffffffffffc0n)
  const length = random.chance(0.93) ? BigInt(3 + random.below(9)) : random.bits(4)
  const q2 =
    random.flag(0.96, 1n) |
    (length << 1n) |
    random.flag(0.3, 1n << 5n) |
    (root & 0xfffffffffffc0n) |
    random.some(0.03, 3n << 52n) |
    random.some(0.5, 0x33fn << 54n) |
    ((random.chance(0.8) ? 2n : random.bits(2)) << 60n)
  const q3 =
    random.some(0.02, 0x7fffn) |
    random.flag(0.1, 1n << 15n) |
    random.some(0.3, 0xffff_ffff_0000n) |
    random.some(0.02, 0x3fn << 48n) |
    random.some(0.3, 0x3ffn << 54n)
  return [random.bits(64), random.bits(64), q2, q3]
}

function randomIrte(random: Random): bigint[] {
  const isGuest = random.chance(0.5)
  const page = random.chance(0.93)
    ? backingPages + (random.bits(3) << 12n)
    : random.bits(52) & 0xffffffffff000n
  const low =
    random.flag(0.9, 1n) |
    random.flag(0.3, 2n) |
    (random.chance(0.8) ? random.bits(1) << 2n : random.bits(3) << 2n) |
    (random.bits(2) << 5n) |
    (isGuest ? 0x80n : 0n) |
    (random.bits(random.pick([8, 8, 24])) << 8n) |
    (random.bits(32) << 32n)
  const high =
    random.bits(8) |
    random.some(0.05, 0xf00n) |
    (isGuest ? page : random.some(0.05, 0xffffffffff000n)) |
    random.some(0.05, 0xfn << 52n) |
    (random.bits(random.pick([0, 8])) << 56n)
  // As two short entries and their neighbours, the low word makes sense as well.
  return [random.chance(0.4) ? low & 0x00ffffff_00ffffffn : low, high]
}

function randomMessage(random: Random): TwinRequest {
  const isHt = random.chance(0.1)
  const address = isHt
    ? oneOf(random, 0xfdf8000000n, 0xfffffffdf8000000n) | (random.bits(24) & ~3n)
    : 0xfee00000n | (random.bits(20) & ~3n)
  const index = random.chance(0.8) ? random.bits(3) : random.bits(11)
  const kind = random.chance(0.8) ? 0n : random.bits(3) << 8n
  return {
    deviceId: random.chance(0.97) ? random.below(4) : random.below(0x10000),
    address,
    data: index | kind | (random.bits(2) << 14n) | random.some(0.1, 0xffff3800n),
  }
}

const randomSwitches = (random: Random): Partial<InterruptSwitches> =>
  Object.fromEntries(
    Object.entries(interruptSwitchChoices).map(([name, list]) => [
      name,
      random.chance(0.7) ? list[0] : random.pick<string>(list),
    ]),
  )

function randomFeatures(random: Random): FeatureRegisters {
  const less = random.chance(0.7) ? 0n : random.bits(64)
  return { efr: allFeatures.efr & ~(less & 0x80_0000_0020_0084n), efr2: allFeatures.efr2 & ~less }
}

interface Machine {
  readonly rig: InterruptRig
  readonly world: TwinWorld
}

function randomMachine(random: Random): Machine {
  const features = randomFeatures(random)
  const switches = randomSwitches(random)
  const control = randomControl(random)
  const smiFilters = [random.bits(17), BigInt(random.below(4)) | (1n << 16n)]
  const rig = InterruptRig.create({ sizeBytes, features, switches, control })
  const base = random.chance(0.97) ? deviceTable : BigInt(sizeBytes)
  rig.write(0, base)
  smiFilters.forEach((filter, n) => rig.write(0x60 + 8 * n, filter))
  for (let deviceId = 0n; deviceId < 4n; deviceId++) {
    rig.put(deviceTable + deviceId * 32n, ...randomDte(random))
  }
  for (let index = 0n; index < 16n; index++) rig.put(tables + index * 16n, ...randomIrte(random))
  const read = (address: bigint): bigint => BigInt(rig.memory.load32(Number(address), 0)! >>> 0)
  const all = rig.switches
  return {
    rig,
    world: {
      size: BigInt(sizeBytes),
      read,
      control,
      ...features,
      deviceTable: base,
      smiFilters,
      switches: all,
    },
  }
}

/** The chip's answer in the words of the twin. */
function seen(rig: InterruptRig, answer: Answer, deviceId: number): TwinAnswer {
  const { outcome } = answer
  const event = (answer.event[1] << 64n) | answer.event[0]
  const goesOn = outcome === 'forwarded' || outcome === 'remapped'
  const isMapped = outcome === 'remapped' || outcome === 'posted'
  const gaLog = rig.gaLog.splice(0)
  const counted = rig.counts.splice(0)
  expect(counted.every(([, device]) => device === deviceId)).toBe(true)
  return {
    outcome,
    ...(goesOn && { message: { address: answer.address, data: BigInt(answer.data) } }),
    ...((outcome === 'remapped' || answer.destination !== 0) && { destination: BigInt(answer.destination) }),
    ...(isMapped && { vector: BigInt(answer.vector) }),
    ...(event !== 0n && { event, isLogged: answer.logged }),
    ...(outcome === 'posted' && { posted: { address: answer.requestAt, bit: BigInt(answer.vector & 31) } }),
    ...(answer.notice !== 0 && { notice: answer.notice === 1 ? ('doorbell' as const) : ('log' as const) }),
    ...(gaLog.length > 0 && { logEntry: gaLog[0]! }),
    ...(answer.entry !== 0n && { entryAt: answer.entry }),
    counts: counted.map(([number]) => number),
  }
}

/** A destination of 0 of a posted interrupt looks as if there were none. */
function expected(twin: TwinAnswer): TwinAnswer {
  if (twin.outcome !== 'posted' || twin.destination !== 0n) return twin
  const { destination: _, ...rest } = twin
  return rest
}

function check({ rig, world }: Machine, request: TwinRequest): TwinAnswer {
  const { deviceId, address, data } = request
  const twin = remapSlowly(world, request)
  const { posted } = twin
  const before = posted === undefined ? 0n : world.read(posted.address)
  const fingerprint = rig.fingerprint()
  const looked = rig.look(deviceId, Number(data), address)
  expect(rig.fingerprint()).toBe(fingerprint)
  const { logEntry: _, ...unlogged } = expected(twin)
  expect(seen(rig, looked, deviceId)).toEqual({
    ...unlogged,
    counts: [],
    ...(twin.isLogged !== undefined && { isLogged: false }),
  })
  expect(rig.events).toEqual([])
  const answer = rig.interrupt(deviceId, Number(data), address)
  expect(seen(rig, answer, deviceId)).toEqual(expected(twin))
  expect(rig.events.splice(0)).toEqual(twin.isLogged === true ? [answer.event] : [])
  if (posted !== undefined) expect(world.read(posted.address)).toBe(before | (1n << posted.bit))
  return twin
}

describe('the remapper and its slow twin', () => {
  it(`agree on ${cases} random messages, cold and cached`, () => {
    const random = new Random(20)
    const outcomes: Record<string, number> = {}
    for (let n = 0; n < cases; n += 8) {
      const machine = randomMachine(random)
      for (let i = 0; i < 8; i++) {
        const twin = check(machine, randomMessage(random))
        const event = twin.event === undefined ? '' : ` ${hexDigits((twin.event >> 48n) & 0xffffn, 4)}`
        const key = `${twin.outcome}${event}${twin.isLogged === false ? ' silent' : ''}`
        outcomes[key] = (outcomes[key] ?? 0) + 1
      }
    }
    // Nothing that can become of a message is rare among them.
    const kinds = ['forwarded', 'remapped', 'posted', 'aborted']
    const events = ['1008', '1088', '2008', '2008 silent', '2098', '2098 silent', '3208', '4208', '8a00']
    expect(Object.keys(outcomes).sort()).toEqual(
      [...kinds, ...events.map((name) => `aborted ${name}`)].sort(),
    )
    expect(Math.min(...Object.values(outcomes))).toBeGreaterThan(cases / 1000)
  })
})
