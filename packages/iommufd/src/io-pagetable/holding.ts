/**
 * The pages of areas, held as long as a domain has the areas in its table.
 *
 * @packageDocumentation
 */
import type { Refusal } from '../outcome.js'
import type { Area } from './area.js'
import type { PinEnvironment } from './pin-environment.js'

/** Holds the pages of all, or none. Those of a dma-buf stay as long as their exporter lets them. */
export function holdAreas(env: PinEnvironment, areas: readonly Area[]): Refusal | undefined {
  for (const [i, { memory, firstPage, pages }] of areas.entries()) {
    const refused = memory.kind === 'pages' ? memory.hold(env, firstPage, pages) : undefined
    if (refused === undefined) continue
    releaseAreas(env, areas.slice(0, i))
    return refused
  }
  return undefined
}

/** Takes back {@link holdAreas}. */
export function releaseAreas(env: PinEnvironment, areas: Iterable<Area>): void {
  for (const { memory, firstPage, pages } of areas) {
    if (memory.kind === 'pages') memory.release(env, firstPage, pages)
  }
}
