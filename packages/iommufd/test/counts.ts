/**
 * The objects of `/dev/iommu` by counters alone, as the kernel keeps them: every object counts its users, and says what it
 * holds. Written apart from the source, to predict numbers and errnos.
 */
import type { GroupRule, ObjectId } from '../src/index.js'

/** One call. Numbers of objects may name anything, or nothing. */
export type Call =
  | { readonly do: 'bind'; readonly deviceId: number }
  | { readonly do: 'ioasAlloc' }
  | { readonly do: 'map' | 'unmap'; readonly ioas: ObjectId; readonly slot: number }
  | {
      readonly do: 'hwptAlloc'
      readonly device: ObjectId
      readonly pageTable: ObjectId
      readonly nestParent: boolean
      /** DomainID of the guest's entry; absent: no entry. */
      readonly guest: number | undefined
    }
  | { readonly do: 'viommuAlloc'; readonly device: ObjectId; readonly parent: ObjectId }
  | {
      readonly do: 'vdeviceAlloc'
      readonly viommu: ObjectId
      readonly device: ObjectId
      readonly virtualId: number
    }
  | { readonly do: 'attach' | 'replace'; readonly device: ObjectId; readonly to: ObjectId }
  | { readonly do: 'detach' | 'unbind' | 'destroy'; readonly id: ObjectId }

/** The slot of the MSI window; the others are free to use. */
export const reservedSlot = 3

export type Kind = 'ioas' | 'paging' | 'nested' | 'device' | 'viommu' | 'vdevice'

interface Thing {
  readonly kind: Kind
  users: number
  readonly holds: readonly ObjectId[]
  readonly slots: Set<number>
  /** Attachments that keep the reserved slot free. */
  reservers: number
  readonly deviceId: number
  readonly nestParent: boolean
  readonly automatic: boolean
  readonly virtualId: number
}

/** What is attached alike: the members and the HWPT that they are on. */
interface Unit {
  hwpt: ObjectId
  readonly members: Set<ObjectId>
}

interface Books {
  readonly things: Map<ObjectId, Thing>
  readonly tombstones: Set<ObjectId>
}

type Answer = number | string

export class Counts {
  private readonly contexts: readonly Books[]
  private readonly owners = new Map<number, { context: number; count: number }>()
  private readonly units = new Map<string, Unit>()

  constructor(
    private readonly rule: GroupRule,
    private readonly groups: ReadonlyMap<number, number>,
    contexts: number,
  ) {
    this.contexts = Array.from({ length: contexts }, () => ({ things: new Map(), tombstones: new Set() }))
  }

  /** Numbers of the objects of a context, ascending; of all kinds unless some are named. */
  objects(context: number, ...kinds: readonly Kind[]): ObjectId[] {
    return [...this.contexts[context]!.things]
      .filter(([, { kind }]) => kinds.length === 0 || kinds.includes(kind))
      .map(([id]) => id)
      .sort((a, b) => a - b)
  }

  /** The number that the call returns, 0 for none, or its errno. */
  answer(context: number, call: Call): Answer {
    const books = this.contexts[context]!
    switch (call.do) {
      case 'bind':
        return this.bind(context, books, call.deviceId)
      case 'ioasAlloc':
        return add(books, { kind: 'ioas' })
      case 'map':
      case 'unmap':
        return mapOrUnmap(books, call)
      case 'hwptAlloc':
        return hwptAlloc(books, call)
      case 'viommuAlloc': {
        const parent = books.things.get(call.parent)
        if (!isDevice(books, call.device) || parent?.kind !== 'paging') return 'ENOENT'
        return parent.nestParent ? add(books, { kind: 'viommu', holds: [call.parent] }) : 'EINVAL'
      }
      case 'vdeviceAlloc':
        return this.vdeviceAlloc(books, call)
      case 'attach':
        return this.attach(books, call.device, call.to)
      case 'replace':
        return this.replace(books, call.device, call.to)
      case 'detach':
        return this.detach(books, call.id)
      case 'unbind':
        return this.unbind(books, call.id)
      case 'destroy':
        return destroy(books, call.id)
    }
  }

