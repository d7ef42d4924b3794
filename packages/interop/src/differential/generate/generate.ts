/**
 * Random cases. A seed and a number give the same case for ever.
 *
 * @packageDocumentation
 */
import { absentAddresses, arena, arenaDevices, control, pageBytes, slotBytes } from '../arena.js'
import type { CommandWords, DifferentialCase, DmaStep, Step } from '../differential-case.js'
import { entryAddress } from '../reading/manual-walk.js'
import { SeededRandom } from '../seeded-random.js'
import {
  completionWait,
  illegalCommand,
  invalidateEntry,
  invalidateEverything,
  otherCommand,
} from './commands.js'
import { randomEntry, tableModes } from './device-entries.js'
import type { EntryWish } from './device-entries.js'
import { registerCase } from './register-case.js'
import { damaged, TableMaker } from './tables.js'

/** One device with tables, and addresses that lead somewhere. */
interface Client extends EntryWish {
  readonly device: number
  readonly addresses: bigint[]
}

export function generateCase(seed: number, number: number): DifferentialCase {
  const random = new SeededRandom(seed, number)
  const origin = `seed ${seed}, case ${number}`
  return random.percent(8) ? registerCase(random, origin) : new CaseMaker(random).make(origin)
}

class CaseMaker {
  private readonly tables: TableMaker
  private readonly memory = new Map<bigint, bigint>()
  private readonly deviceTable: bigint
  private readonly clients: Client[]
  private readonly steps: Step[] = []
  /** An edit that the chips may not know of: the next one is made known in full. */
  private isLoose = false

  constructor(private readonly random: SeededRandom) {
    this.tables = new TableMaker(random)
    this.deviceTable = this.randomDeviceTable()
    this.clients = this.makeClients()
  }

  make(origin: string): DifferentialCase {
    const { random } = this
    for (let n = random.percent(35) ? 1 + random.below(2) : 0; n > 0; n--) this.tables.damage()
    for (const client of this.clients) this.putEntry(client)
    for (const [address, value] of this.tables.words) this.memory.set(address, value)
    this.steps.push({ kind: 'commands', commands: this.firstCommands() })
    if (random.percent(10)) this.steps.push({ kind: 'restart' })
    this.requests()
    for (let n = random.percent(40) ? 1 + random.below(2) : 0; n > 0; n--) this.phase()
    return {
      origin,
      passing: random.percent(8),
      ...this.registers(),
      memory: [...this.memory],
      steps: this.steps,
    }
  }

  private randomDeviceTable(): bigint {
    const { random } = this
    if (random.percent(1)) return absentAddresses[0] | 3n
    const pages = random.percent(8) ? 0n : BigInt(2 + random.below(6))
    return BigInt(arena.deviceTables + random.below(4) * pageBytes) | pages
  }

  private makeClients(): Client[] {
    const { random, tables } = this
    const clients: Client[] = []
    for (const device of random.shuffled(arenaDevices.map((_, n) => n)).slice(0, 1 + random.below(3))) {
      const first = clients[0]
      const isSharing = first !== undefined && random.percent(25)
      const domainId = random.percent(70) ? 1 + clients.length : random.below(65536)
      const wish = isSharing ? first : { root: tables.newTable(), mode: random.pick(tableModes), domainId }
      const isAliased = !isSharing && first !== undefined && random.percent(2)
      const client = {
        ...wish,
        ...(isAliased ? { domainId: first.domainId } : {}),
        device,
        addresses: [] as bigint[],
      }
      for (let n = 1 + random.below(4); n > 0; n--) {
        client.addresses.push(tables.map(client.root, client.mode, this.randomAddress(client.mode)))
      }
      clients.push(client)
    }
    return clients
  }

  /** An address of a table's width: neighbours of few places, so that paths share tables. */
  private randomAddress(mode: number): bigint {
    const { random } = this
    const width = Math.min(12 + 9 * mode, 64)
    const sparse = random.bits(width) & random.bits(width) & random.bits(width)
    return random.percent(50) ? sparse : random.bits(width)
  }

  private putEntry(client: Client): void {
    const { deviceId } = arenaDevices[client.device] ?? { deviceId: 0 }
    const at = entryAddress(this.deviceTable, deviceId)
    if (at >= BigInt(arena.deviceTablesEnd)) return
    randomEntry(this.random, client).forEach((word, n) => this.memory.set(at + BigInt(8 * n), word))
  }

  private get domains(): number[] {
    return this.clients.map(({ domainId }) => domainId)
  }

  private firstCommands(): CommandWords[] {
    const { random } = this
    const entries = arenaDevices
      .filter(() => random.percent(98))
      .map(({ deviceId }) => invalidateEntry(deviceId))
    return this.withOthers(random.shuffled(entries))
  }

