/**
 * Putting areas into the page tables of domains, and taking them out.
 *
 * @packageDocumentation
 */
import type { DomainNumber } from '../backend.js'
import { accept, refuse } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import type { Area } from './area.js'
import type { PinEnvironment } from './pin-environment.js'

const pageBytes = 4096n

/** One call of the backend. */
interface Piece {
  readonly iova: bigint
  readonly physical: bigint
  readonly length: bigint
  readonly rights: { readonly read: boolean; readonly write: boolean }
}

/**
 * Maps areas, whose pages are held, into domains, all or none.
 *
 * @param isHugePagesOn - off: no table entry is larger than a page of the processor
 */
export function mapAreas(
  env: PinEnvironment,
  domains: readonly DomainNumber[],
  areas: Iterable<Area>,
  isHugePagesOn: boolean,
): Outcome<undefined> {
  const pieces: Piece[] = []
  for (const area of areas) {
    if (!area.readable && !area.writeable)
      return refuse('area-without-rights', `0x${area.first.toString(16)} may be neither read nor written`)
    addPieces(pieces, area)
  }
  const largestPage = isHugePagesOn ? undefined : pageBytes
  const map = (domain: DomainNumber, { iova, physical, length, rights }: Piece): Outcome<undefined> =>
    env.backend.map(domain, iova, physical, length, rights, largestPage)
  return forEach(env, domains, pieces, map)
}

/** Unmaps areas from domains. */
export function unmapAreas(
  env: PinEnvironment,
  domains: readonly DomainNumber[],
  areas: readonly Area[],
): Outcome<undefined> {
  const mapped = areas.filter((area) => !isLost(area))
  return forEach(env, domains, mapped, (domain, { first, last }) =>
    env.backend.unmap(domain, first, last - first + 1n),
  )
}

/** Does something for each domain, all or none: one thing needs no transaction. */
function forEach<T>(
  env: PinEnvironment,
  domains: readonly DomainNumber[],
  things: readonly T[],
  call: (domain: DomainNumber, thing: T) => Outcome<unknown>,
): Outcome<undefined> {
  const domain = domains[0]
  const thing = things[0]
  if (domain === undefined || thing === undefined) return accept(undefined)
  if (domains.length === 1 && things.length === 1) {
    const done = call(domain, thing)
    return done.ok ? accept(undefined, done.effects) : done
  }
  return env.backend.transaction<undefined>((): Refusal | undefined => {
    for (const each of domains) {
      for (const one of things) {
        const done = call(each, one)
        if (!done.ok) return done
      }
    }
    return undefined
  })
}

/** An area of a buffer that was taken back is in no page table. */
const isLost = ({ memory }: Area): boolean => memory.kind === 'dmabuf' && memory.isRevoked

/** One piece for each physically contiguous run behind an area. */
function addPieces(pieces: Piece[], area: Area): void {
  if (isLost(area)) return
  const rights = { read: area.readable, write: area.writeable }
  let iova = area.first
  let skip = BigInt(area.offset)
  for (const run of area.memory.runsOf(area.firstPage, area.pages)) {
    const all = BigInt(run.pages) * pageBytes - skip
    const rest = area.last - iova + 1n
    const length = all < rest ? all : rest
    pieces.push({ iova, physical: run.first + skip, length, rights })
    iova += length
    skip = 0n
  }
}
