/**
 * The kernel's side of `/dev/iommu`: its contexts, and who owns which group.
 *
 * @packageDocumentation
 */
import type { IommuBackend, Report } from './backend.js'
import { Context } from './context.js'
import { boundDevice } from './hwpt/bind.js'
import { PinAccounts } from './io-pagetable/pin-accounts.js'
import type { GroupRule, KernelState } from './kernel-state.js'
import { accept } from './outcome.js'
import type { Outcome } from './outcome.js'
import { viommuWithNumber } from './viommu/allocate.js'

export interface IommufdOptions {
  readonly groupRule?: GroupRule
  /** Asked at each step that may fail: fault injection. A fork has none. */
  readonly shouldFail?: () => boolean
}

/** See the file's comment. */
export class Iommufd {
  /** Contexts are numbered from 0. */
  private constructor(
    private readonly state: KernelState,
    private nextContext: number,
  ) {}

  static create(backend: IommuBackend, options: IommufdOptions = {}): Iommufd {
    const { groupRule = 'whole-group', shouldFail } = options
    const state: KernelState = {
      ...{ backend, accounts: PinAccounts.create(), groupRule, owners: new Map(), contexts: new Map() },
      ...(shouldFail === undefined ? {} : { shouldFail }),
    }
    return new Iommufd(state, 0)
  }
  /** Opens `/dev/iommu`: a new, empty context. */
  open(): Context {
    const context = Context.create(this.state, this.nextContext)
    this.state.contexts.set(context.number, context)
    this.nextContext += 1
    return context
  }

  get backend(): IommuBackend {
    return this.state.backend
  }

  /** The open context with a number, in this kernel rather than in the one it was forked from. */
  context(number: number): Context | undefined {
    return this.state.contexts.get(number)
  }

  /** The open contexts. */
  get contexts(): Iterable<Context> {
    return this.state.contexts.values()
  }

  /** Pages that are pinned (VmPin) and that count as locked (VmLck). */
  get accounts(): PinAccounts {
    return this.state.accounts
  }

  /** Hands what the IOMMUs have reported to the queues that it is for. What nobody waits for is dropped. */
  deliverReports(): Outcome<undefined> {
    const { backend } = this.state
    return backend.transaction<undefined>(() => {
      const reports = backend.takeReports()
      if (!reports.ok) return reports
      for (const report of reports.value) {
        const done = deliver(this.state, report)
        if (!done.ok) return done
      }
      return undefined
    })
  }

  /** The same kernel over a fork of its driver. */
  fork(backend: IommuBackend): Iommufd {
    const { accounts, groupRule, owners, contexts } = this.state
    const state: KernelState = {
      ...{ backend, accounts: accounts.fork(), groupRule },
      ...{ owners: new Map(owners), contexts: new Map<number, Context>() },
    }
    const memo = new Map<object, object>()
    for (const [number, context] of contexts) state.contexts.set(number, context.fork(state, memo))
    return new Iommufd(state, this.nextContext)
  }

  /** What the future depends on besides the driver, as plain data in a fixed order. */
  snapshot(): unknown {
    const { owners, contexts, accounts } = this.state
    const numbers = new Map<object, number>()
    return [
      [...owners].sort(([a], [b]) => a - b).map(([group, { context, devices }]) => [group, context, devices]),
      [...contexts].map(([number, context]) => [number, context.snapshot(numbers)]),
      accounts.snapshot(),
    ]
  }
}

/** Hands a report to the context that its device or vIOMMU is in, if it is in one. */
function deliver(kernel: KernelState, report: Report): Outcome<undefined> {
  if (report.kind === 'fault') {
    const bound = boundDevice(kernel, report.deviceId)
    return bound === undefined ? accept(undefined) : bound.context.reportFault(bound.id, report.fault)
  }
  for (const context of kernel.contexts.values()) {
    const viommu = viommuWithNumber(context, report.viommu)
    // An event that nobody has a queue for is dropped.
    if (viommu !== undefined) context.reportEvent(viommu[0], report.type, report.bytes)
  }
  return accept(undefined)
}
