/** What tests need of the logs that an IOMMU writes. */
import { spa } from '@nestwalk/bits'
import { registers } from '@nestwalk/hardware'
import type { IommuPort } from '@nestwalk/hardware'
import type { TakenEvent, TakenPageRequest } from '@nestwalk/driver'
import type { Machine } from './machine.js'

/** PPRLogEn, PPRIntEn and PPREn of Control. */
const pageRequestBits = 0xe000n

/** Turns page requests on where bring-up has not. */
export function turnOnPageRequests(port: IommuPort): void {
  const control = port.readMmio(registers.control.offset, 8)
  if ((control & pageRequestBits) === pageRequestBits) return
  const log = spa(0x800_0000n)
  port.writeMmio(registers.pprLogBase.offset, 8, log | (9n << 56n))
  port.writeMmio(registers.control.offset, 8, control | pageRequestBits)
}

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
