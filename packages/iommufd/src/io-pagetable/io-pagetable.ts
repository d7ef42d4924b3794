/**
 * One IO address space.
 *
 * @packageDocumentation
 */
import type { AddressRange, DomainNumber, PagingDomain } from '../backend.js'
import type { Outcome, Refusal } from '../outcome.js'
import type { PageSource, PhysicalRun } from '../process.js'
import type { PinCharge } from './accounts.js'
import type { PinEnvironment } from './pin-environment.js'

/** What became of an unmapping. */
export interface Unmapped {
  /** Bytes of the areas that are gone. */
  readonly bytes: bigint
  /** What stopped it at an area behind those. The call fails with that, though areas are gone. */
  readonly refused?: Refusal
}

export interface AreaView {
  readonly iova: bigint
  readonly length: bigint
  readonly readable: boolean
  readonly writeable: boolean
}

export interface MapSource {
  readonly source: PageSource
  readonly startInPage: number
  readonly startAddress: bigint
  readonly length: bigint
  readonly iova: bigint | undefined
  readonly readable: boolean
  readonly writeable: boolean
  readonly charge: PinCharge
  readonly isFile: boolean
}

export interface MapDmabuf {
  readonly dmabuf: Dmabuf
  readonly start: bigint
  readonly length: bigint
  readonly iova: bigint | undefined
  readonly readable: boolean
  readonly writeable: boolean
}

export interface CopyAreas {
  readonly from: bigint
  readonly length: bigint
  readonly to: bigint | undefined
  readonly readable: boolean
  readonly writeable: boolean
}

/** The memory of one mapping, pinned once however many use it. */
export declare class Pages {
  /** What is pinned now, in order of the pages. */
  pinnedRuns(): Iterable<PhysicalRun>
}

export declare class Dmabuf {
  static create(runs: readonly PhysicalRun[]): Dmabuf
  readonly runs: readonly PhysicalRun[]
  readonly pages: number
  get isRevoked(): boolean
  revoke(env: PinEnvironment): Outcome<undefined>
  unrevoke(): void
  fork(memo: Map<object, object>): Dmabuf
}

export declare class IoPagetable {
  static create(): IoPagetable
  fork(memo: Map<object, object>): IoPagetable
  /** `numbers` numbers the pages objects, over several tables that share them. */
  snapshot(numbers?: Map<object, number>): unknown
  get alignment(): bigint
  get isHugePagesOn(): boolean
  get isEmpty(): boolean
  get areas(): readonly AreaView[]
  areasIn(range: AddressRange): readonly AreaView[]
  areaAt(iova: bigint): AreaView | undefined
  get domains(): readonly DomainNumber[]
  ranges(): AddressRange[]
  allow(ranges: readonly { readonly start: bigint; readonly last: bigint }[]): Refusal | undefined
  reserve(owner: number | undefined, range: AddressRange): Refusal | undefined
  releaseReserved(owner: number): void
  mapSource(env: PinEnvironment, request: MapSource): Outcome<bigint>
  mapDmabuf(env: PinEnvironment, request: MapDmabuf): Outcome<bigint>
  /** The checks of the source, which come before the target is looked up. */
  checkCopy(from: bigint, length: bigint): Refusal | undefined
  copyTo(env: PinEnvironment, target: IoPagetable, request: CopyAreas): Outcome<bigint>
  unmap(env: PinEnvironment, first: bigint, length: bigint): Outcome<Unmapped>
  unmapAll(env: PinEnvironment): Outcome<Unmapped>
  /** Cuts the area that holds byte `last` and the one behind it, between them. */
  cutBehind(last: bigint): Refusal | undefined
  setHugePages(isOn: boolean): Refusal | undefined
  addDomain(env: PinEnvironment, domain: PagingDomain, owner: number): Outcome<undefined>
  removeDomain(env: PinEnvironment, domain: DomainNumber, owner: number): Outcome<undefined>
  /** `limitPages`: RLIMIT_MEMLOCK of the caller, whatever its capabilities. */
  static changeProcess(
    env: PinEnvironment,
    tables: readonly IoPagetable[],
    to: { readonly mm: number; readonly uid: number; readonly limitPages: bigint },
  ): Refusal | undefined
  pinnedPages(): Iterable<Pages>
}
