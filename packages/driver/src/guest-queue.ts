/**
 * A guest's command ring that is read without the guest's VMM: what the hardware vIOMMU does with a command buffer.
 *
 * Commands are taken in order. The ring stops before one that it does not carry out, for whoever can to look at it.
 *
 * @packageDocumentation
 */
import { reservedBits, spa } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'
import { commandLayouts, decodeCommand, load64 } from '@nestwalk/hardware'
import type { Command, Memory } from '@nestwalk/hardware'
import { parentOf } from './books.js'
import type { Books, Viommu } from './books.js'
import { carryOut } from './guest-invalidation.js'
import { Waits } from './invalidation-plan.js'
import { noViommu } from './nesting.js'
import type { Refusal } from './outcome.js'
import { visitEntries } from './page-table.js'
import type { Plan } from './plan.js'
import { hostDirtyMark, hostFormat, hostWritePass } from './table-format.js'

/** A ring of commands, 16 bytes each. */
export interface GuestQueue {
  /** Where it lies, in one piece. */
  readonly base: Spa
  /** A multiple of 16. */
  readonly byteLength: number
  /** Bytes from the start to the next command, and to the first free place; multiples of 16 below the length. */
  readonly head: number
  readonly tail: number
}

/** Why a ring stops at its head. */
export type GuestQueueStop =
  /** It is not there, or a store that was asked for finds no memory that the guest may write: COMMAND_HARDWARE_ERROR. */
  | { readonly kind: 'no-memory'; readonly guestAddress: bigint | undefined }
  /** The command is illegal, or one that is not carried out here. */
  | { readonly kind: 'not-carried-out' }

/** What came of a ring. */
export interface GuestQueueRun {
  /** Where the next command is. */
  readonly head: number
  /** Whether a COMPLETION_WAIT wanted an interrupt. */
  readonly interrupts: boolean
  readonly stop: GuestQueueStop | undefined
}

const commandBytes = 16

/** Takes commands up to the tail, or to one at which the ring stops. */
export function runGuestQueue(
  books: Books,
  plan: Plan,
  memory: Memory,
  viommuNumber: number,
  { base, byteLength, head: first, tail }: GuestQueue,
): GuestQueueRun | Refusal {
  const viommu = books.viommus.get(viommuNumber)
  if (viommu === undefined) return noViommu(viommuNumber)
  const run = new Run(books, plan, memory, viommu)
  let head = first
  let stop: GuestQueueStop | undefined
  while (head !== tail) {
    stop = run.take(spa(base + BigInt(head)))
    if (stop !== undefined) break
    head = (head + commandBytes) % byteLength
  }
  run.finish()
  return { head, interrupts: run.interrupts, stop }
}

/** Commands that have nothing to do: no interrupt table of a guest is cached, and a prefetch is a hint. */
const idle: ReadonlySet<string> = new Set(['InvalidateInterruptTable', 'PrefetchIommuPages'])

class Run {
  interrupts = false
  private readonly waits: Waits

  constructor(
    private readonly books: Books,
    private readonly plan: Plan,
    private readonly memory: Memory,
    private readonly viommu: Viommu,
  ) {
    this.waits = new Waits(plan)
  }

  take(at: Spa): GuestQueueStop | undefined {
    const low = load64(this.memory, at)
    const high = load64(this.memory, at + 8n)
    if (low === undefined || high === undefined) return { kind: 'no-memory', guestAddress: undefined }
    const raw = BigUint64Array.of(low, high)
    const command = decodeCommand(raw)
    if (command.kind === 'CompletionWait' && reservedBits(commandLayouts.CompletionWait, raw).length === 0) {
      return this.complete(command)
    }
    if (idle.has(command.kind)) return undefined
    const refused = carryOut(this.books, this.plan, this.viommu, [low, high], this.waits)
    return refused && { kind: 'not-carried-out' }
  }

  /** Waits for what has been queued so far. */
  finish(): void {
    this.waits.wait()
  }

  private complete({
    store,
    storeAddress,
    storeData,
    interrupt,
  }: Command<'CompletionWait'>): GuestQueueStop | undefined {
    this.finish()
    const refused = store ? this.store(storeAddress, storeData) : undefined
    if (refused === undefined && interrupt) this.interrupts = true
    return refused
  }

  /** Stores where the guest's memory is, which counts as written. */
  private store(guestAddress: bigint, word: bigint): GuestQueueStop | undefined {
    const { books, plan } = this
    const { root, mode: levels, dirtyTracking } = parentOf(books, this.viommu)
    const range = { first: guestAddress, last: guestAddress }
    const target = visitEntries({ plan, format: hostFormat, root, levels }, range, ({ at, entry, reach }) => {
      const isWriteable = entry.kind === 'leaf' && (plan.load(at) & hostWritePass) !== 0n
      return isWriteable ? { at, address: spa(entry.address + guestAddress - reach.first) } : undefined
    })
    if (target === undefined || load64(this.memory, target.address) === undefined) {
      return { kind: 'no-memory', guestAddress }
    }
    plan.store(target.address, word, 'the guest is told that its commands are done')
    if (dirtyTracking) plan.store(target.at, plan.load(target.at) | hostDirtyMark, 'the page was written')
    return undefined
  }
}
