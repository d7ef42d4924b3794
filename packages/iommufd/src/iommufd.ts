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
  /** By number. */
  readonly contexts: Context[]
}

/** See the file's comment. */
export class Iommufd {
  private constructor(private readonly shared: Shared) {}

  static create(driver: Driver, options: { readonly groupRule?: GroupRule } = {}): Iommufd {
    const { groupRule = 'whole-group' } = options
    return new Iommufd({ driver, groupRule, owners: new Map(), contexts: [] })
  }

  /** Opens `/dev/iommu`: a new, empty context. Contexts are numbered from 0. */
  open(): Context {
    const { contexts } = this.shared
    const context = new Context(this.shared, contexts.length, ObjectTable.create())
    contexts.push(context)
    return context
  }

  /** The context with a number, in this kernel rather than in the one it was forked from. */
  context(number: number): Context | undefined {
    return this.shared.contexts[number]
  }

  /** The same kernel over a fork of its driver. */
  fork(driver: Driver): Iommufd {
    const { groupRule, owners, contexts } = this.shared
    const shared: Shared = { driver, groupRule, owners: new Map(owners), contexts: [] }
    for (const context of contexts) shared.contexts.push(context.fork(shared))
    return new Iommufd(shared)
  }

  /** What the future depends on besides the driver, as plain data in a fixed order. */
  snapshot(): unknown {
    return [
      [...this.shared.owners].sort(([a], [b]) => a - b),
      this.shared.contexts.map((context) => context.snapshot()),
    ]
  }
}
