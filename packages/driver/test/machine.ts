/** A host machine for tests: memory, chips and the driver on them. */
import { hex, iova, spa } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'
import {
  deliver,
  deviceId as asDeviceId,
  Endpoint,
  formatDeviceId,
  Iommu,
  load64,
  SparseMemory,
} from '@nestwalk/hardware'
import type {
  CommandFields,
  EndpointOptions,
  FeatureRegisters,
  IommuOptions,
  Translation,
} from '@nestwalk/hardware'
import { Driver, everything, rangeOf, runEffects, viommuMap } from '@nestwalk/driver'
import type { DriverOptions, DriverPlace, Effect, Outcome, Refusal } from '@nestwalk/driver'
import { expect } from 'vitest'

export interface MachineOptions
  extends Partial<Omit<DriverOptions, 'ports' | 'memory'>>, Omit<IommuOptions, 'memory'> {
  readonly memory?: SparseMemory
  readonly iommus?: number
  /** Of all IOMMUs but the first. Default: as the first. */
  readonly otherFeatures?: FeatureRegisters
  /** Devices below all of the IOMMUs. At other DeviceIDs there is nobody. */
  readonly endpoints?: readonly EndpointOptions[]
}

export const readWrite = { read: true, write: true }

/** A device table entry as it stands in memory, lowest quad-word first. */
export type Entry = readonly [bigint, bigint, bigint, bigint]

export class Machine {
  private constructor(
    readonly memory: SparseMemory,
    readonly iommus: readonly Iommu[],
    readonly driver: Driver,
    readonly endpoints: readonly Endpoint[],
  ) {}

  /** A machine that is up. */
  static create(options: MachineOptions = {}): Machine {
    const memory = options.memory ?? SparseMemory.create(2 ** 52)
    const others = options.otherFeatures === undefined ? {} : { features: options.otherFeatures }
    const iommus = Array.from({ length: options.iommus ?? 1 }, (_, i) =>
      Iommu.create({ ...options, ...(i > 0 ? others : {}), memory }),
    )
    const endpoints = (options.endpoints ?? []).map((each) => Endpoint.create(memory.words, each))
    const made = Driver.create({
      policy: viommuMap,
      pages: { first: spa(0x100000n), pages: 4096 },
      lastDeviceId: 0xff,
      ...options,
      ports: iommus,
      memory,
      setDeviceFeature: switchIn(endpoints),
    })
    if (!made.ok) throw new Error(made.why)
    const machine = new Machine(memory, iommus, made.value, endpoints)
    machine.carryOut(made.effects)
    return machine
  }

  get iommu(): Iommu {
    return this.iommus[0]!
  }

  /** Lets each chip take a step. */
  readonly advance = (): boolean =>
    this.iommus
      .map((iommu) => {
        const { received, unsupported } = deliver(iommu, this.endpoints)
        return received + unsupported > 0 || iommu.step()
      })
      .includes(true)

  carryOut(effects: readonly Effect[]): void {
    expect(runEffects(this.driver, effects, this.advance)).toBe(0)
  }

  /** Carries an accepted operation out. */
  run<T>(outcome: Outcome<T>): T {
    if (!outcome.ok) throw new Error(`${outcome.errno} ${outcome.rule}: ${outcome.why}`)
    this.carryOut(outcome.effects)
    return outcome.value
  }

  /** Carries an accepted operation out and tells what it did, see {@link told}. */
  tell(outcome: Outcome<unknown>): string[] {
    this.run(outcome)
    return outcome.ok ? outcome.effects.map((effect) => told(effect, this.driver.deviceTable)) : []
  }

  /** Tries an operation that must be refused and must change nothing (I21). */
  refusal(attempt: () => Outcome<unknown>): string {
    const before = this.state()
    const outcome = attempt()
    expect(outcome.ok).toBe(false)
    expect(this.state()).toBe(before)
    const { errno, rule } = outcome as Refusal
    return `${errno} ${rule}`
  }

