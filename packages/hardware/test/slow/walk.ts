import type { Dte } from './dte.js'
import { pageTabHardwareError } from './faults.js'
import type { Switches } from './switches.js'
import type { Machine, Request, Store } from './types.js'

/** What one translation knows and has done so far. */
export class Walk {
  readonly reads: bigint[] = []
  readonly dteReads: bigint[] = []
  readonly changed = new Map<bigint, Store>()
  dte: Dte | undefined
  /** The PASID of the prefix; step 10 may decide to go on as if there were none. */
  pasid: number | undefined
  /** The PASID that events name: the request's own, whether or not it counts. */
  readonly namedPasid: number | undefined
  /** Step 10 has chosen a regime with guest tables. */
  guestInUse = false
  /** While a host walk runs on behalf of a guest walk: the guest-physical address it is for. */
  onBehalfOf: bigint | undefined

  constructor(
    readonly machine: Machine,
    readonly request: Request,
    readonly switches: Switches,
  ) {
    this.pasid = request.pasid
    this.namedPasid = request.pasid
  }

  get tagged(): boolean {
    return this.pasid !== undefined
  }

  /** Section 4.2: privilege is a matter of the PASID prefix; without one the request is a user's. */
  get user(): boolean {
    if (this.namedPasid === undefined) return this.switches['giov-privilege'] === 'user'
    return this.request.user ?? true
  }

  get execute(): boolean {
    return this.namedPasid !== undefined && (this.request.execute ?? false)
  }

  /** Reads a table entry, own accessed/dirty updates included. */
  readEntry(address: bigint): bigint {
    this.reads.push(address)
    const own = this.changed.get(address)
    if (own !== undefined) return own.new
    const value = this.machine.load64(address)
    if (value === undefined) throw pageTabHardwareError(this, address)
    return value
  }

  /** Atomic OR on a table entry that has been read before. */
  setBits(address: bigint, set: bigint): void {
    const known = this.changed.get(address)
    const old = known?.old ?? this.machine.load64(address) ?? 0n
    const now = known?.new ?? old
    if ((now & set) === set) return
    this.changed.set(address, { address, old, new: now | set })
  }

  stores(): Store[] {
    return [...this.changed.values()].sort((a, b) => (a.address < b.address ? -1 : 1))
  }
}
