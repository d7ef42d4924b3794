/**
 * The memory of one mapping. A page is pinned once, however many areas, domains and accesses use it.
 *
 * Linux drivers/iommu/iommufd/pages.c, `struct iopt_pages`.
 *
 * @packageDocumentation
 */
import { isRefusal, refuse } from '../outcome.js'
import type { Refusal } from '../outcome.js'
import type { PageSource, PhysicalRun, PinFailure } from '../process.js'
import { PageRuns } from './page-runs.js'
import type { PageSpan } from './page-runs.js'
import type { PinCharge } from './pin-accounts.js'
import type { PinEnvironment } from './pin-environment.js'

export interface PagesRequest {
  /** Its page 0 holds the first byte. */
  readonly source: PageSource
  /** Address, or offset in the file, of the first byte of page 0. */
  readonly startAddress: bigint
  readonly isFile: boolean
  readonly writeable: boolean
  readonly charge: PinCharge
}

/** Pages that an access has pinned together, and how often. */
interface AccessPin {
  readonly first: number
  readonly pages: number
  users: number
}

const failureRules = {
  EFAULT: 'pin-fault',
  EINVAL: 'pin-file',
  ENOMEM: 'pin-memory',
} as const satisfies Record<PinFailure, string>

/** See the file's comment. */
export class Pages {
  readonly kind = 'pages'
  readonly source: PageSource
  readonly startAddress: bigint
  readonly isFile: boolean
  readonly writeable: boolean
  #charge: PinCharge
  #held: PageRuns
  /** By first page and number of pages. Most mappings are used by no access. */
  #pins: Map<string, AccessPin> | undefined

  private constructor(request: PagesRequest, held: PageRuns) {
    this.source = request.source
    this.startAddress = request.startAddress
    this.isFile = request.isFile
    this.writeable = request.writeable
    this.#charge = request.charge
    this.#held = held
  }

  static create(request: PagesRequest): Pages {
    return new Pages(request, PageRuns.create())
  }

  fork(memo: Map<object, object>): Pages {
    const known = memo.get(this)
    if (known !== undefined) return known as Pages
    const { startAddress, isFile, writeable } = this
    const source = forkSource(this.source, memo)
    const request = { source, startAddress, isFile, writeable, charge: this.#charge }
    const forked = new Pages(request, this.#held.fork())
    if (this.#pins !== undefined)
      forked.#pins = new Map(Array.from(this.#pins, ([key, pin]) => [key, { ...pin }]))
    memo.set(this, forked)
    return forked
  }

  snapshot(): unknown {
    return {
      startAddress: this.startAddress,
      isFile: this.isFile,
      writeable: this.writeable,
      charge: { ...this.#charge },
      held: this.#held.snapshot(),
      pins: [...(this.#pins?.values() ?? [])]
        .map(({ first, pages, users }) => [first, pages, users] as const)
        .sort(([a, m], [b, n]) => a - b || m - n),
    }
  }

  /** Who pays. */
  get charge(): PinCharge {
    return this.#charge
  }

  /** What is pinned now, in order of the pages. */
  pinnedRuns(): Iterable<PhysicalRun> {
    return this.#held
  }

  /** Number of the pinned page at a physical address, a multiple of 4096. */
  pageAt(physical: bigint): number | undefined {
    return this.#held.numberOf(physical)
  }

  get pinnedPages(): number {
    return this.#held.pages
  }

  isPinned(first: number, pages: number): boolean {
    return this.#held.missing(first, pages).length === 0
  }

  /** Where pinned pages are. */
  runsOf(first: number, pages: number): PhysicalRun[] {
    return this.#held.runsOf(first, pages)
  }

  /** Uses pages once more; those that nobody has used are pinned and charged, all or none. EFAULT, EINVAL, ENOMEM. */
  hold(env: PinEnvironment, first: number, pages: number): Refusal | undefined {
    const gaps = this.#held.missing(first, pages)
    const pinned = gaps.length === 0 ? [] : this.#pinAll(env, gaps)
    if (isRefusal(pinned)) return pinned
    pinned.forEach(([gap, runs]) => this.#held.add(gap.first, runs))
    this.#held.use(first, pages)
    return undefined
  }

  /** Takes back one {@link hold}. */
  release(env: PinEnvironment, first: number, pages: number): void {
    for (const span of this.#held.drop(first, pages)) {
      this.source.unpin(span.first, span.pages)
      env.accounts.discharge(this.#charge, span.pages)
    }
  }

  /** Holds pages for an access. Equal spans are held once. */
  pin(env: PinEnvironment, first: number, pages: number): Refusal | undefined {
    const key = pinKey(first, pages)
    const pin = this.#pins?.get(key)
    if (pin !== undefined) {
      pin.users++
      return undefined
    }
    const refused = this.hold(env, first, pages)
    if (refused !== undefined) return refused
    this.#pins ??= new Map()
    this.#pins.set(key, { first, pages, users: 1 })
    return undefined
  }

  /** Takes back one {@link pin} of exactly that span. */
  unpin(env: PinEnvironment, first: number, pages: number): void {
    const key = pinKey(first, pages)
    const pin = this.#pins?.get(key)
    if (pin === undefined)
      throw new RangeError(`an access has not pinned ${pages} pages from page ${first} on`)
    pin.users--
    if (pin.users > 0) return
    this.#pins?.delete(key)
    this.release(env, first, pages)
  }

  isAccessPinned(first: number, pages: number): boolean {
    return this.#pins?.has(pinKey(first, pages)) === true
  }

  /** Someone else pays from now on: the accounts have been changed. */
  payBy(charge: PinCharge): void {
    this.#charge = charge
  }

  #pinAll(
    env: PinEnvironment,
    spans: readonly PageSpan[],
  ): (readonly [PageSpan, readonly PhysicalRun[]])[] | Refusal {
    const pinned: (readonly [PageSpan, readonly PhysicalRun[]])[] = []
    let pages = 0
    let refused: Refusal | undefined
    for (const span of spans) {
      const runs = this.#pinSpan(env, span)
      if (isRefusal(runs)) {
        refused = runs
        break
      }
      pinned.push([span, runs])
      pages += span.pages
    }
    refused ??= chargePages(env, this.#charge, pages)
    if (refused === undefined) return pinned
    for (const [span] of pinned) this.source.unpin(span.first, span.pages)
    return refused
  }

  #pinSpan(env: PinEnvironment, { first, pages }: PageSpan): readonly PhysicalRun[] | Refusal {
    const failure = env.shouldFail?.() === true ? 'EFAULT' : this.source.pin(first, pages, this.writeable)
    if (typeof failure !== 'string') return failure
    const from = (this.startAddress + BigInt(first) * 4096n).toString(16)
    return refuse(
      failureRules[failure],
      `${pages} pages from ${this.isFile ? 'byte' : 'address'} 0x${from} cannot be pinned`,
    )
  }
}

/** Charges pages, unless that is made to fail. */
export function chargePages(env: PinEnvironment, charge: PinCharge, pages: number): Refusal | undefined {
  if (env.shouldFail?.() === true) return refuse('pin-charge', `${pages} pages could not be charged`)
  return env.accounts.charge(charge, pages)
}

const pinKey = (first: number, pages: number): string => `${first}+${pages}`

/** A source that can be forked goes along with its machine; others are the same for both. */
function forkSource(source: PageSource, memo: Map<object, object>): PageSource {
  return (memo.get(source) as PageSource | undefined) ?? source.fork?.(memo) ?? source
}
