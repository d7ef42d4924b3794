/** A backend that remembers what is mapped, and nothing else. What a driver would not survive throws. */
import type { AddressRange, IommuBackend, PagingDomain } from '../../src/backend.js'
import { accept, isRefusal, refuse } from '../../src/outcome.js'
import type { Outcome, Refusal } from '../../src/outcome.js'

export interface Mapped {
  readonly iova: bigint
  readonly physical: bigint
  readonly length: bigint
  readonly rights: string
  readonly largestPage: bigint | undefined
}

export class FakeBackend {
  readonly name = 'fake'
  /** In the order of coming, by domain. */
  mapped = new Map<number, Mapped[]>()
  /** Calls of `map` that succeed before one fails. */
  goodMaps = Infinity
  maps = 0
  unmaps = 0

  domain(
    number: number,
    aperture: AddressRange = { first: 0n, last: 0xffff_ffff_ffff_ffffn },
    pageSizes = 0x800n,
  ): PagingDomain {
    this.mapped.set(number, [])
    return { number, aperture, pageSizes, canTrackDirty: false, enforcesCoherency: false }
  }

  get asBackend(): IommuBackend {
    return this as unknown as IommuBackend
  }

  transaction<T>(operations: () => T | Refusal): Outcome<T> {
    const before = new Map(Array.from(this.mapped, ([domain, list]) => [domain, [...list]]))
    const done = operations()
    if (!isRefusal(done)) return accept(done)
    this.mapped = before
    return done
  }

  map(
    domain: number,
    iova: bigint,
    physical: bigint,
    length: bigint,
    rights: { readonly read: boolean; readonly write: boolean },
    largestPage?: bigint,
  ): Outcome<undefined> {
    this.maps++
    if (this.goodMaps-- <= 0) return refuse('iova-none-free', 'the fake has had enough')
    const list = this.#list(domain)
    if (length <= 0n || list.some((old) => iova < old.iova + old.length && old.iova < iova + length))
      throw new Error(`0x${iova.toString(16)} is mapped already`)
    list.push({
      ...{ iova, physical, length, largestPage },
      rights: (rights.read ? 'r' : '') + (rights.write ? 'w' : ''),
    })
    return accept(undefined)
  }

  unmap(domain: number, iova: bigint, length: bigint): Outcome<bigint> {
    this.unmaps++
    const end = iova + length
    let bytes = 0n
    const kept = this.#list(domain).flatMap((old) => {
      const from = old.iova > iova ? old.iova : iova
      const to = old.iova + old.length < end ? old.iova + old.length : end
      if (from >= to) return [old]
      bytes += to - from
      const right = { ...old, iova: to, physical: old.physical + to - old.iova }
      return [
        { ...old, length: from - old.iova },
        { ...right, length: old.iova + old.length - to },
      ].filter((rest) => rest.length > 0n)
    })
    if (bytes !== length) throw new Error(`0x${iova.toString(16)} is not mapped throughout`)
    this.mapped.set(domain, kept)
    return accept(bytes)
  }

  translate(domain: number, iova: bigint): bigint | undefined {
    const found = this.#list(domain).find((old) => old.iova <= iova && iova < old.iova + old.length)
    return found === undefined ? undefined : found.physical + iova - found.iova
  }

  #list(domain: number): Mapped[] {
    const list = this.mapped.get(domain)
    if (list === undefined) throw new Error(`there is no domain ${domain}`)
    return list
  }
}
