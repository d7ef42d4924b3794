/**
 * The kernel's own use of an IO address space: a mediated device, a hardware queue, or a test.
 *
 * Linux drivers/iommu/iommufd/device.c, `struct iommufd_access`.
 *
 * @packageDocumentation
 */
import { accept, refuse } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import type { PhysicalRun } from '../process.js'
import { lastAddress, offsetBehind, pageBehind } from './area.js'
import type { Area } from './area.js'
import type { AttachedAccess } from './attached-access.js'
import type { IoPagetable } from './io-pagetable.js'
import { appendRun } from './page-runs.js'
import type { PageSpan } from './page-runs.js'
import type { Pages } from './pages.js'
import type { PinEnvironment } from './pin-environment.js'

/** Who holds an access. */
export interface AccessOwner {
  /** Must let go of all it has pinned in the range: {@link Access.unpin} with what was pinned. */
  unmapped(env: PinEnvironment, first: bigint, length: bigint): void
  /** The owner in a fork of its machine. Without: the same for both. */
  fork?(memo: Map<object, object>): AccessOwner
}

export interface AccessRequest {
  /** Whether it may pin: then areas must be aligned to pages. */
  readonly needsPages: boolean
  /** Of the kernel's own: areas with pinned pages are locked. */
  readonly isInternal?: boolean
  readonly owner?: AccessOwner
}

/** The part of an area that an access uses. */
interface AreaUse extends PageSpan {
  readonly area: Area
  readonly memory: Pages
}

/** See the file's comment. It is on one IOAS at a time, or on none. */
export class Access implements AttachedAccess {
  readonly alignment: bigint
  readonly isInternal: boolean
  #owner: AccessOwner | undefined
  #table: IoPagetable | undefined
  /** Where pages are let go: while it leaves an IOAS it is on none, but still has pages there. */
  #pinTable: IoPagetable | undefined

  private constructor(alignment: bigint, isInternal: boolean, owner: AccessOwner | undefined) {
    this.alignment = alignment
    this.isInternal = isInternal
    this.#owner = owner
  }

  static create({ needsPages, isInternal = false, owner }: AccessRequest): Access {
    return new Access(needsPages ? 4096n : 1n, isInternal, owner)
  }

