/** A machine whose kernel crashed while a device did DMA, and the kernel that comes after it. */
import { iova, spa } from '@nestwalk/bits'
import { Driver, runEffects } from '@nestwalk/driver'
import type { DriverOptions, Effect, Outcome } from '@nestwalk/driver'
import { expect } from 'vitest'
import { answer, Machine, readWrite, told } from './machine.js'
import type { MachineOptions } from './machine.js'

/** A device that did DMA when the kernel crashed, and one that did not. */
export const [busy, idle] = [0x18, 0x19]
export const page = 0x5000n
const oldTarget = spa(0x700000n)
export const newTarget = spa(0x800000n)

/** The machine as it was left: the busy device is on a domain with DomainID 1, where `page` leads to `oldTarget`. */
export function crashed(options: MachineOptions = {}): Machine {
  const machine = Machine.create(options)
  const { driver } = machine
  machine.run(driver.probe(busy, 1))
  machine.run(driver.probe(idle, 2))
  const domain = machine.run(driver.allocateHostTable())
  machine.run(driver.map(domain, iova(page), oldTarget, 0x1000n, readWrite))
  machine.run(driver.attach(busy, domain))
  return machine
}

/** The kernel that comes after. */
export class CrashKernel {
  readonly driver: Driver
  readonly effects: readonly Effect[]

  constructor(
    readonly machine: Machine,
    options: Partial<DriverOptions> = {},
  ) {
    const pages = { first: spa(0x2000000n), pages: 1024 }
    const { memory, iommus } = machine
    const made = Driver.create({
      takesOver: true,
      lastDeviceId: 0xff,
      ...options,
      pages,
      memory,
      ports: iommus,
    })
    if (!made.ok) throw new Error(made.why)
    this.driver = made.value
    this.effects = made.effects
  }

  static started(machine = crashed(), options: Partial<DriverOptions> = {}): CrashKernel {
    const kernel = new CrashKernel(machine, options)
    kernel.carryOut(kernel.effects)
    return kernel
  }

  carryOut(effects: readonly Effect[]): void {
    expect(runEffects(this.driver, effects, this.machine.advance)).toBe(0)
  }

  run<T>(outcome: Outcome<T>): T {
    if (!outcome.ok) throw new Error(outcome.why)
    this.carryOut(outcome.effects)
    return outcome.value
  }

  tell(outcome: Outcome<unknown>): string[] {
    this.run(outcome)
    return outcome.ok ? outcome.effects.map((effect) => told(effect, this.driver.deviceTable)) : []
  }

  /** A write of a device to `page`. */
  dma(deviceId: number): string {
    return answer(this.machine.iommu.request({ deviceId, iova: page + 0xabcn, write: true }))
  }
}
