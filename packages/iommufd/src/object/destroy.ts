/**
 * Destroying objects: one that nothing refers to, or all, leaves first.
 *
 * Linux drivers/iommu/iommufd/main.c, `iommufd_object_remove`, `iommufd_fops_release`.
 *
 * @packageDocumentation
 */
import { InternalError } from '@nestwalk/driver'
import type { ContextState } from '../context-state.js'
import { unbind } from '../hwpt/bind.js'
import { refuse } from '../outcome.js'
import type { Outcome } from '../outcome.js'
import { kindNames } from './object.js'
import type { IommufdObject, ObjectId } from './object.js'
import type { ObjectTable } from './object-table.js'
import { releaseObject } from './release.js'

/** EBUSY while anything refers to the object. */
export function destroyObject(context: ContextState, id: ObjectId): Outcome<undefined> {
  const { objects } = context
  const object = objects.get(id)
  if (object === undefined) return refuse('no-such-object', `there is no object ${id}`)
  if (object.users > 0) return refuse('object-in-use', whyInUse(objects, id, object))
  const released =
    object.kind === 'selftest' ? unbind(context, object.device) : releaseObject(context, id, object)
  if (released.ok) objects.remove(id)
  return released
}

/** Unbinds all devices, and destroys all objects. */
export function destroyAll(context: ContextState): Outcome<undefined> {
  const { objects, kernel, number } = context
  const closing = (outcome: Outcome<unknown>): void => {
    if (!outcome.ok) throw new InternalError(`closing context ${number}: ${outcome.why}`)
  }
  return kernel.backend.transaction<undefined>(() => {
    for (const [id] of [...objects.all('selftest')]) closing(destroyObject(context, id))
    for (const [id] of [...objects.all('device')]) closing(unbind(context, id))
    while (objects.size > 0) {
      const free = objects.entries().filter(([, { users }]) => users === 0)
      if (free.length === 0) throw new InternalError(`context ${number} has objects that hold each other`)
      for (const [id, { users }] of free.reverse())
        if (users === 0 && objects.get(id) !== undefined) closing(destroyObject(context, id))
    }
    return undefined
  })
}

function whyInUse(objects: ObjectTable, id: ObjectId, object: IommufdObject): string {
  const name = `${kindNames[object.kind]} ${id}`
  if (object.kind === 'device' || object.kind === 'access') return `${name} is held by its driver`
  const user = objects.userOf(id)
  return user === undefined ? `${name} is open or mapped` : `${name} is used by object ${user}`
}
