/** Histories of a machine: operations as plain numbers, carried out effect by effect with the invariants checked after each. */
import { iova, spa } from '@nestwalk/bits'
import { store64 } from '@nestwalk/hardware'
import type { Dte, EndpointOptions, MicroArchitecture } from '@nestwalk/hardware'
import { runEffects } from '@nestwalk/driver'
import type { DeviceTraits, DomainIdPolicy, Driver, Effect, Outcome } from '@nestwalk/driver'
import { guestEntry, invalidation } from '../guest-entry.js'
import { Machine, readWrite } from '../machine.js'
import { isDerived, isOneUnit, isValid, isWhole } from './entries.js'
import { entryOf, viewOf } from './moment.js'
import type { AskedNesting, Moment, View, Violation } from './moment.js'
import {
  baseOf,
  isCleanWhenFree,
  isDeviceReached,
  isGone,
  isOwned,
  isReached,
  isWithinQuota,
} from './ownership.js'
import { isFunction, noMerge, onlyAsked, sameContent } from './sharing.js'

/** What to do, and up to three numbers that say to what. */
export type Step = readonly [what: number, a: number, b: number, c: number]

/** The numbers of a step, and what the first two choose. */
interface Chosen {
  readonly a: number
  readonly b: number
  readonly c: number
  readonly device: number
  readonly one: number
  readonly other: number
}

/** 0x18 and 0x19 are one group, 0x28 is below the second IOMMU if there is one. */
const deviceIds = [0x18, 0x19, 0x20, 0x28]
/** What devices may be like. The third of them has a DeviceID that no other device has. */
const kinds: readonly Partial<DeviceTraits>[] = [
  {},
  { atsQueueDepth: 32 },
  { atsQueueDepth: 32, maxPasids: 512 },
  { maxPasids: 1024 },
]
const quota = 2
const page = 0x5000n
const guestPage = 0x7000_0000n
const beyond = 1n << 39n
const ramBytes = 0x20_0000n

const endpointOf = (deviceId: number): EndpointOptions => ({
  ...{ deviceId, pasids: 1024, atc: { capacity: 64 }, ats: false, pri: false, outstandingPageRequests: 8 },
})

/** See the file's comment. */
export class History {
  readonly violations: Violation[] = []
  private readonly machine: Machine
  private readonly nestings: AskedNesting[] = []
  private readonly tops = new Map<bigint, number>()
  private readonly contents = new Map<number, string>()
  private readonly watched: readonly number[]
  private viommus: number[] = []
  private domains: number[] = []
  private asked: readonly number[] = []
  private pace = 0

  /**
   * @param caches - what the chips cache
   * @param aliases - DeviceIDs that requests of the third device carry besides its own
   */
  constructor(
    policy: DomainIdPolicy,
    readonly iommus: number,
    caches: Partial<MicroArchitecture> = {},
    private readonly aliases: readonly number[] = [0x60],
  ) {
    this.machine = Machine.create({
      ...{ policy, iommus, domainIds: { quotaPerViommu: quota }, endpoints: deviceIds.map(endpointOf) },
      microArchitecture: caches,
    })
    this.watched = [...deviceIds, ...aliases]
    for (const [n, device] of deviceIds.entries()) this.probe(device, n)
    this.play([8, 1, 0, 0])
    this.play([11, 0, 0, 0])
  }

  /** Carries a step out. What the driver refuses must have changed nothing (I21). */
  play([what, a, b, c]: Step): void {
    const device = deviceIds[a % deviceIds.length]!
    this.asked = [device]
    this.operations[what % History.steps]!({
      a,
      b,
      c,
      device,
      one: this.domainAt(a),
      other: this.domainAt(b),
    })
  }

  static readonly steps = 24

  private domainAt(place: number): number {
    return this.domains[place % this.domains.length] ?? 1
  }

  private get driver(): Driver {
    return this.machine.driver
  }

  /** Some of the devices, one for each bit. */
  private ask(bits: number): readonly number[] {
    this.asked = deviceIds.filter((_, i) => ((bits >> i) & 1) === 1)
    return this.asked
  }

