/**
 * The kernel's side of `/dev/iommu`: its contexts, and who owns which group.
 *
 * @packageDocumentation
 */
import type { Driver } from '@nestwalk/driver'
import { Context } from './context.js'
import { ObjectTable } from './object.js'

/** How the members of a group move. */
export type GroupRule =
  /** As Linux: all members of a group are attached alike, and move together. */
  | 'whole-group'
  /** Each member may be attached to a domain of its own, as a guest sees them (gap U16). */
  | 'per-member'

/** What contexts of one kernel share. */
export interface Shared {
  readonly driver: Driver
  readonly groupRule: GroupRule
  /** Context that owns a group's DMA, by group. */
  readonly owners: Map<number, number>
}

/** See the file's comment. */
export class Iommufd {
  private constructor(
    private readonly shared: Shared,
    private readonly contexts: Context[],
  ) {}

  static create(driver: Driver, options: { readonly groupRule?: GroupRule } = {}): Iommufd {
    return new Iommufd({ driver, groupRule: options.groupRule ?? 'whole-group', owners: new Map() }, [])
  }

  /** Opens `/dev/iommu`: a new, empty context. Contexts are numbered from 0. */
  open(): Context {
    const context = new Context(this.shared, this.contexts.length, ObjectTable.create())
    this.contexts.push(context)
    return context
  }

  /** The context with a number, in this kernel rather than in the one it was forked from. */
  context(number: number): Context | undefined {
    return this.contexts[number]
  }

  /** The same kernel over a fork of its driver. */
  fork(driver: Driver): Iommufd {
    const shared = { ...this.shared, driver, owners: new Map(this.shared.owners) }
    return new Iommufd(
      shared,
      this.contexts.map((context) => context.fork(shared)),
    )
  }

  /** What the future depends on besides the driver, as plain data in a fixed order. */
  snapshot(): unknown {
    return [
      [...this.shared.owners].sort(([a], [b]) => a - b),
      this.contexts.map((context) => context.snapshot()),
    ]
  }
}
