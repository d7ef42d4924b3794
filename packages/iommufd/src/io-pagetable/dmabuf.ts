/**
 * A buffer that another driver exports. It is neither pinned nor charged, and may be taken back.
 *
 * Linux drivers/iommu/iommufd/pages.c, `iopt_alloc_dmabuf_pages`, `iopt_revoke_notify`.
 *
 * @packageDocumentation
 */
import { accept } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import type { PhysicalRun } from '../process.js'
import { PageRuns } from './page-runs.js'
import type { PinEnvironment } from './pin-environment.js'

/** Who maps a buffer, and must give it up when it is taken back. */
export interface DmabufImporter {
  /** Unmaps all areas of the buffer from all domains. The buffer counts as taken back afterwards. */
  revoked(env: PinEnvironment, dmabuf: Dmabuf): Refusal | undefined
}

/** A buffer, as its exporter has it. */
export class Dmabuf {
  readonly runs: readonly PhysicalRun[]
  readonly pages: number
  #isRevoked = false
  #revocations = 0
  /** How many areas each has. */
  readonly #importers = new Map<DmabufImporter, number>()

  private constructor(runs: readonly PhysicalRun[]) {
    this.runs = runs
    this.pages = runs.reduce((sum, run) => sum + run.pages, 0)
  }

  static create(runs: readonly PhysicalRun[]): Dmabuf {
    return new Dmabuf(runs)
  }

  /** Whoever imports the fork says so: its importers are those that are forked with it. */
  fork(memo: Map<object, object>): Dmabuf {
    const known = memo.get(this)
    if (known !== undefined) return known as Dmabuf
    const forked = new Dmabuf(this.runs)
    forked.#isRevoked = this.#isRevoked
    forked.#revocations = this.#revocations
    memo.set(this, forked)
    return forked
  }

  snapshot(): unknown {
    return { runs: this.runs.map((run) => [run.first, run.pages]), isRevoked: this.#isRevoked }
  }

  get isRevoked(): boolean {
    return this.#isRevoked
  }

  /** How often it was taken back. */
  get revocations(): number {
    return this.#revocations
  }

  /** Takes the memory back: it is unmapped everywhere, though the areas stay. */
  revoke(env: PinEnvironment): Outcome<undefined> {
    if (this.#isRevoked) return accept(undefined)
    const done = env.backend.transaction<undefined>(() => {
      for (const importer of this.#importers.keys()) {
        const refused = importer.revoked(env, this)
        if (refused !== undefined) return refused
      }
      return undefined
    })
    if (done.ok) {
      this.#isRevoked = true
      this.#revocations++
    }
    return done
  }

  /** Gives it out again: to new mappings, not to those that lost it. */
  unrevoke(): void {
    this.#isRevoked = false
  }

  imported(by: DmabufImporter): void {
    this.#importers.set(by, (this.#importers.get(by) ?? 0) + 1)
  }

  /** Takes back one {@link imported}. */
  dropped(by: DmabufImporter): void {
    const areas = (this.#importers.get(by) ?? 0) - 1
    if (areas > 0) this.#importers.set(by, areas)
    else this.#importers.delete(by)
  }
}

/** What a mapping has of a buffer: all its pages, until it is taken back. */
export class DmabufPages {
  readonly kind = 'dmabuf'
  readonly dmabuf: Dmabuf
  readonly startAddress = 0n
  readonly writeable: boolean
  readonly #runs = PageRuns.create()
  /** How often the buffer had been taken back when it was mapped. */
  readonly #revocations: number

  private constructor(dmabuf: Dmabuf, writeable: boolean, revocations: number) {
    this.dmabuf = dmabuf
    this.writeable = writeable
    this.#revocations = revocations
    this.#runs.add(0, dmabuf.runs)
  }

  static create(dmabuf: Dmabuf, writeable: boolean): DmabufPages {
    return new DmabufPages(dmabuf, writeable, dmabuf.revocations)
  }

  fork(memo: Map<object, object>): DmabufPages {
    const known = memo.get(this)
    if (known !== undefined) return known as DmabufPages
    const forked = new DmabufPages(this.dmabuf.fork(memo), this.writeable, this.#revocations)
    memo.set(this, forked)
    return forked
  }

  /** Taken back since, and so for good: giving out the buffer again brings nothing back. */
  get isRevoked(): boolean {
    return this.dmabuf.revocations !== this.#revocations
  }

  snapshot(): unknown {
    return { dmabuf: this.dmabuf.snapshot(), writeable: this.writeable, isRevoked: this.isRevoked }
  }

  runsOf(first: number, pages: number): PhysicalRun[] {
    return this.#runs.runsOf(first, pages)
  }
}