  /** What each kind of step does. */
  private readonly operations: readonly ((at: Chosen) => void)[] = [
    ({ device, other }) => this.carry(() => this.driver.attach(device, other)),
    ({ device, other }) => this.carry(() => this.driver.replace(device, other)),
    ({ device }) => this.carry(() => this.driver.detach(device)),
    ({ a, other }) => {
      this.ask(15)
      this.carry(() => this.driver.attachGroup(a % 3, other))
    },
    ({ b, one }) => this.carry(() => this.map(one, b)),
    ({ b, one }) => this.unmap(one, b),
    ({ a, c, other }) => this.carry(() => this.driver.attachPasid(this.ask(a), 1 + (c % 2), other)),
    ({ a, c }) => this.carry(() => this.driver.detachPasid(this.ask(a), 1 + (c % 2))),
    ({ a, b }) => {
      const options = { nestParent: a % 4 !== 0, dirtyTracking: b % 2 === 0 }
      this.allocate(() => this.driver.allocateHostTable(options))
    },
    ({ a }) => this.allocate(() => this.driver.allocateGuestTable({ levels: a % 4 === 0 ? 4 : 5 })),
    () => this.allocate(() => this.driver.allocateProcess()),
    ({ b, one }) => this.makeViommu(one, b % this.iommus),
    ({ a, b, c }) => this.nest(this.viommus[a % this.viommus.length] ?? 1, 5 + (b % 3), c % 4 === 0 ? 5 : 4),
    ({ a, b, c }) => {
      const commands = [invalidation(5 + (b % 3)), invalidation(5 + (c % 3), 1)]
      this.carry(() => this.driver.invalidateForGuest(a, commands))
    },
    ({ device }) => this.carry(() => this.driver.beginReset(device)),
    ({ device }) => this.carry(() => this.driver.endReset(device)),
    ({ device }) => this.carry(() => this.driver.unplug(device)),
    ({ one }) => this.free(one),
    ({ a }) => this.destroyViommu(a),
    ({ b, one }) => this.carry(() => this.driver.setDirtyTracking(one, b % 2 === 0)),
    ({ one }) => this.carry(() => this.driver.readDirty(one, { first: iova(0n), last: iova(ramBytes - 1n) })),
    ({ b, device }) => this.probe(device, b),
    () => this.allocate(() => this.driver.allocateIdentity()),
    () => this.carry(() => this.driver.mergeTables()),
  ]

  private makeViommu(parent: number, iommu: number): void {
    this.carry(() => {
      const made = this.driver.createViommu(parent, iommu)
      if (made.ok) this.viommus.push(made.value)
      return made
    })
  }

  private destroyViommu(viommu: number): void {
    this.carry(() => {
      const gone = this.driver.destroyViommu(viommu)
      if (gone.ok) this.viommus = this.viommus.filter((each) => each !== viommu)
      return gone
    })
  }

  private free(domain: number): void {
    this.carry(() => {
      const freed = this.driver.freeDomain(domain)
      if (freed.ok) this.domains = this.domains.filter((each) => each !== domain)
      return freed
    })
  }

  private probe(device: number, kind: number): void {
    const traits = device === 0x20 ? { ...kinds[kind % 4], aliases: this.aliases } : kinds[kind % 4]!
    this.asked = [device]
    const [group, iommu] = [
      device >> 3 === 3 ? 0 : device === 0x20 ? 1 : 2,
      device === 0x28 ? this.iommus - 1 : 0,
    ]
    this.carry(() => this.driver.probe(device, group, iommu, traits))
  }

  private allocate(operation: () => Outcome<number>): void {
    this.carry(() => {
      const made = operation()
      if (made.ok) this.domains.push(made.value)
      return made
    })
    const domain = this.domains.at(-1)
    if (domain !== undefined) this.carry(() => this.map(domain, 0))
  }

  private nest(viommu: number, guestDomainId: number, levels: 4 | 5): void {
    const gcr3Root = BigInt(this.nestings.length + 1) << 16n
    if (gcr3Root + 0x1_0000n > ramBytes) return
    this.carry(() => {
      const fields = { gcr3Root, guestPagingMode: levels - 4 }
      const made = this.driver.allocateNested(viommu, guestEntry(guestDomainId, fields))
      if (!made.ok) return made
      const domain = this.driver.domain(made.value)
      if (domain?.kind !== 'nested') throw new Error('no nested domain')
      this.domains.push(made.value)
      const nesting = { domain: made.value, viommu, parent: domain.parent, guestDomainId, gcr3Root, levels }
      this.nestings.push(nesting)
      this.writeGuestTables(nesting)
      return made
    })
  }