  fork(memo: Map<object, object>): Access {
    const known = memo.get(this)
    if (known !== undefined) return known as Access
    const forked = new Access(this.alignment, this.isInternal, undefined)
    memo.set(this, forked)
    forked.#table = forked.#pinTable = this.#table?.fork(memo)
    const owner = this.#owner
    if (owner === undefined) return forked
    forked.#owner = (memo.get(owner) as AccessOwner | undefined) ?? owner.fork?.(memo) ?? owner
    memo.set(owner, forked.#owner)
    return forked
  }

  snapshot(): unknown {
    return { alignment: this.alignment, isInternal: this.isInternal, isAttached: this.#table !== undefined }
  }

  get table(): IoPagetable | undefined {
    return this.#table
  }

  get needsPages(): boolean {
    return this.alignment > 1n
  }

  /** Puts it on its first IOAS. EINVAL, EADDRINUSE. */
  attach(_env: PinEnvironment, table: IoPagetable): Outcome<undefined> {
    if (this.#table !== undefined) return refuse('access-attached', 'the access is on an IOAS')
    const refused = table.addAccess(this)
    if (refused !== undefined) return refused
    this.#table = this.#pinTable = table
    return accept(undefined)
  }

  /** Moves it to another IOAS; its owner is told to let go of everything. ENOENT, EADDRINUSE. */
  replace(env: PinEnvironment, table: IoPagetable): Outcome<undefined> {
    if (this.#table === undefined) return refuse('access-unattached', 'the access is on no IOAS')
    if (this.#table === table) return accept(undefined)
    const refused = table.addAccess(this)
    if (refused !== undefined) return refused
    this.#leave(env)
    this.#table = this.#pinTable = table
    return accept(undefined)
  }

  /** Takes it off; its owner is told to let go of everything. */
  detach(env: PinEnvironment): void {
    if (this.#table !== undefined) this.#leave(env)
  }

  /** An area is to be unmapped. */
  unmapped(env: PinEnvironment, first: bigint, length: bigint): void {
    this.#owner?.unmapped(env, first, length)
  }

  /**
   * Pins the pages behind a range, all or none. Returns where they are: whole pages, from the one with the first byte.
   * EINVAL, EOVERFLOW, ENOENT, EPERM, EFAULT, ENOMEM.
   */
  pin(env: PinEnvironment, iova: bigint, length: bigint, writes: boolean): Outcome<readonly PhysicalRun[]> {
    if (!this.needsPages) return refuse('access-needs-no-pages', 'the access may not pin')
    const last = iova + length - 1n
    const table = this.#tableFor(length, last)
    if (!('adjoiningAreas' in table)) return table
    const { areas, isCovered } = table.adjoiningAreas(iova, last)
    const pinned: AreaUse[] = []
    let refused: Refusal | undefined
    for (const area of areas) {
      refused = this.#pinArea(env, area, { iova, last, writes }, pinned)
      if (refused !== undefined) break
    }
    if (refused === undefined && !isCovered) refused = unmappedRange(iova, last)
    if (refused !== undefined) {
      for (const use of pinned) this.#unpinArea(env, use)
      return refused
    }
    const runs: PhysicalRun[] = []
    for (const { memory, first, pages } of pinned) {
      for (const run of memory.runsOf(first, pages)) appendRun(runs, run.first, run.pages)
    }
    return accept(runs)
  }

  /** Lets go of a range that was pinned, exactly. */
  unpin(env: PinEnvironment, iova: bigint, length: bigint): void {
    const last = iova + length - 1n
    const { areas, isCovered } = this.#pinTable?.adjoiningAreas(iova, last) ?? { areas: [], isCovered: false }
    const uses = areas.map((area) => useOf(area, iova, last))
    const pinned = uses.filter((use) => use?.memory.isAccessPinned(use.first, use.pages))
    if (!isCovered || pinned.length < areas.length)
      throw new RangeError(`0x${iova.toString(16)}-0x${last.toString(16)} is not pinned`)
    for (const use of pinned) if (use !== undefined) this.#unpinArea(env, use)
  }

  /**
   * Copies bytes between a buffer and the memory behind a range; up to where it is refused, it is done.
   * EINVAL, EOVERFLOW, ENOENT, EPERM, EFAULT.
   *
   * @param process - key of the caller's memory: with that of the mapping process no page is pinned. `undefined`: none's
   */
  rw(
    env: PinEnvironment,
    process: number | undefined,
    iova: bigint,
    bytes: Uint8Array,
    writes: boolean,
  ): Outcome<undefined> {
    const length = BigInt(bytes.length)
    const last = iova + length - 1n
    const table = this.#tableFor(length, last)
    if (!('adjoiningAreas' in table)) return table
    const { areas, isCovered } = table.adjoiningAreas(iova, last)
    for (const area of areas) {
      const refused =
        whyNotAccessible(area, writes) ?? copyArea(env, process, area, { iova, last, bytes, writes })
      if (refused !== undefined) return refused
    }
    return isCovered ? accept(undefined) : unmappedRange(iova, last)
  }

  #tableFor(length: bigint, last: bigint): IoPagetable | Refusal {
    if (length === 0n) return refuse('access-length', 'there is nothing to access')
    if (last > lastAddress) return refuse('iova-wraps', 'the range runs past the last IOVA')
    return this.#table ?? refuse('access-unattached', 'the access is on no IOAS')
  }

  #leave(env: PinEnvironment): void {
    const table = this.#table
    this.#table = undefined
    if (!this.isInternal) this.#owner?.unmapped(env, 0n, lastAddress)
    table?.removeAccess(this)
    this.#pinTable = undefined
  }

  #pinArea(
    env: PinEnvironment,
    area: Area,
    range: { readonly iova: bigint; readonly last: bigint; readonly writes: boolean },
    pinned: AreaUse[],
  ): Refusal | undefined {
    const { iova, last, writes } = range
    const at = `the area at 0x${area.first.toString(16)}`
    if (area.isClosed) return refuse('access-closed', `${at} is being unmapped`)
    const start = area.first < iova ? iova : area.first
    const endsInPage = last > area.last && offsetBehind(area, area.last) !== 0xfff
    if (offsetBehind(area, start) !== 0 || endsInPage)
      return refuse('access-alignment', `whole pages of ${at} cannot be pinned`)
    const refused = whyNotAccessible(area, writes)
    if (refused !== undefined) return refused
    const use = useOf(area, iova, last)
    const failed = use?.memory.pin(env, use.first, use.pages)
    if (use === undefined || failed !== undefined) return failed
    area.accesses++
    if (this.isInternal) area.locks++
    pinned.push(use)
    return undefined
  }

  #unpinArea(env: PinEnvironment, { area, memory, first, pages }: AreaUse): void {
    memory.unpin(env, first, pages)
    area.accesses--
    if (this.isInternal) area.locks--
  }
}

function whyNotAccessible(area: Area, writes: boolean): Refusal | undefined {
  const at = `the area at 0x${area.first.toString(16)}`
  if (area.isClosed) return refuse('access-closed', `${at} is being unmapped`)
  if (area.memory.kind === 'dmabuf') return refuse('access-dmabuf', `${at} is of a dma-buf`)
  if (!(writes ? area.writeable : area.readable))
    return refuse('access-rights', `${at} may not be ${writes ? 'written' : 'read'}`)
  return undefined
}

/** The pages of an area that a range uses. */
function useOf(area: Area, iova: bigint, last: bigint): AreaUse | undefined {
  if (area.memory.kind !== 'pages') return undefined
  const first = pageBehind(area, area.first < iova ? iova : area.first)
  const pages = pageBehind(area, area.last > last ? last : area.last) - first + 1
  return { area, memory: area.memory, first, pages }
}

/** Copies what a buffer and an area share. */
function copyArea(
  env: PinEnvironment,
  process: number | undefined,
  area: Area,
  copy: {
    readonly iova: bigint
    readonly last: bigint
    readonly bytes: Uint8Array
    readonly writes: boolean
  },
): Refusal | undefined {
  const { iova, last, bytes, writes } = copy
  const use = useOf(area, iova, last)
  if (use === undefined) return undefined
  const { memory, first, pages } = use
  const start = area.first < iova ? iova : area.first
  const stop = area.last > last ? last : area.last
  // A file, or memory of another process, goes through pages, which are pinned while it is copied.
  const pins = (memory.isFile || process !== memory.charge.mm) && !memory.isPinned(first, pages)
  const part = bytes.subarray(Number(start - iova), Number(stop - iova) + 1)
  const offset = first * 4096 + offsetBehind(area, start)
  const isDone =
    !(pins && env.shouldFail?.() === true) &&
    (writes ? memory.source.write(offset, part) : memory.source.read(offset, part))
  return isDone
    ? undefined
    : refuse('access-fault', `the memory behind 0x${start.toString(16)}-0x${stop.toString(16)} is not there`)
}

const unmappedRange = (first: bigint, last: bigint): Refusal =>
  refuse('access-unmapped', `0x${first.toString(16)}-0x${last.toString(16)} is not mapped throughout`)
