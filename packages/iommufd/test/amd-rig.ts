/** A machine with AMD IOMMUs for tests: memory, chips, devices, the driver, and iommufd's backend over it. */
import { hex, spa } from '@nestwalk/bits'
import { Driver, runEffects, viommuMap } from '@nestwalk/driver'
import type { DomainIdPolicy, DriverOptions, DriverPlace, Effect } from '@nestwalk/driver'
import { deliver, Endpoint, Iommu, load64, nestingFeatures, SparseMemory } from '@nestwalk/hardware'
import type { EndpointOptions, FeatureRegisters, Translation } from '@nestwalk/hardware'
import { expect } from 'vitest'
import { AmdBackend } from '../src/amd/amd-backend.js'
import type { AmdBackendOptions } from '../src/amd/amd-backend.js'
import type { BackendDevice } from '../src/backend.js'
import type { Outcome } from '../src/outcome.js'

export interface RigOptions extends AmdBackendOptions {
  readonly features?: FeatureRegisters
  /** Of the second IOMMU, where there is one. Default: as the first. */
  readonly otherFeatures?: FeatureRegisters
  readonly iommus?: number
  readonly policy?: DomainIdPolicy
  readonly endpoints?: readonly EndpointOptions[]
  readonly driver?: Partial<DriverOptions>
}

export class AmdRig {
  private constructor(
    readonly memory: SparseMemory,
    readonly iommus: readonly Iommu[],
    readonly endpoints: readonly Endpoint[],
    readonly driver: Driver,
    readonly backend: AmdBackend,
  ) {}

  /** A machine that is up and knows no devices. */
  static create(options: RigOptions = {}): AmdRig {
    const { features = nestingFeatures, otherFeatures = features, endpoints: wanted = [] } = options
    const { extensions = false, defaultTable = 'host' } = options
    const memory = SparseMemory.create(2 ** 52)
    const iommus = Array.from({ length: options.iommus ?? 1 }, (_, i) =>
      Iommu.create({ memory, features: i === 0 ? features : otherFeatures }),
    )
    const endpoints = wanted.map((each) => Endpoint.create(memory.words, each))
    const made = Driver.create({
      policy: options.policy ?? viommuMap,
      pages: { first: spa(0x100000n), pages: 4096 },
      lastDeviceId: 0xff,
      ...options.driver,
      ports: iommus,
      memory,
      setDeviceFeature: switchIn(endpoints),
    })
    if (!made.ok) throw new Error(made.why)
    const backend = AmdBackend.create(made.value, { extensions, defaultTable })
    const rig = new AmdRig(memory, iommus, endpoints, made.value, backend)
    rig.carryOut(made.effects)
    return rig
  }

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

  /** Errno and rule of an operation that must be refused and must change nothing. */
  refusal(attempt: () => Outcome<unknown>): string {
    const before = this.state()
    const outcome = attempt()
    expect(this.state()).toBe(before)
    return outcome.ok ? 'accepted' : `${outcome.errno} ${outcome.rule}`
  }

  state(): string {
    const all = [this.memory.words.fingerprint(), this.driver.snapshot(), this.backend.snapshot()]
    return JSON.stringify(all, (_, each: unknown) => (typeof each === 'bigint' ? hex(each) : each))
  }

  fork(): AmdRig {
    const memory = this.memory.fork()
    const iommus = this.iommus.map((iommu) => iommu.forkOnto(memory))
    const endpoints = this.endpoints.map((each) => each.forkOnto(memory.words))
    const driver = this.driver.fork({ ports: iommus, memory, setDeviceFeature: switchIn(endpoints) })
    return new AmdRig(memory, iommus, endpoints, driver, this.backend.forkOnto(driver))
  }

  /** A device that the backend must know. */
  device(deviceId: number): BackendDevice {
    return this.backend.device(deviceId)!
  }

  /** Where a request leads: `9000`, `fault` or `forwarded`. */
  leads(deviceId: number, iova: bigint, pasid?: number): string {
    const chip = this.iommus[this.driver.device(deviceId)?.iommu ?? 0]!
    return answer(chip.request({ deviceId, iova, ...(pasid === undefined ? {} : { pasid }) }))
  }

  /** The quad-words of a device's entry, lowest first. */
  entry(deviceId: number): readonly bigint[] {
    const at = this.driver.deviceTable + BigInt(deviceId * 32)
    return [0n, 8n, 16n, 24n].map((offset) => load64(this.memory, at + offset)!)
  }
}

const switchIn =
  (endpoints: readonly Endpoint[]): NonNullable<DriverPlace['setDeviceFeature']> =>
  (deviceId, feature, isOn) => {
    const endpoint = endpoints.find((each) => each.deviceId === deviceId)
    if (feature === 'ats') endpoint?.setAts(isOn)
    if (feature === 'pri') endpoint?.setPri(isOn)
  }

const answer = (translation: Translation): string =>
  translation.kind === 'translated' ? translation.spa.toString(16) : translation.kind

/** The features of {@link nestingFeatures} with bits of EFR cleared, and bits of EFR2 set or cleared. */
export const featuresBut = (changes: {
  readonly without?: readonly number[]
  readonly efr2?: bigint
}): FeatureRegisters => {
  const cleared = (changes.without ?? []).reduce((bits, bit) => bits | (1n << BigInt(bit)), 0n)
  return { efr: nestingFeatures.efr & ~cleared, efr2: changes.efr2 ?? nestingFeatures.efr2 }
}

/** Bits of EFR and EFR2, by their names. */
export const efrBit = { pprSup: 1, gtSup: 4, gIoSup: 48, ephSup: 50, hdSup: 52 } as const

/** A page that may be read and written. */
export const readWrite = { read: true, write: true } as const
