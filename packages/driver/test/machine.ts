/** A host machine for tests: memory, chips and the driver on them. */
import { hex, iova, spa } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'
import { deviceId as asDeviceId, formatDeviceId, Iommu, load64, SparseMemory } from '@nestwalk/hardware'
import type { CommandFields, IommuOptions, Translation } from '@nestwalk/hardware'
import { Driver, everything, rangeOf, runEffects, viommuMap } from '@nestwalk/driver'
import type { DriverOptions, Effect, Outcome, Refusal } from '@nestwalk/driver'
import { expect } from 'vitest'

export interface MachineOptions
  extends
    Partial<Pick<DriverOptions, 'policy' | 'pages' | 'lastDeviceId' | 'lastDomainId'>>,
    Omit<IommuOptions, 'memory'> {
  readonly memory?: SparseMemory
  readonly iommus?: number
}

export const readWrite = { read: true, write: true }

/** A device table entry as it stands in memory, lowest quad-word first. */
export type Entry = readonly [bigint, bigint, bigint, bigint]

export class Machine {
  private constructor(
    readonly memory: SparseMemory,
    readonly iommus: readonly Iommu[],
    readonly driver: Driver,
  ) {}

  /** A machine that is up. */
  static create(options: MachineOptions = {}): Machine {
    const memory = options.memory ?? SparseMemory.create(2 ** 52)
    const iommus = Array.from({ length: options.iommus ?? 1 }, () => Iommu.create({ ...options, memory }))
    const made = Driver.create({
      policy: viommuMap,
      pages: { first: spa(0x100000n), pages: 4096 },
      lastDeviceId: 0xff,
      ...options,
      ports: iommus,
      memory,
    })
    if (!made.ok) throw new Error(made.why)
    const machine = new Machine(memory, iommus, made.value)
    machine.carryOut(made.effects)
    return machine
  }

  get iommu(): Iommu {
    return this.iommus[0]!
  }

  /** Lets each chip take a step. */
  readonly advance = (): boolean => this.iommus.map((iommu) => iommu.step()).includes(true)

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
    return new Machine(memory, iommus, this.driver.fork({ ports: iommus, memory }))
  }

  load(address: bigint): bigint {
    return load64(this.memory, address)!
  }

  entry(deviceId: number): Entry {
    const at = this.driver.deviceTable + BigInt(deviceId * 32)
    return [this.load(at), this.load(at + 8n), this.load(at + 16n), this.load(at + 24n)]
  }
}

export const asText = (value: unknown): string =>
  JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? hex(each) : each))

/**
 * An effect in a few words: `00:03.0 upper`, `DEVTAB 00:03.0`, `PAGES 1 all PDE`, `PAGES 1 3000+2000 GN 0`, `WAIT`;
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
    case 'wait':
      return 'WAIT'
    case 'command':
      return toldCommand(effect.command)
  }
}

function halfOf(offset: bigint): string {
  const device = formatDeviceId(asDeviceId(Number(offset / 32n)))
  return `${device} ${offset % 32n === 0n ? 'lower' : 'upper'}`
}

function toldCommand(command: CommandFields): string {
  if (command.kind === 'InvalidateDevtabEntry') return `DEVTAB ${formatDeviceId(command.deviceId!)}`
  if (command.kind !== 'InvalidateIommuPages') return command.kind
  const { first, last } = rangeOf({ size: command.size!, address: iova(command.address!) })
  const range = last === everything.last ? 'all' : `${first.toString(16)}+${(last - first + 1n).toString(16)}`
  const guest = command.guestNested === true ? ` GN ${command.pasid!}` : ''
  return `PAGES ${command.domainId!} ${range}${command.directories === true ? ' PDE' : ''}${guest}`
}

/** Where a request leads, or why not: `translated 200abc`, `forwarded`, `fault`. */
export const answer = (translation: Translation): string =>
  translation.kind === 'translated' ? `translated ${translation.spa.toString(16)}` : translation.kind

/** `effects` without those on page tables. */
export const withoutTables = (lines: readonly string[]): string[] => lines.filter((line) => line !== 'tables')
