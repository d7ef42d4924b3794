/**
 * The objects of one context by number, and how often each is referred to.
 *
 * Linux drivers/iommu/iommufd/main.c: an object can be destroyed only while nothing refers to it.
 *
 * @packageDocumentation
 */
import { InternalError } from '@nestwalk/driver'
import { refuse } from '../outcome.js'
import type { Refusal } from '../outcome.js'
import type { RuleName } from '../rules/rules.js'
import { forkObject, kindNames, referencesOf, snapshotObject } from './object.js'
import type { IommufdObject, ObjectId, ObjectKind, ObjectOf } from './object.js'

/** Most objects of a context: what the kernel leaves to its memory accounting. */
const mostObjects = 1 << 16

/** See the file's comment. */
export class ObjectTable {
  /** No free number is below this one. */
  private lowestFree = 1
  /** The objects of each kind, once they were asked for. */
  private kinds: ObjectsByKind | undefined

  private constructor(
    private readonly objects: Map<ObjectId, IommufdObject>,
    /** Numbers that are not handed out again: of vDEVICEs that went with their device. */
    private readonly tombstones: Set<ObjectId>,
  ) {}

  static create(): ObjectTable {
    return new ObjectTable(new Map(), new Set())
  }

  get size(): number {
    return this.objects.size
  }

  /** Why so many objects cannot be added; to be asked before anything is made for them. */
  whyFull(added = 1): Refusal | undefined {
    if (this.objects.size + this.tombstones.size + added <= mostObjects) return undefined
    return refuse('too-many-objects', `the context has ${mostObjects} objects`)
  }

  /** The number that the next object will have. */
  get nextId(): ObjectId {
    let id = this.lowestFree
    while (this.objects.has(id) || this.tombstones.has(id)) id += 1
    return id
  }

  /** Puts an object in under the lowest free number, and counts what it refers to. */
  add(object: IommufdObject): ObjectId {
    const id = this.nextId
    this.objects.set(id, object)
    if (this.kinds !== undefined) putByKind(this.kinds, id, object)
    this.lowestFree = id + 1
    for (const referred of referencesOf(object)) this.hold(referred)
    return id
  }

  get(id: ObjectId): IommufdObject | undefined {
    return this.objects.get(id)
  }

  /** The object if it is of a kind; an object of another kind counts as missing. */
  find<K extends ObjectKind>(id: ObjectId, kind: K): ObjectOf<K> | undefined {
    const object = this.objects.get(id)
    return object?.kind === kind ? (object as ObjectOf<K>) : undefined
  }

  /** As {@link find}, where the number comes from an object that refers to it. */
  held<K extends ObjectKind>(id: ObjectId, kind: K): ObjectOf<K> {
    const object = this.find(id, kind)
    if (object === undefined) throw new InternalError(`object ${id} is no ${kind}, though it is referred to`)
    return object
  }

  /** As {@link find}, with the rule of the call for what is missing. */
  need<K extends ObjectKind>(id: ObjectId, kind: K, rule: RuleName): ObjectOf<K> | Refusal {
    const object = this.objects.get(id)
    if (object?.kind === kind) return object as ObjectOf<K>
    const is =
      object === undefined ? 'there is no object' : `object ${id} is a ${kindNames[object.kind]}, number`
    return refuse(rule, `${is} ${id}, a ${kindNames[kind]} is needed`)
  }

  /** All objects of a kind with their numbers, in the order in which they were made. */
  all<K extends ObjectKind>(kind: K): Iterable<readonly [ObjectId, ObjectOf<K>]> {
    this.kinds ??= byKind(this.objects)
    return (this.kinds.get(kind) ?? noObjects) as ReadonlyMap<ObjectId, ObjectOf<K>>
  }

  /** An object that refers to another one, if any does. */
  userOf(id: ObjectId): ObjectId | undefined {
    for (const [user, object] of this.objects) if (referencesOf(object).includes(id)) return user
    return undefined
  }

  entries(): readonly (readonly [ObjectId, IommufdObject])[] {
    return [...this.objects].sort(([a], [b]) => a - b)
  }

  /** One more reference to an object. */
  hold(id: ObjectId): void {
    const object = this.objects.get(id)
    if (object === undefined) throw new InternalError(`object ${id} is referred to, but gone`)
    object.users += 1
  }

  /** One reference less. */
  letGo(id: ObjectId): void {
    const object = this.objects.get(id)
    if (object === undefined || object.users === 0) throw new InternalError(`object ${id} has no users`)
    object.users -= 1
  }

  /** Takes an object out that nothing refers to any more, and what it refers to has one user less. */
  remove(id: ObjectId): void {
    this.takeOut(id)
    this.lowestFree = Math.min(this.lowestFree, id)
  }

  /** Takes an object out against its owner's will: its number stays taken until the context is closed. */
  bury(id: ObjectId): void {
    this.takeOut(id)
    this.tombstones.add(id)
  }

  fork(memo: Map<object, object>): ObjectTable {
    const objects = new Map<ObjectId, IommufdObject>()
    for (const [id, object] of this.objects) objects.set(id, forkObject(object, memo))
    const fork = new ObjectTable(objects, new Set(this.tombstones))
    fork.lowestFree = this.lowestFree
    return fork
  }

  snapshot(numbers: Map<object, number>): unknown {
    return [
      this.entries().map(([id, object]) => [id, snapshotObject(object, numbers)]),
      [...this.tombstones].sort((a, b) => a - b),
    ]
  }

  private takeOut(id: ObjectId): void {
    const object = this.objects.get(id)
    if (object === undefined) throw new InternalError(`there is no object ${id} to take out`)
    this.objects.delete(id)
    this.kinds?.get(object.kind)?.delete(id)
    for (const referred of referencesOf(object)) this.letGo(referred)
  }
}

const noObjects: ReadonlyMap<ObjectId, IommufdObject> = new Map()

type ObjectsByKind = Map<ObjectKind, Map<ObjectId, IommufdObject>>

function byKind(objects: ReadonlyMap<ObjectId, IommufdObject>): ObjectsByKind {
  const kinds: ObjectsByKind = new Map()
  for (const [id, object] of objects) putByKind(kinds, id, object)
  return kinds
}

function putByKind(kinds: ObjectsByKind, id: ObjectId, object: IommufdObject): void {
  const same = kinds.get(object.kind)
  if (same === undefined) kinds.set(object.kind, new Map([[id, object]]))
  else same.set(id, object)
}