  private bind(context: number, books: Books, deviceId: number): Answer {
    const isOpen = this.contexts.some(({ things }) =>
      [...things.values()].some((thing) => thing.kind === 'device' && thing.deviceId === deviceId),
    )
    if (isOpen) return 'EINVAL'
    const group = this.groups.get(deviceId)!
    const owner = this.owners.get(group) ?? { context, count: 0 }
    if (owner.context !== context) return 'EPERM'
    owner.count += 1
    this.owners.set(group, owner)
    // The driver that bound it holds it.
    return add(books, { kind: 'device', deviceId, users: 1 })
  }

  private unbind(books: Books, id: ObjectId): Answer {
    const device = books.things.get(id)
    if (device?.kind !== 'device') return 'ENOENT'
    this.detach(books, id)
    for (const [number, thing] of books.things) {
      if (thing.kind !== 'vdevice' || thing.deviceId !== device.deviceId) continue
      remove(books, number)
      books.tombstones.add(number)
    }
    remove(books, id)
    const owner = this.owners.get(this.groups.get(device.deviceId)!)!
    owner.count -= 1
    if (owner.count === 0) this.owners.delete(this.groups.get(device.deviceId)!)
    return 0
  }

  private vdeviceAlloc(books: Books, call: Extract<Call, { do: 'vdeviceAlloc' }>): Answer {
    const viommu = books.things.get(call.viommu)
    const device = books.things.get(call.device)
    if (viommu?.kind !== 'viommu' || device?.kind !== 'device') return 'ENOENT'
    const all = [...books.things.values()].filter(({ kind }) => kind === 'vdevice')
    const { virtualId } = call
    const { deviceId } = device
    if (all.some((vdevice) => vdevice.deviceId === deviceId)) return 'EEXIST'
    if (all.some((vdevice) => vdevice.holds[0] === call.viommu && vdevice.virtualId === virtualId))
      return 'EEXIST'
    return add(books, { kind: 'vdevice', holds: [call.viommu], deviceId, virtualId })
  }

  private unitOf(device: Thing): string {
    return this.rule === 'whole-group'
      ? `group ${this.groups.get(device.deviceId)!}`
      : `device ${device.deviceId}`
  }

  private attach(books: Books, id: ObjectId, to: ObjectId): Answer {
    const device = books.things.get(id)
    if (device?.kind !== 'device') return 'ENOENT'
    const target = targetOf(books, to)
    if (typeof target === 'string') return target
    const key = this.unitOf(device)
    const unit = this.units.get(key)
    if (unit?.members.has(id) === true) return 'EBUSY'
    if (unit !== undefined && unit.hwpt !== target) return 'EINVAL'
    if (meetsReserved(books, to)) return 'EADDRINUSE'
    const hwpt = target ?? add(books, { kind: 'paging', holds: [to], automatic: true })
    const joined = unit ?? { hwpt, members: new Set() }
    this.units.set(key, joined)
    joined.members.add(id)
    enter(books, hwpt, 1)
    return hwpt
  }

  private replace(books: Books, id: ObjectId, to: ObjectId): Answer {
    const device = books.things.get(id)
    if (device?.kind !== 'device') return 'ENOENT'
    const target = targetOf(books, to)
    if (typeof target === 'string') return target
    const unit = this.units.get(this.unitOf(device))
    if (unit?.members.has(id) !== true) return 'EINVAL'
    if (unit.hwpt === target) return unit.hwpt
    if (meetsReserved(books, to)) return 'EADDRINUSE'
    const hwpt = target ?? add(books, { kind: 'paging', holds: [to], automatic: true })
    const old = unit.hwpt
    unit.hwpt = hwpt
    enter(books, hwpt, unit.members.size)
    leave(books, old, unit.members.size)
    return hwpt
  }

