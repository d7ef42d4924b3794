/** A host for tests: memory, chips, the driver on them, and `/dev/iommu` over the driver. */
import { hex, spa } from '@nestwalk/bits'
import { Driver, runEffects, viommuMap } from '@nestwalk/driver'
import type { DomainIdPolicy, Effect } from '@nestwalk/driver'
import { Iommu, load64, nestingFeatures, SparseMemory } from '@nestwalk/hardware'
import type { FeatureRegisters, Translation } from '@nestwalk/hardware'
import { expect } from 'vitest'
import { AmdBackend, amdViommuType, guestEntryData, hwptFlags, Iommufd } from '../src/index.js'
import type { Context, GroupRule, MapRequest, ObjectId, Outcome, Refusal, UserData } from '../src/index.js'

export interface HostOptions {
  readonly groupRule?: GroupRule
  readonly policy?: DomainIdPolicy
  readonly features?: FeatureRegisters
  readonly iommus?: number
  readonly pages?: number
  readonly lastDomainId?: number
  /** DeviceID, group, IOMMU. Default: two devices in group 1, one each in groups 2 and 3. */
  readonly devices?: readonly (readonly [deviceId: number, group: number, iommu?: number])[]
}

/** The devices of a host by default: the first two share a group. */
export const d1 = 0x18
export const d2 = 0x20
export const d3 = 0x28
export const d4 = 0x30

export class Host {
  private constructor(
    readonly memory: SparseMemory,
    readonly iommus: readonly Iommu[],
    readonly driver: Driver,
    readonly backend: AmdBackend,
    readonly iommufd: Iommufd,
  ) {}

  static create(options: HostOptions = {}): Host {
    const {
      features = nestingFeatures,
      policy = viommuMap,
      pages = 4096,
      groupRule = 'whole-group',
    } = options
    const memory = SparseMemory.create(2 ** 40)
    const iommus = Array.from({ length: options.iommus ?? 1 }, () => Iommu.create({ memory, features }))
    const made = Driver.create({
      ports: iommus,
      memory,
      pages: { first: spa(0x100000n), pages },
      policy,
      lastDeviceId: 0xff,
      ...(options.lastDomainId === undefined ? {} : { lastDomainId: options.lastDomainId }),
    })
    if (!made.ok) throw new Error(made.why)
    const backend = AmdBackend.create(made.value, { extensions: true })
    const iommufd = Iommufd.create(backend, { groupRule })
    const host = new Host(memory, iommus, made.value, backend, iommufd)
    host.carryOut(made.effects)
    const usual = [
      [d1, 1],
      [d2, 1],
      [d3, 2],
      [d4, 3],
    ] as const
    for (const [deviceId, group, iommu = 0] of options.devices ?? usual) {
      host.run(host.driver.probe(deviceId, group, iommu))
    }
    return host
  }

  readonly advance = (): boolean => this.iommus.map((iommu) => iommu.step()).includes(true)

  carryOut(effects: readonly Effect[]): void {
    expect(runEffects(this.driver, effects, this.advance)).toBe(0)
  }

  /** Carries an accepted call out. */
  run<T>(outcome: Outcome<T>): T {
    if (!outcome.ok) throw new Error(`${outcome.errno} ${outcome.rule}: ${outcome.why}`)
    this.carryOut(outcome.effects)
    return outcome.value
  }

  /** The errno of a call that must be refused and must change nothing (I21). */
  errno(attempt: () => Outcome<unknown>): string {
    const before = this.state()
    const outcome = attempt()
    expect(outcome.ok).toBe(false)
    expect(this.state()).toBe(before)
    return (outcome as Refusal).errno
  }

  /** Everything that matters for the future, as text. */
  state(): string {
    return asText([this.memory.words.fingerprint(), this.driver.snapshot(), this.iommufd.snapshot()])
  }

  fork(): Host {
    const memory = this.memory.fork()
    const iommus = this.iommus.map((iommu) => iommu.forkOnto(memory))
    const driver = this.driver.fork({ ports: iommus, memory })
    const backend = this.backend.forkOnto(driver)
    return new Host(memory, iommus, driver, backend, this.iommufd.fork(backend))
  }

  /** Where the tables lead a device: `200000`, `200000 r`, `fault` or `forwarded`. */
  leads(deviceId: number, address: bigint): string {
    return answer(this.chipOf(deviceId).walkFresh({ deviceId, iova: address }))
  }

  /** As {@link leads}, by a request that caches may answer. */
  request(deviceId: number, address: bigint): string {
    return answer(this.chipOf(deviceId).request({ deviceId, iova: address }))
  }

  /** The lower half of a device's entry. */
  entry(deviceId: number): readonly [bigint, bigint] {
    const at = this.driver.deviceTable + BigInt(deviceId * 32)
    return [load64(this.memory, at) ?? 0n, load64(this.memory, at + 8n) ?? 0n]
  }

  /** How many pages the driver can still give out; for hosts with few of them and more DomainIDs. */
  freePages(): number {
    const { driver } = this.fork()
    let made = 0
    while (driver.allocateHostTable().ok) made += 1
    return made
  }

  private chipOf(deviceId: number): Iommu {
    return this.iommus[this.driver.device(deviceId)?.iommu ?? 0]!
  }
}

function answer(translation: Translation): string {
  if (translation.kind !== 'translated') return translation.kind
  const { readable, writable } = translation
  const rights = readable && writable ? '' : readable ? ' r' : ' w'
  return `${translation.spa.toString(16)}${rights}`
}

const asText = (value: unknown): string =>
  JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? hex(each) : each))

/** IOAS_MAP of a range, readable and writeable. */
export const mapping = (
  ioas: ObjectId,
  from: bigint,
  to: bigint,
  length: bigint,
  more: Partial<MapRequest> = {},
): MapRequest => ({
  ioas,
  iova: from,
  memory: spa(to),
  length,
  readable: true,
  writeable: true,
  ...more,
})

/** The words of a guest's entry with V, TV, IR, IW, GV, GIoV and a GCR3 root at GPA 1000. */
export const entryWords = (domainId = 5): readonly bigint[] => [
  0x3n | (3n << 61n) | (1n << 55n) | (1n << 54n) | (1n << 58n),
  BigInt(domainId),
  0n,
  0n,
]

/** Driver data of HWPT_ALLOC: the entry of {@link entryWords}. */
export const guestEntry = (domainId = 5): UserData => guestEntryData(entryWords(domainId))

/** A bound device on a nest parent with a vIOMMU. */
export function nestingContext(host: Host, deviceId = d3): Nesting {
  const context = host.iommufd.open()
  const device = host.run(context.bind(deviceId))
  const ioas = host.run(context.ioasAlloc())
  const parent = host.run(context.hwptAlloc({ device, pageTable: ioas, flags: hwptFlags.nestParent }))
  const viommu = host.run(context.viommuAlloc({ device, parent, type: amdViommuType }))
  return { context, device, ioas, parent, viommu }
}

export interface Nesting {
  readonly context: Context
  readonly device: ObjectId
  readonly ioas: ObjectId
  readonly parent: ObjectId
  readonly viommu: ObjectId
}
