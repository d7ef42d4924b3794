/** How often each object of a context is used, counted from what refers to it: written apart from the source. */
import type { Context, ObjectId } from '../../src/index.js'

/** What a program holds outside of the context: descriptors of queues, and mapped regions, by object. */
export type Held = ReadonlyMap<ObjectId, number>

/**
 * Users of each object by section 2 of the reference, apart from the one that each has while it is in the table.
 *
 * DEVICE and ACCESS have one more: the driver that made them.
 */
export function countUsers(context: Context, held: Held): Map<ObjectId, number> {
  const users = new Map<ObjectId, number>()
  const entries = context.objects.entries()
  for (const [id, { kind }] of entries)
    users.set(id, (kind === 'device' || kind === 'access' ? 1 : 0) + (held.get(id) ?? 0))
  const use = (id: ObjectId | undefined): void => {
    if (id !== undefined) users.set(id, (users.get(id) ?? Number.NaN) + 1)
  }
  for (const [, object] of entries) {
    switch (object.kind) {
      case 'paging-hwpt':
        use(object.ioas)
        use(object.faultQueue)
        break
      case 'nested-hwpt':
        use('viommu' in object.on ? object.on.viommu : object.on.parent)
        use(object.faultQueue)
        break
      case 'device':
        for (const hwpt of object.attachments.values()) use(hwpt)
        break
      case 'access':
        // The access that holds a hardware queue's pages counts with the queue: IOAS are used by both.
        use(object.ioas)
        break
      case 'viommu':
        use(object.parent)
        break
      case 'vdevice':
      case 'veventq':
        use(object.viommu)
        break
      case 'hw-queue':
        use(object.viommu)
        use(object.dependsOn)
        break
      case 'ioas':
      case 'fault':
      case 'selftest':
    }
  }
  return users
}

/** The users that the objects themselves count. */
export const usersOf = (context: Context): Map<ObjectId, number> =>
  new Map(context.objects.entries().map(([id, { users }]) => [id, users]))