  private detach(books: Books, id: ObjectId): Answer {
    const device = books.things.get(id)
    if (device?.kind !== 'device') return 'ENOENT'
    const key = this.unitOf(device)
    const unit = this.units.get(key)
    if (unit?.members.delete(id) !== true) return 0
    if (unit.members.size === 0) this.units.delete(key)
    leave(books, unit.hwpt, 1)
    return 0
  }
}

function add(books: Books, thing: Partial<Thing> & Pick<Thing, 'kind'>): ObjectId {
  let id = 1
  while (books.things.has(id) || books.tombstones.has(id)) id += 1
  const holds = thing.holds ?? []
  for (const held of holds) books.things.get(held)!.users += 1
  books.things.set(id, {
    users: 0,
    slots: new Set(),
    reservers: 0,
    deviceId: -1,
    nestParent: false,
    automatic: false,
    virtualId: -1,
    ...thing,
    holds,
  })
  return id
}

function remove(books: Books, id: ObjectId): void {
  for (const held of books.things.get(id)!.holds) books.things.get(held)!.users -= 1
  books.things.delete(id)
}

const isDevice = (books: Books, id: ObjectId): boolean => books.things.get(id)?.kind === 'device'

/** The HWPT that attaching to an object leads to: a number, or `undefined` for an automatic one to be made. */
function targetOf(books: Books, to: ObjectId): ObjectId | undefined | string {
  const table = books.things.get(to)
  if (table === undefined) return 'ENOENT'
  if (table.kind === 'paging' || table.kind === 'nested') return to
  if (table.kind !== 'ioas') return 'EINVAL'
  return [...books.things].find(([, { automatic, holds }]) => automatic && holds[0] === to)?.[0]
}

/** The IOAS below an object. */
function ioasBelow(books: Books, id: ObjectId): Thing {
  let thing = books.things.get(id)!
  while (thing.kind !== 'ioas') thing = books.things.get(thing.holds[0]!)!
  return thing
}

const meetsReserved = (books: Books, id: ObjectId): boolean => ioasBelow(books, id).slots.has(reservedSlot)

function enter(books: Books, hwpt: ObjectId, count: number): void {
  books.things.get(hwpt)!.users += count
  ioasBelow(books, hwpt).reservers += count
}

function leave(books: Books, hwpt: ObjectId, count: number): void {
  const left = books.things.get(hwpt)!
  left.users -= count
  ioasBelow(books, hwpt).reservers -= count
  if (left.automatic && left.users === 0) remove(books, hwpt)
}

function mapOrUnmap(books: Books, call: Extract<Call, { do: 'map' | 'unmap' }>): Answer {
  const ioas = books.things.get(call.ioas)
  if (ioas?.kind !== 'ioas') return 'ENOENT'
  if (call.do === 'unmap') return ioas.slots.delete(call.slot) ? 0 : 'ENOENT'
  if (call.slot === reservedSlot && ioas.reservers > 0) return 'EINVAL'
  if (ioas.slots.has(call.slot)) return 'EEXIST'
  ioas.slots.add(call.slot)
  return 0
}

function hwptAlloc(books: Books, call: Extract<Call, { do: 'hwptAlloc' }>): Answer {
  const { pageTable, nestParent, guest } = call
  if (!isDevice(books, call.device)) return 'ENOENT'
  switch (books.things.get(pageTable)?.kind) {
    case 'ioas':
      return guest === undefined
        ? add(books, { kind: 'paging', holds: [pageTable], nestParent })
        : 'EOPNOTSUPP'
    case 'paging':
      return 'EOPNOTSUPP'
    case 'viommu':
      return nestParent || guest === undefined
        ? 'EOPNOTSUPP'
        : add(books, { kind: 'nested', holds: [pageTable] })
    default:
      return 'EINVAL'
  }
}

function destroy(books: Books, id: ObjectId): Answer {
  const thing = books.things.get(id)
  if (thing === undefined) return 'ENOENT'
  if (thing.users > 0) return 'EBUSY'
  remove(books, id)
  return 0
}
