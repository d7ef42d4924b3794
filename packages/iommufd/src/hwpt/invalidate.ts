/**
 * HWPT_INVALIDATE: what a guest asks its IOMMU to forget, on a nested HWPT or a vIOMMU.
 *
 * @packageDocumentation
 */
import type { Invalidated, UserDataArray } from '../backend.js'
import type { ContextState } from '../context-state.js'
import { kindNames } from '../object/object.js'
import type { ObjectId } from '../object/object.js'
import { refuse } from '../outcome.js'
import type { Outcome } from '../outcome.js'

/** Carries requests out in order; the first bad one stops them. EINVAL for other objects, a paging HWPT among them. */
export function invalidate(
  { objects, kernel }: ContextState,
  id: ObjectId,
  requests: UserDataArray,
): Outcome<Invalidated> {
  const object = objects.get(id)
  if (object === undefined) return refuse('no-such-invalidation-target', `there is no object ${id}`)
  switch (object.kind) {
    case 'nested-hwpt':
      return kernel.backend.invalidateNested(object.domain, requests)
    case 'viommu':
      return kernel.backend.invalidateViommu(object.number, requests)
    default:
      return refuse('not-invalidatable', `object ${id} is a ${kindNames[object.kind]}`)
  }
}
