/** What tests need of the logs that an IOMMU writes. */
import type { TakenEvent, TakenPageRequest } from '@nestwalk/driver'
import type { Machine } from './machine.js'

/** Takes events until there are no more, as the interrupt handler does. */
export function allEvents(machine: Machine, iommu = 0): TakenEvent[] {
  const all: TakenEvent[] = []
  for (;;) {
    const taken = machine.driver.takeEvents(iommu)
    if (!taken.ok) throw new Error(taken.why)
    if (taken.effects.length === 0) return all
    machine.carryOut(taken.effects)
    all.push(...taken.value.events)
  }
}

/** Takes page requests until there are no more. */
export function allPageRequests(machine: Machine, iommu = 0): TakenPageRequest[] {
  const all: TakenPageRequest[] = []
  for (;;) {
    const taken = machine.driver.takePageRequests(iommu)
    if (!taken.ok) throw new Error(taken.why)
    if (taken.effects.length === 0) return all
    machine.carryOut(taken.effects)
    all.push(...taken.value.requests)
  }
}
