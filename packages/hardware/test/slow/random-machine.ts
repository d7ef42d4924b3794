import { mask } from './bits.js'
import { Random } from './random.js'
import { deviate, encodeDte } from './random-dte.js'
import type { DteFields } from './random-dte.js'
import { ensureGuest, newTable } from './random-guest.js'
import type { GuestSetting } from './random-guest.js'
import { ensureHost, hostWidth } from './random-host.js'
import type { HostTable } from './random-host.js'
import { mutate } from './random-mutate.js'
import { World } from './random-world.js'
import type { Machine, Request } from './types.js'

export interface RandomCase {
  /** 64-bit words by address; an absent word below memorySize is 0. */
  words: Map<bigint, bigint>
  /** There is no memory at and above this address. */
  memorySize: bigint
  registers: Required<Machine['registers']>
  features: Machine['features']
  requests: Request[]
}

interface Device {
  id: number
  dte: DteFields
  host: HostTable | undefined
  guest: GuestSetting | undefined
}

export function machineOf({ words, memorySize, registers, features }: RandomCase): Machine {
  const load64 = (address: bigint): bigint | undefined =>
    address + 8n > memorySize ? undefined : (words.get(address) ?? 0n)
  return { load64, registers, features }
}

function randomFeatures(random: Random): { efr: bigint; efr2: bigint } {
  const field = (value: number, position: number): bigint => BigInt(value) << BigInt(position)
  // PPRSup, XTSup, IASup, GASup, PCSup; GTSup, NXSup, USSup, GIoSup, HASup, HDSup, EPHSup, SATSSup
  let efr = 0x2c6n | field(19, 32) | field(3, 38)
  for (const position of [3, 4, 37, 48, 49, 50, 52]) efr |= random.flag(0.94, 1n << BigInt(position))
  efr |= random.some(0.5, 1n << 31n) | (1n << 61n)
  efr |= field(random.pick([2, 2, 2, 2, 2, 2, 1, 0, 0]), 10) | field(random.pick([1, 1, 1, 0]), 12)
  efr |= field(random.pick([2, 2, 2, 1, 0]), 14)
  if (random.chance(0.01)) efr |= field(3, 10)
  return { efr, efr2: 8n | random.some(0.2, 4n) | random.some(1, 1n << 11n) }
}

function randomControl(random: Random, segments: number): bigint {
  const field = (value: number, position: number): bigint => BigInt(value) << BigInt(position)
  let control = random.flag(0.98, 1n) | random.flag(0.97, 1n << 16n) | random.flag(0.8, 1n << 45n)
  control |= field(segments, 34) | field(random.pick([0, 1, 3, 3, 3, 2]), 46)
  control |= random.flag(0.4, 1n << 48n) | random.flag(0.4, 1n << 54n) | random.flag(0.7, 1n << 58n)
  return control | random.flag(0.05, 1n << 56n) | random.flag(0.1, 1n << 53n)
}

const edgeDeviceIds = [0, 1, 0x7f, 0x80, 0xff, 0x1fff, 0x2000, 0x3fff, 0x4000, 0x7fff, 0x8000, 0xc000, 0xffff]
const edgePasids = [0, 0, 1, 2, 511, 512, 513, 0x3ffff, 0x40000, 0x7ffff, 0xfffff]

