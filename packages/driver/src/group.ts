/**
 * IOMMU groups: devices that the platform cannot keep apart, and what each of them is on.
 *
 * Members may share a DeviceID, and then cannot differ; or traffic between them does not pass the IOMMU, and then each may
 * have an entry of its own. Linux drivers/iommu/iommu.c, `__iommu_group_set_domain_internal`.
 *
 * @packageDocumentation
 */
import { attachDevice } from './attach.js'
import type { Books } from './books.js'
import type { Device } from './device.js'
import type { Domain } from './domain.js'
import { refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import type { Plan } from './plan.js'
import { sharersOf } from './programmed-entry.js'

/** The known devices of a group, by DeviceID. */
export const membersOf = (books: Books, group: number): Device[] =>
  [...books.devices.values()]
    .filter((device) => device.group === group)
    .sort((a, b) => a.deviceId - b.deviceId)

/** Attaches every member, one after the other: in between some are on the new domain and some on the old one. */
export function attachGroup(books: Books, plan: Plan, group: number, domain: Domain): Refusal | undefined {
  const members = membersOf(books, group)
  if (members.length === 0) return refuse('ENODEV', 'no-such-group', `group ${group} has no devices`)
  const parked = members.find((member) => member.parked !== undefined)
  if (parked !== undefined) {
    return refuse('EBUSY', 'member-in-reset', `device ${parked.deviceId} of group ${group} is being reset`)
  }
  for (const member of members) {
    const refused = attachDevice(books, plan, member, domain)
    if (refused !== undefined) return refused
  }
  return undefined
}

/**
 * A member among its group: out of it while it is blocked or being reset; on a tag that no other member has; or on the one
 * that all members have.
 */
export type MemberState = 'out' | 'own' | 'common'

export interface GroupMember {
  readonly deviceId: number
  readonly state: MemberState
  /** Members that share a DeviceID with it and are on another domain: hardware has one entry for all of them. */
  readonly conflictsWith: readonly number[]
}

/** Where the members of a group stand. They have converged when nobody is on its own. */
export function membersState(books: Books, group: number): GroupMember[] {
  const members = membersOf(books, group)
  const tags = new Set(members.filter(isIn).map(({ tagKey }) => tagKey))
  return members.map((member) => ({
    deviceId: member.deviceId,
    state: isIn(member) ? (tags.size === 1 ? 'common' : 'own') : 'out',
    conflictsWith: sharersOf(books, member)
      .filter((other) => isIn(other) && isIn(member) && other.tagKey !== member.tagKey)
      .map(({ deviceId }) => deviceId),
  }))
}

const isIn = ({ domain, parked }: Device): boolean => domain.kind !== 'blocked' && parked === undefined