  /** The same commands with others among them, and a wait at the end. */
  private withOthers(commands: readonly CommandWords[]): CommandWords[] {
    const { random } = this
    const all = commands.flatMap((command) => [
      ...(random.percent(12) ? [otherCommand(random, this.domains)] : []),
      ...(random.percent(1) ? [illegalCommand(random, this.domains)] : []),
      command,
    ])
    if (random.percent(3)) all.push(illegalCommand(random, this.domains))
    return [...all, completionWait(random)]
  }

  private requests(): void {
    for (let n = 2 + this.random.below(7); n > 0; n--) this.steps.push(this.request())
  }

  private request(): DmaStep {
    const { random } = this
    const client = random.pick(this.clients)
    const bytes = random.percent(85) ? 4 : 4 * (1 + random.below(slotBytes / 4))
    const page = random.percent(85) ? random.pick(client.addresses) : this.strayAddress(client)
    const offset = BigInt(4 * random.below((pageBytes - bytes) / 4 + 1))
    const iova = ((page >> 12n) << 12n) | offset
    const device = random.percent(95) ? client.device : random.below(arenaDevices.length)
    return { kind: 'dma', device, iova, write: random.percent(50), bytes }
  }

  /** Near a mapped one, in memory, or anywhere. */
  private strayAddress(client: Client): bigint {
    const { random } = this
    if (random.percent(30)) return random.bits(64)
    // Where it leads to memory if it passes.
    if (random.percent(40)) return BigInt(arena.targets) + random.bits(21)
    return random.pick(client.addresses) ^ (1n << BigInt(12 + random.below(52)))
  }

  /** An edit, the commands that make it known or fail to, and requests. */
  private phase(): void {
    const { random } = this
    const isLast = this.isLoose
    this.edit()
    if (random.percent(75) || isLast) {
      this.steps.push({
        kind: 'commands',
        commands: this.withOthers(invalidateEverything(random, this.domains)),
      })
    } else {
      this.isLoose = true
      if (random.percent(60)) {
        this.steps.push({
          kind: 'commands',
          commands: [otherCommand(random, this.domains), completionWait(random)],
        })
      }
    }
    this.requests()
  }

  private edit(): void {
    const { random } = this
    const client = random.pick(this.clients)
    if (random.percent(25)) {
      const { deviceId } = arenaDevices[client.device] ?? { deviceId: 0 }
      const at = entryAddress(this.deviceTable, deviceId)
      const root = random.pick(this.clients).root
      const [value] = randomEntry(random, { ...client, root })
      if (at < BigInt(arena.deviceTablesEnd)) this.steps.push({ kind: 'store', address: at, value })
      return
    }
    if (this.tables.leaves.length === 0) return
    const at = random.pick(this.tables.leaves)
    const entry = this.memory.get(at) ?? 0n
    const moved = entry ^ (1n << BigInt(12 + random.below(9)))
    const value = random.percent(50) ? moved : damaged(random, entry)
    this.steps.push({ kind: 'store', address: at, value })
  }

  private registers(): Omit<DifferentialCase, 'origin' | 'passing' | 'memory' | 'steps'> {
    const { random } = this
    const length = (): bigint => BigInt(8 + random.below(2)) << 56n
    const head = random.percent(25) ? 0xf00 + 0x10 * random.below(16) : 0
    const isNearlyFull = random.percent(4)
    return {
      deviceTable: this.deviceTable,
      commandBase: (random.percent(0.5) ? absentAddresses[0] : BigInt(arena.commands)) | length(),
      eventBase: BigInt(arena.events) | length(),
      ...this.exclusion(),
      control: this.randomControl(),
      commandStart: random.percent(25) ? 0xf00 + 0x10 * random.below(16) : 0,
      eventHead: isNearlyFull ? 0x20 + 0x10 * random.below(3) : head,
      eventTail: isNearlyFull ? 0 : head,
    }
  }

  private exclusion(): { exclusionBase: bigint; exclusionLimit: bigint } {
    const { random } = this
    if (!random.percent(5)) return { exclusionBase: 0n, exclusionLimit: 0n }
    const page = (random.pick(this.clients).addresses[0] ?? 0n) & 0xf_ffff_ffff_f000n
    return { exclusionBase: page | BigInt(random.below(4)), exclusionLimit: page + (random.bits(4) << 12n) }
  }

  private randomControl(): bigint {
    const { random } = this
    const chosen = ([bit, share]: readonly [bigint, number]): bigint => (random.percent(share) ? bit : 0n)
    const bits: readonly (readonly [bigint, number])[] = [
      [control.iommuEn, 99],
      [control.cmdBufEn, 98],
      [control.eventLogEn, 98],
      [control.eventIntEn, 50],
      [control.comWaitIntEn, 50],
      [control.coherent, 50],
      [control.gtEn, 40],
    ]
    return bits.reduce((sum, bit) => sum | chosen(bit), 0n)
  }
}