  /** The guest's page leads into the 64 KiB of its tables, so that each nested domain has a frame of its own. */
  private writeGuestTables({ parent, gcr3Root, levels }: AskedNesting): void {
    const store = (at: bigint, word: bigint): void => {
      if (!store64(this.machine.memory, baseOf(parent) + at, word)) throw new Error('no memory')
    }
    const tableAt = (level: number): bigint => gcr3Root + BigInt(levels - level + 1) * 0x1000n
    for (const pasid of [0n, 1n]) store(gcr3Root + pasid * 8n, tableAt(levels) | 1n)
    for (let level = levels; level > 0; level--) {
      const at = tableAt(level) + ((guestPage >> BigInt(3 + 9 * level)) & 511n) * 8n
      store(at, level === 1 ? (gcr3Root + 0xf000n) | 0x67n : tableAt(level - 1) | 0x27n)
    }
  }

  private map(domain: number, which: number): Outcome<unknown> {
    const [from, bytes] = which % 4 === 3 ? [beyond, 0x1000n] : [0n, ramBytes]
    const target = spa(baseOf(domain) + (from === beyond ? 0x8000_0000n : 0n))
    return this.driver.map(domain, iova(from), target, bytes, readWrite)
  }

  private unmap(domain: number, which: number): void {
    const isBeyond = which % 2 === 1
    const [from, bytes] = isBeyond ? [beyond, 0x1000n] : [0n, ramBytes]
    const outcome = this.carry(() => this.driver.unmap(domain, iova(from), bytes))
    if (!outcome.ok || outcome.value === 0n) return
    const first = baseOf(domain) + (isBeyond ? 0x8000_0000n : 0n)
    this.violations.push(...isGone(this.machine, first, bytes))
  }

  private carry<T>(operation: () => Outcome<T>): Outcome<T> {
    const before = this.view()
    const state = this.machine.state()
    const outcome = operation()
    if (!outcome.ok) {
      if (this.machine.state() !== state) this.violations.push({ id: 'I21', how: outcome.rule })
      return outcome
    }
    const after = this.view()
    for (const [number, domain] of after.domains) {
      if (domain.kind === 'host-table') this.tops.set(domain.root, number)
    }
    outcome.effects.forEach((effect, i) => this.step(effect, before, after, i === outcome.effects.length - 1))
    if (outcome.effects.length === 0) this.check(this.moment(before, after, true, this.entries()))
    return outcome
  }

  private step(effect: Effect, before: View, after: View, isOver: boolean): void {
    const entriesBefore = this.entries()
    // A step that carries out what was put off may leave a message for a device, and wait for it.
    const advance = (): boolean => this.machine.advance() || this.machine.advance()
    if (runEffects(this.machine.driver, [effect], advance) > 0)
      this.violations.push({ id: 'wait', how: 'it never ends' })
    // Hardware is sometimes ahead, sometimes behind.
    this.pace = (this.pace * 5 + 3) % 16
    if (this.pace % 3 === 0) this.machine.advance()
    const moment = this.moment(before, after, isOver, entriesBefore)
    this.violations.push(...isWhole(moment, effect))
    this.access()
    this.check(moment)
  }

  private moment(
    before: View,
    after: View,
    isOver: boolean,
    entriesBefore: ReadonlyMap<number, Dte>,
  ): Moment {
    const { machine, asked, nestings, tops } = this
    return {
      machine,
      before,
      after,
      isOver,
      asked,
      nestings,
      tops,
      quota,
      entriesBefore,
      entries: this.entries(),
    }
  }

  private check(moment: Moment): void {
    this.violations.push(
      ...[
        ...noMerge(moment),
        ...isFunction(moment),
        ...sameContent(moment),
        ...onlyAsked(moment, this.contents),
      ],
      ...[...isOwned(moment), ...isCleanWhenFree(moment), ...isReached(moment), ...isDeviceReached(moment)],
      ...[...isWithinQuota(moment), ...isDerived(moment), ...isOneUnit(moment), ...isValid(moment)],
    )
  }

  /** Every device reaches for all that it might know, by its own TLB or by addresses as they are. */
  private access(): void {
    for (const endpoint of this.machine.endpoints) {
      const iommu = this.machine.iommus[endpoint.deviceId === 0x28 ? this.iommus - 1 : 0]!
      for (const address of [page, guestPage, beyond]) endpoint.dma(iommu, { iova: address, write: true })
      if (this.driver.device(endpoint.deviceId)?.features.has('pasid') !== true) continue
      endpoint.dma(iommu, { iova: page, pasid: 1 })
      endpoint.dma(iommu, { iova: guestPage, pasid: 1 })
    }
    for (const deviceId of this.aliases) this.machine.iommu.request({ deviceId, iova: page })
  }

  private entries(): Map<number, Dte> {
    return new Map(this.watched.map((device) => [device, entryOf(this.machine, device)]))
  }

  private view(): View {
    return viewOf(this.machine.driver, deviceIds, Math.max(0, ...this.domains) + 1)
  }
}
