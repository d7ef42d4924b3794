/**
 * IOMMUs and a driver whose commands are counted where they arrive: in the chips, as they take them out of their rings.
 *
 * @packageDocumentation
 */
import { spa } from '@nestwalk/bits'
import { Driver, InternalError, runEffects } from '@nestwalk/driver'
import type { DomainIdPolicy, Outcome } from '@nestwalk/driver'
import { deliver, Iommu, nestingFeatures, SparseMemory } from '@nestwalk/hardware'
import { must } from '../must.js'

const memoryBytes = 2 ** 36
const driverPages = { first: spa(0x10_0000n), pages: 0x80_0000 }
const lastDeviceId = 0xff

/** See the file's comment. */
export class CountedMachine {
  private taken = 0

  private constructor(
    private readonly iommus: readonly Iommu[],
    readonly driver: Driver,
  ) {}

  static create(policy: DomainIdPolicy, iommuCount: number): CountedMachine {
    const memory = SparseMemory.create(memoryBytes)
    const iommus = Array.from({ length: iommuCount }, () =>
      Iommu.create({ memory, features: nestingFeatures }),
    )
    const made = Driver.create({ ports: iommus, memory, pages: driverPages, policy, lastDeviceId })
    const machine = new CountedMachine(iommus, must(made))
    machine.run(made)
    return machine
  }

  /** Carries an operation out to its end; returns its value. */
  run<T>(outcome: Outcome<T>): T {
    const value = must(outcome)
    const effects = outcome.ok ? outcome.effects : []
    const givenUp = runEffects(this.driver, effects, () => this.advance())
    while (this.advance());
    if (givenUp > 0) throw new InternalError('a chip did not finish its commands')
    return value
  }

  /** The commands that the chips take for an operation. */
  count(outcome: Outcome<unknown>): number {
    const before = this.taken
    this.run(outcome)
    return this.taken - before
  }

  private advance(): boolean {
    let moved = false
    for (const iommu of this.iommus) {
      if (iommu.step()) {
        this.taken += 1
        moved = true
      }
      // No devices hang on these: what is asked of their TLBs is done at once.
      if (deliver(iommu, []).unsupported > 0) moved = true
    }
    return moved
  }
}
