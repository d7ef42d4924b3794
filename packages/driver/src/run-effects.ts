/**
 * Running effects to the end, for those who do not care what happens in between.
 *
 * @packageDocumentation
 */
import type { Driver } from './driver.js'
import type { Effect } from './effect.js'

/**
 * Carries effects out in order.
 *
 * @param advance - lets hardware take one step; false when it has nothing to do. A wait that hardware cannot end is then
 *   given up, as the kernel does after its time-out.
 * @returns how many waits were given up
 */
export function runEffects(driver: Driver, effects: readonly Effect[], advance: () => boolean): number {
  let givenUp = 0
  for (const effect of effects) {
    while (!driver.apply(effect)) {
      if (advance()) continue
      driver.giveUp(effect)
      givenUp += 1
      break
    }
  }
  return givenUp
}