  /** Everything that matters for the future, as text. */
  state(): string {
    return asText([this.memory.words.fingerprint().join(), this.driver.snapshot()])
  }

  fork(): Machine {
    const memory = this.memory.fork()
    const iommus = this.iommus.map((iommu) => iommu.forkOnto(memory))
    const endpoints = this.endpoints.map((each) => each.forkOnto(memory.words))
    const place = { ports: iommus, memory, setDeviceFeature: switchIn(endpoints) }
    return new Machine(memory, iommus, this.driver.fork(place), endpoints)
  }

  load(address: bigint): bigint {
    return load64(this.memory, address)!
  }

  entry(deviceId: number): Entry {
    const at = this.driver.deviceTable + BigInt(deviceId * 32)
    return [this.load(at), this.load(at + 8n), this.load(at + 16n), this.load(at + 24n)]
  }
}

/** Turns features of the endpoints on and off, as their configuration space would. */
const switchIn =
  (endpoints: readonly Endpoint[]): NonNullable<DriverPlace['setDeviceFeature']> =>
  (deviceId, feature, isOn) => {
    const endpoint = endpoints.find((each) => each.deviceId === deviceId)
    if (feature === 'ats') endpoint?.setAts(isOn)
    if (feature === 'pri') endpoint?.setPri(isOn)
  }

export const asText = (value: unknown): string =>
  JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? hex(each) : each))

/**
 * An effect in a few words: `00:03.0 upper`, `DEVTAB 00:03.0`, `PAGES 1 all PDE`, `PAGES 1 3000+2000 GN 0`, `IOTLB 00:03.0 all`,
 * `ats 00:03.0 on`, `WAIT`;
 * all stores into page tables are `tables`.
 */
export function told(effect: Effect, deviceTable: Spa): string {
  switch (effect.kind) {
    case 'store':
      return effect.words.length === 2 ? halfOf(effect.address - deviceTable) : 'tables'
    case 'fill':
      return 'tables'
    case 'register':
      return `register ${hex(BigInt(effect.offset))}`
    case 'configuration':
      return `configuration ${hex(BigInt(effect.offset))}`
    case 'wait':
      return 'WAIT'
    case 'feature':
      return `${effect.feature} ${formatDeviceId(asDeviceId(effect.deviceId))} ${effect.isOn ? 'on' : 'off'}`
    case 'command':
      return toldCommand(effect.command)
  }
}

function halfOf(offset: bigint): string {
  const device = formatDeviceId(asDeviceId(Number(offset / 32n)))
  return `${device} ${offset % 32n === 0n ? 'lower' : 'upper'}`
}

function toldCommand(command: CommandFields): string {
  switch (command.kind) {
    case 'InvalidateDevtabEntry':
      return `DEVTAB ${formatDeviceId(command.deviceId!)}`
    case 'InvalidateIommuPages':
      return `PAGES ${command.domainId!} ${toldRange(command)}`
    case 'InvalidateIotlbPages':
      return `IOTLB ${formatDeviceId(command.deviceId!)} ${toldRange(command)}`
    default:
      return command.kind
  }
}

function toldRange(command: CommandFields<'InvalidateIommuPages' | 'InvalidateIotlbPages'>): string {
  const { first, last } = rangeOf({ size: command.size!, address: iova(command.address!) })
  const isAll = first === 0n && last === everything.last
  const range = isAll ? 'all' : `${first.toString(16)}+${(last - first + 1n).toString(16)}`
  const directories = command.kind === 'InvalidateIommuPages' && command.directories === true ? ' PDE' : ''
  return `${range}${directories}${command.guestNested === true ? ` GN ${command.pasid!}` : ''}`
}

/** Where a request leads, or why not: `translated 200abc`, `forwarded`, `fault`. */
export const answer = (translation: Translation): string =>
  translation.kind === 'translated' ? `translated ${translation.spa.toString(16)}` : translation.kind

/** `effects` without those on page tables. */
export const withoutTables = (lines: readonly string[]): string[] => lines.filter((line) => line !== 'tables')
