/** What an invariant is checked on: a machine between two effects, as it can be seen from outside. */
import { decodeDte } from '@nestwalk/hardware'
import type { Dte } from '@nestwalk/hardware'
import type { Device, Driver, Gcr3Table, NumberedDomain, Tag } from '@nestwalk/driver'
import type { Machine } from '../machine.js'

/** What the driver says of itself. */
export interface View {
  readonly devices: ReadonlyMap<number, Device>
  readonly tags: readonly Tag[]
  readonly tables: readonly Gcr3Table[]
  readonly domains: ReadonlyMap<number, NumberedDomain>
}

/** A nested domain as it was asked for. Its GCR3 root is no other one's. */
export interface AskedNesting {
  readonly domain: number
  readonly viommu: number
  readonly parent: number
  readonly guestDomainId: number
  readonly gcr3Root: bigint
  /** 4 or 5. */
  readonly levels: number
}

/** See the file's comment. */
export interface Moment {
  readonly machine: Machine
  /** Before and after the operation under way. Its books are brought up to date first, memory and chip follow. */
  readonly before: View
  readonly after: View
  /** Whether the operation is over. */
  readonly isOver: boolean
  /** DeviceIDs that the operation is about. */
  readonly asked: readonly number[]
  /** Entries before the last effect and after it, by DeviceID; aliases too. */
  readonly entriesBefore: ReadonlyMap<number, Dte>
  readonly entries: ReadonlyMap<number, Dte>
  readonly nestings: readonly AskedNesting[]
  /** Page tables by the address of their top, as they are and were. */
  readonly tops: ReadonlyMap<bigint, number>
  readonly quota: number
}

/** A broken invariant: which one, and how. */
export interface Violation {
  readonly id: string
  readonly how: string
}

export const viewOf = (driver: Driver, deviceIds: readonly number[], lastDomain: number): View => ({
  devices: new Map(
    deviceIds.flatMap((id) => {
      const device = driver.device(id)
      return device === undefined ? [] : [[id, device] as const]
    }),
  ),
  tags: driver.tags,
  tables: driver.gcr3Tables,
  domains: new Map(
    Array.from({ length: lastDomain + 1 }, (_, number) => number).flatMap((number) => {
      const domain = driver.domain(number)
      return domain === undefined ? [] : [[number, { ...domain }] as const]
    }),
  ),
})

export const entryOf = (machine: Machine, deviceId: number): Dte =>
  decodeDte(BigUint64Array.from([...machine.entry(deviceId)]))

/** The entries that let requests pass, through a table or as they are. Before a device is found its entry has TV=1 too. */
export const translating = (entries: ReadonlyMap<number, Dte>): (readonly [number, Dte])[] =>
  [...entries].filter(
    ([, { valid, translationValid, readAllowed, writeAllowed }]) =>
      valid && translationValid && (readAllowed || writeAllowed),
  )

/** The nested domain whose guest tables an entry names. */
export const nestingOf = ({ nestings, tops }: Moment, entry: Dte): AskedNesting | undefined =>
  entry.guestValid && entry.mode !== 0
    ? nestings.find((each) => each.gcr3Root === entry.gcr3Root && each.parent === tops.get(entry.hostRoot))
    : undefined

/** Both views of the operation, for what may still be as it was. */
export const bothViews = ({ before, after, isOver }: Moment): readonly View[] =>
  isOver ? [after] : [before, after]