export function randomCase(seed: number): RandomCase {
  const random = new Random(seed)
  const memorySize = random.chance(0.65) ? 1n << 34n : 1n << 52n
  const world = new World(random, memorySize)
  const features = randomFeatures(random)
  const segments = random.chance(0.8) ? 0 : 1 + random.below(3)
  const control = randomControl(random, segments)

  const hostTables: HostTable[] = []
  const devices: Device[] = []
  const deviceCount = 1 + random.below(5)
  while (devices.length < deviceCount) {
    const id = random.chance(0.5) ? random.pick(edgeDeviceIds) : random.below(0x10000)
    if (!devices.some((device) => device.id === id))
      devices.push(randomDevice(world, id, features, control, hostTables))
  }

  const requests: Request[] = []
  const requestCount = 10 + random.below(15)
  while (requests.length < requestCount) requests.push(randomRequest(world, random.pick(devices), requests))

  // The device table; its size is mostly just enough for all devices
  const shiftOf = BigInt(16 - segments)
  const deviceTableBases: bigint[] = [0n, 0n, 0n, 0n, 0n, 0n, 0n, 0n]
  for (let segment = 0; segment < 1 << segments; segment++) {
    const indices = devices
      .filter((device) => BigInt(device.id) >> shiftOf === BigInt(segment))
      .map((device) => device.id & ((1 << Number(shiftOf)) - 1))
    const needed = Math.floor(Math.max(0, ...indices) / 128)
    const largest = (1 << (9 - segments)) - 1
    let size = random.pick([needed, needed, needed, largest])
    if (size > 0 && random.chance(0.08)) size--
    // At the end of memory at times, the last pages of the table even outside
    let base = (1n << 33n) | (random.bits(12) << 21n)
    if (random.chance(0.1)) base = memorySize - BigInt(size + 1) * 4096n
    if (random.chance(0.02)) base = memorySize - 4096n
    deviceTableBases[segment] = base | BigInt(size)
  }
  for (const { id, dte } of devices) {
    if (random.chance(0.22)) deviate(dte, random)
    const base = deviceTableBases[id >> Number(shiftOf)]! & mask(51, 12)
    const address = base + 32n * BigInt(id & ((1 << Number(shiftOf)) - 1))
    encodeDte(dte).forEach((word, n) => world.put(address + 8n * BigInt(n), word, n < 2 ? 'dte' : undefined))
  }

  mutate(world, random.pick([0, 1, 3, 5, 8, 12, 20]))
  for (const request of requests) if (random.chance(0.2)) spoil(request, world)

  const [exclusionBase, exclusionLimit] = randomExclusion(random, requests)
  const htRange = (iova: bigint): boolean => iova >= 0xfd00000000n && iova <= 0xffffffffffn
  return {
    words: new Map([...world.words].filter(([address, value]) => value !== 0n && address < memorySize)),
    memorySize,
    registers: { deviceTableBases, control, exclusionBase, exclusionLimit },
    features,
    requests: requests.filter((request) => (features.efr2 & 0x800n) !== 0n || !htRange(request.iova)),
  }
}

function randomDevice(
  world: World,
  id: number,
  features: { efr: bigint },
  control: bigint,
  hostTables: HostTable[],
): Device {
  const { random } = world
  const field = (high: number, low: number): number =>
    Number((features.efr >> BigInt(low)) & mask(high - low, 0))
  const deepest = field(11, 10) === 3 ? 0 : 4 + field(11, 10)
  let host: HostTable | undefined
  if (deepest > 0 && random.chance(0.88)) {
    if (hostTables.length > 0 && random.chance(0.4)) {
      host = random.pick(hostTables)
    } else {
      host = {
        mode: Math.min(deepest, random.pick([1, 2, 3, 3, 4, 4, 4, 5, 5, 6, 6])),
        root: world.freePage(),
      }
      hostTables.push(host)
    }
  }

  const guestPossible = (control & 0x10000n) !== 0n && field(4, 4) === 1
  let guest: GuestSetting | undefined
  if (guestPossible && random.chance(0.7)) {
    guest = {
      host,
      rootIsGpa: (control & (1n << 58n)) !== 0n,
      glx: random.below(Math.min(2, field(15, 14)) + 1),
      levels: field(13, 12) >= 1 && random.chance(0.4) ? 5 : 4,
      gcr3Root: 0n,
      nxSup: field(3, 3) === 1,
    }
    guest.gcr3Root = newTable(world, guest, guest.rootIsGpa)
  }

  const dte: DteFields = {
    v: 1,
    tv: 1,
    reserved0: 0n,
    had: random.pick([0, 1, 3, 3]),
    mode: host?.mode ?? 0,
    hostRoot: host?.root ?? 0n,
    ppr: field(50, 50) === 1 && (control & (1n << 45n)) !== 0n && random.chance(0.3) ? 1 : 0,
    gprp: 0,
    giov: field(48, 48) === 1 && random.chance(0.6) ? 1 : 0,
    gv: guest === undefined ? 0 : 1,
    glx: guest?.glx ?? 0,
    gcr3Root: guest?.gcr3Root ?? 0n,
    ir: 1,
    iw: 1,
    domainId: random.below(0x10000),
    se: random.chance(0.05) ? 1 : 0,
    sa: random.chance(0.03) ? 1 : 0,
    ex: random.chance(0.3) ? 1 : 0,
    sats: 0,
    guestPagingMode: guest?.levels === 5 ? 1 : 0,
    upper: [random.some(0.2, mask(51, 0)), random.some(0.1, mask(47, 16))],
  }
  return { id, dte, host, guest }
}

