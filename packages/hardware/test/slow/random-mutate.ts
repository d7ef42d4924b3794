import { bits, frame, mask } from './bits.js'
import type { Random } from './random.js'
import type { World } from './random-world.js'

type Mutation = (random: Random, entry: bigint, world: World) => bigint

const clear =
  (clearMask: bigint): Mutation =>
  (_, entry) =>
    entry & ~clearMask

const setOne =
  (setMask: bigint): Mutation =>
  (random, entry) => {
    const positions: number[] = []
    for (let position = 0; position < 64; position++)
      if ((setMask >> BigInt(position)) & 1n) positions.push(position)
    return entry | (1n << BigInt(random.pick(positions)))
  }

const flipAny: Mutation = (random, entry) => entry ^ (1n << BigInt(random.below(64)))

const toggle =
  (toggleMask: bigint): Mutation =>
  (random, entry) =>
    entry ^ (random.bits(64) & toggleMask)

function withFrame(entry: bigint, address: bigint): bigint {
  return (entry & ~mask(51, 12)) | frame(address)
}

const pointElsewhere: Mutation = (random, entry, world) =>
  withFrame(
    entry,
    random.pick([
      random.bits(52),
      random.pick(world.tablePages),
      world.memorySize & mask(51, 0),
      mask(51, 12),
      entry | (1n << 51n),
      entry + (1n << BigInt(30 + random.below(22))),
    ]),
  )

const nextLevel: Mutation = (random, entry) => (entry & ~mask(11, 9)) | (BigInt(random.below(8)) << 9n)

/** NextLevel 7 with any size code, one that ends above bit 51 among them. */
const encodedSize: Mutation = (random, entry) => {
  const lowestZero = 12 + random.pick([random.below(41), random.below(12), 37 + random.below(4)])
  const code = lowestZero === 12 ? 0n : mask(lowestZero - 1, 12)
  return withFrame(entry | mask(11, 9), (entry | code) & ~(1n << BigInt(lowestZero)))
}

const host: Mutation[] = [
  clear(1n),
  clear(1n << 61n),
  clear(1n << 62n),
  clear(mask(62, 61)),
  setOne(mask(60, 52)),
  setOne(mask(60, 52)),
  nextLevel,
  nextLevel,
  encodedSize,
  encodedSize,
  flipAny,
  pointElsewhere,
  toggle(mask(4, 1) | mask(8, 5) | mask(63, 63)),
]

const guest: Mutation[] = [
  clear(1n),
  clear(1n << 1n),
  clear(1n << 2n),
  setOne(1n << 63n),
  setOne(1n << 7n),
  (_, entry) => entry | (1n << 7n) | (1n << 13n),
  (random, entry) => withFrame(entry | (1n << 7n), entry & ~mask(20 + random.below(2) * 9, 13)),
  clear(mask(6, 5)),
  clear(1n << 6n),
  flipAny,
  pointElsewhere,
  toggle(mask(6, 3) | mask(11, 8) | mask(62, 52)),
]

const gcr3: Mutation[] = [clear(1n), setOne(mask(11, 1)), setOne(mask(63, 52)), flipAny, pointElsewhere]

const dte: Mutation[] = [flipAny, flipAny, toggle(mask(61, 60))]

const byKind = { host, guest, gcr3, dte }

/** Changes so many of the entries that the paths use. */
export function mutate(world: World, count: number): void {
  const { random } = world
  const addresses = [...world.entries.keys()]
  for (let n = 0; n < count; n++) {
    const address = random.pick(addresses)
    const kind = world.entries.get(address)!
    const entry = world.words.get(address) ?? 0n
    world.words.set(address, bits(random.pick(byKind[kind])(random, entry, world), 63, 0))
  }
}
