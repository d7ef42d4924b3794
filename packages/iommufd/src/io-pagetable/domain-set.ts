/**
 * The domains of an IO address space. While there is one, the pages of all areas are held.
 *
 * @packageDocumentation
 */
import type { DomainNumber, PagingDomain } from '../backend.js'
import { accept } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import type { Area } from './area.js'
import { mapAreas, unmapAreas } from './domain-mapping.js'
import type { PinEnvironment } from './pin-environment.js'

/** See the file's comment. All operations are done for all areas and domains, or for none. */
export class DomainSet {
  /** In the order of coming. */
  #domains: readonly PagingDomain[]
  #numbers: readonly DomainNumber[]

  private constructor(domains: readonly PagingDomain[]) {
    this.#domains = domains
    this.#numbers = domains.map(({ number }) => number)
  }

  static create(): DomainSet {
    return new DomainSet([])
  }

  fork(): DomainSet {
    return new DomainSet(this.#domains)
  }

  get numbers(): readonly DomainNumber[] {
    return this.#numbers
  }

  get isEmpty(): boolean {
    return this.#domains.length === 0
  }

  /** The largest of the smallest page sizes: what areas must be aligned to. 1 with no domain. */
  get smallestPage(): bigint {
    return this.#domains.map(smallestPage).reduce((a, b) => (a > b ? a : b), 1n)
  }

  /** Brings a domain in step with the areas. The first makes their pages held. */
  add(
    env: PinEnvironment,
    domain: PagingDomain,
    areas: readonly Area[],
    isHugePagesOn: boolean,
  ): Outcome<undefined> {
    if (this.#numbers.includes(domain.number)) throw new RangeError(`domain ${domain.number} is here already`)
    const refused = this.isEmpty ? holdAreas(env, areas) : undefined
    if (refused !== undefined) return refused
    const done = mapAreas(env, [domain.number], areas, isHugePagesOn)
    if (done.ok) this.#set([...this.#domains, domain])
    else if (this.isEmpty) releaseAreas(env, areas)
    return done
  }

  /** Takes all areas out of a domain. With the last their pages are let go. */
  remove(env: PinEnvironment, number: DomainNumber, areas: readonly Area[]): Outcome<undefined> {
    if (!this.#numbers.includes(number)) throw new RangeError(`domain ${number} is not here`)
    const done = unmapAreas(env, [number], areas)
    if (!done.ok) return done
    this.#set(this.#domains.filter((domain) => domain.number !== number))
    if (this.isEmpty) releaseAreas(env, areas)
    return done
  }

  /** Puts new areas into all domains. */
  map(env: PinEnvironment, areas: readonly Area[], isHugePagesOn: boolean): Outcome<undefined> {
    if (this.isEmpty) return accept(undefined)
    const refused = holdAreas(env, areas)
    if (refused !== undefined) return refused
    const done = mapAreas(env, this.#numbers, areas, isHugePagesOn)
    if (!done.ok) releaseAreas(env, areas)
    return done
  }

  /** Takes areas out of all domains. */
  unmap(env: PinEnvironment, areas: readonly Area[]): Outcome<undefined> {
    if (this.isEmpty) return accept(undefined)
    const done = unmapAreas(env, this.#numbers, areas)
    if (done.ok) releaseAreas(env, areas)
    return done
  }

  #set(domains: readonly PagingDomain[]): void {
    this.#domains = domains
    this.#numbers = domains.map(({ number }) => number)
  }
}

/** Smallest page that a domain can map. */
export const smallestPage = ({ pageSizes }: PagingDomain): bigint => pageSizes & -pageSizes

/** Holds the pages of all areas, or none. Those of a dma-buf stay as long as their exporter lets them. */
function holdAreas(env: PinEnvironment, areas: readonly Area[]): Refusal | undefined {
  for (const [i, { memory, firstPage, pages }] of areas.entries()) {
    const refused = memory.kind === 'pages' ? memory.hold(env, firstPage, pages) : undefined
    if (refused === undefined) continue
    releaseAreas(env, areas.slice(0, i))
    return refused
  }
  return undefined
}

function releaseAreas(env: PinEnvironment, areas: readonly Area[]): void {
  for (const { memory, firstPage, pages } of areas) {
    if (memory.kind === 'pages') memory.release(env, firstPage, pages)
  }
}
