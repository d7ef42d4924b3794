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
  /** By number, in the order of coming. */
  readonly #domains: Map<DomainNumber, PagingDomain>
  /** How many domains have a smallest page of so many bytes. */
  readonly #smallest = new Map<bigint, number>()
  /** Until the next change. */
  #numbers: readonly DomainNumber[] | undefined

  private constructor(domains: Map<DomainNumber, PagingDomain>) {
    this.#domains = domains
    for (const domain of domains.values()) this.#count(domain, 1)
  }

  static create(): DomainSet {
    return new DomainSet(new Map())
  }

  fork(): DomainSet {
    return new DomainSet(new Map(this.#domains))
  }

  get numbers(): readonly DomainNumber[] {
    this.#numbers ??= [...this.#domains.keys()]
    return this.#numbers
  }

  get isEmpty(): boolean {
    return this.#domains.size === 0
  }

  /** The largest of the smallest page sizes: what areas must be aligned to. 1 with no domain. */
  get smallestPage(): bigint {
    let largest = 1n
    for (const size of this.#smallest.keys()) if (size > largest) largest = size
    return largest
  }

  /** Brings a domain in step with the areas. The first makes their pages held. */
  add(
    env: PinEnvironment,
    domain: PagingDomain,
    areas: readonly Area[],
    isHugePagesOn: boolean,
  ): Outcome<undefined> {
    if (this.#domains.has(domain.number)) throw new RangeError(`domain ${domain.number} is here already`)
    const refused = this.isEmpty ? holdAreas(env, areas) : undefined
    if (refused !== undefined) return refused
    const done = mapAreas(env, [domain.number], areas, isHugePagesOn)
    if (done.ok) {
      this.#domains.set(domain.number, domain)
      this.#count(domain, 1)
    } else if (this.isEmpty) releaseAreas(env, areas)
    return done
  }

  /** Takes all areas out of a domain. With the last their pages are let go. */
  remove(env: PinEnvironment, number: DomainNumber, areas: readonly Area[]): Outcome<undefined> {
    const domain = this.#domains.get(number)
    if (domain === undefined) throw new RangeError(`domain ${number} is not here`)
    const done = unmapAreas(env, [number], areas)
    if (!done.ok) return done
    this.#domains.delete(number)
    this.#count(domain, -1)
    if (this.isEmpty) releaseAreas(env, areas)
    return done
  }

  /** Puts new areas into all domains. */
  map(env: PinEnvironment, areas: readonly Area[], isHugePagesOn: boolean): Outcome<undefined> {
    if (this.isEmpty) return accept(undefined)
    const refused = holdAreas(env, areas)
    if (refused !== undefined) return refused
    const done = mapAreas(env, this.numbers, areas, isHugePagesOn)
    if (!done.ok) releaseAreas(env, areas)
    return done
  }

  /** Takes areas out of all domains. */
  unmap(env: PinEnvironment, areas: readonly Area[]): Outcome<undefined> {
    if (this.isEmpty) return accept(undefined)
    const done = unmapAreas(env, this.numbers, areas)
    if (done.ok) releaseAreas(env, areas)
    return done
  }

  #count(domain: PagingDomain, change: number): void {
    const size = smallestPage(domain)
    const count = (this.#smallest.get(size) ?? 0) + change
    if (count > 0) this.#smallest.set(size, count)
    else this.#smallest.delete(size)
    this.#numbers = undefined
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