function randomRequest(world: World, device: Device, earlier: Request[]): Request {
  const { random } = world
  const { dte, host, guest } = device
  const write = random.chance(0.4)
  const wantsPasid = guest !== undefined && random.chance(dte.giov === 1 ? 0.5 : 0.75)
  if (guest !== undefined && (wantsPasid || dte.giov === 1)) {
    const covered = [511, 0x3ffff, 0xfffff][guest.glx]!
    const pasid = wantsPasid ? random.pick([...edgePasids, random.below(0x100000)]) & covered : 0
    const width = guest.levels === 5 ? 57 : 48
    let iova = nearby(world, device, earlier, width) ?? world.sparseAddress(width)
    // Canonical: sign-extended with a PASID other than 0
    iova &= mask(width - 1, 0)
    if (pasid > 0 && iova >> BigInt(width - 1) === 1n) iova |= mask(63, width)
    ensureGuest(world, guest, pasid, iova)
    if (!wantsPasid) return { deviceId: device.id, iova, write }
    const user = random.chance(0.7)
    return { deviceId: device.id, pasid, iova, write, execute: !write && random.chance(0.15), user }
  }
  if (host === undefined) return { deviceId: device.id, iova: random.bits(random.pick([34, 52, 64])), write }
  const width = hostWidth(host.mode)
  const iova = (nearby(world, device, earlier, width) ?? world.sparseAddress(width)) & mask(width - 1, 0)
  ensureHost(world, host, iova, false)
  return { deviceId: device.id, iova, write }
}

/** An address near that of an earlier request of the device. */
function nearby(world: World, device: Device, earlier: Request[], width: number): bigint | undefined {
  const { random } = world
  const candidates = earlier.filter((request) => request.deviceId === device.id)
  if (candidates.length === 0 || random.chance(0.5)) return undefined
  const low = random.pick([12, 13, 16, 21, 22, 30])
  const changed = random.pick(candidates).iova ^ (random.bits(low) & random.bits(low))
  return changed & mask(width - 1, 0)
}

/** One deviation of a request. */
function spoil(request: Request, world: World): void {
  const { random } = world
  switch (random.below(8)) {
    case 0:
    case 1:
      request.iova ^= 1n << BigInt(12 + random.below(52))
      break
    case 2:
      request.iova ^= mask(63, random.pick([21, 30, 39, 47, 48, 56, 57, 63]))
      break
    case 3:
      request.iova |= 1n << BigInt(random.pick([21, 30, 39, 47, 48, 56, 57, 63]))
      break
    case 4:
      request.pasid = random.pick(edgePasids)
      break
    case 5:
      delete request.pasid
      break
    case 6:
      request.deviceId = random.chance(0.5) ? random.pick(edgeDeviceIds) : random.below(0x10000)
      break
    default:
      if (random.chance(0.4)) request.iova = random.pick([0xfee00000n, 0xfeefffffn, 0xfedfffffn, 0xfef00000n])
      else request.write = !request.write
  }
}

function randomExclusion(random: Random, requests: Request[]): [bigint, bigint] {
  if (random.chance(0.85)) return [0n, 0n]
  const page = random.pick(requests).iova & mask(51, 12)
  const base = page - (random.some(0.5, 0xf000n) & page)
  const limit = (page + random.some(0.5, 0xf000n)) & mask(51, 12)
  return [base | random.flag(0.7, 1n) | random.flag(0.3, 2n), limit]
}
