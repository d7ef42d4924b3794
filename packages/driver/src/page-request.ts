/**
 * Page requests of devices (PRI): who is asked for the page, and the answer.
 *
 * Linux drivers/iommu/amd/ppr.c, `iommu_call_iopf_notifier`, and drivers/iommu/io-pgfault.c. A device waits for one
 * answer to each group of requests; the last request of a group completes it.
 *
 * @packageDocumentation
 */
import { decodePpr, deviceId as asDeviceId, pasid as asPasid } from '@nestwalk/hardware'
import type { IommuPort, Ppr } from '@nestwalk/hardware'
import { hasGap } from './books.js'
import type { Books } from './books.js'
import type { Device } from './device.js'
import { deviceWith, guestDomainOf, toGuest } from './fault-recipient.js'
import type { Recipient } from './fault-recipient.js'
import { LogReader, pageRequestLog } from './log-reader.js'
import type { LogEntry } from './log-reader.js'
import { refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import type { Plan } from './plan.js'

/** A group of page requests, as its device knows it. */
export interface RequestGroup {
  /** Absent: the requests had none. */
  readonly pasid: number | undefined
  /** Index of 9 bits. */
  readonly group: number
}

/** A group that somebody has been asked for and has not answered. */
export interface PendingGroup extends RequestGroup {
  /** Requests of it that were handed on. */
  readonly requests: number
  /** Whether its last request was among them: the device waits for the answer. */
  readonly isComplete: boolean
}

/** A page request that was taken from a log and is handed on. */
export interface TakenPageRequest extends RequestGroup {
  /** As hardware wrote it. */
  readonly words: LogEntry
  readonly request: Ppr
  /** The device that asks, by the DeviceID that the host knows it by. */
  readonly deviceId: number
  /** Of the page. */
  readonly address: bigint
  readonly to: Recipient
}

/** What a log held. */
export interface TakenPageRequests {
  /** Those that are handed on; all others are answered already, or want no answer. */
  readonly requests: readonly TakenPageRequest[]
  /** Whether a request was announced that has not arrived yet: look again. */
  readonly isIncomplete: boolean
}

/** Response codes of PCI Express PRI. After a failure the device makes no more requests until PRI is turned on again. */
export const success = 0
export const invalidRequest = 1
export const failure = 15

/** Requests that a device may have under way: what Linux grants when it turns PRI on. What exceeds it is not kept. */
export const requestsPerDevice = 32

/** PPRCode of a page request. */
const pageServiceRequest = 1

/** Takes the page requests that an IOMMU has logged. */
export function takePageRequests(
  books: Books,
  plan: Plan,
  port: IommuPort,
  iommu: number,
): TakenPageRequests {
  const requests: TakenPageRequest[] = []
  const isComplete = new LogReader(plan, port, iommu, pageRequestLog).read((words) => {
    const taken = received(books, plan, words)
    if (taken !== undefined) requests.push(taken)
  })
  return { requests, isIncomplete: !isComplete }
}

function received(books: Books, plan: Plan, words: LogEntry): TakenPageRequest | undefined {
  const request = decodePpr(BigUint64Array.of(...words))
  const device = deviceWith(books, request.deviceId)
  if (request.code !== pageServiceRequest || device === undefined) return undefined
  const pasid = request.guestNested ? request.pasid : undefined
  const group = { pasid, group: request.groupIndex }
  const to = recipientOf(books, device, request)
  const fail = (): void => answerRequest(books, plan, device, group, failure)
  if (to === undefined || to === 'at-once') {
    if (!isStopMarker(request) && (to === 'at-once' || request.lastInGroup)) fail()
    return undefined
  }
  if (!isStopMarker(request) && !notePending(books, device, group, request.lastInGroup)) {
    if (request.lastInGroup) fail()
    return undefined
  }
  return { ...group, words, request, deviceId: device.deviceId, address: request.address, to }
}

/** Tells that no more requests of a PASID come; nobody waits for an answer. */
const isStopMarker = ({ guestNested, lastInGroup, read, write }: Ppr): boolean =>
  guestNested && lastInGroup && !read && !write

/** Who is asked. 'at-once': nobody, and the request is answered though its group may go on; `undefined`: nobody. */
function recipientOf(books: Books, device: Device, request: Ppr): Recipient | 'at-once' | undefined {
  const nested = guestDomainOf(books, device)
  // The guest's own driver looks at what its device asks for.
  if (nested !== undefined) return toGuest(device, nested)
  const { guestNested, reservedNotZero, pasid } = request
  if (!guestNested || reservedNotZero || pasid === 0 || pasid >= device.maxPasids) return 'at-once'
  const domain = device.processes.get(pasid)
  return domain === undefined ? undefined : { kind: 'domain', domain }
}

const isGroup =
  ({ pasid, group }: RequestGroup) =>
  (other: RequestGroup): boolean =>
    other.group === group && other.pasid === pasid

/** Notes that somebody has a request to answer. False if the device has too many under way. */
function notePending(books: Books, device: Device, asked: RequestGroup, isLast: boolean): boolean {
  const pending = books.pageRequests.get(device.deviceId) ?? []
  const others = pending.filter((each) => !isGroup(asked)(each))
  const requests = pending.reduce((sum, each) => sum + each.requests, 0)
  if (requests >= requestsPerDevice) {
    // The group is answered now or never; a half of it must not stay.
    keepPending(books, device, isLast ? others : pending)
    return false
  }
  const before = pending.find(isGroup(asked))
  const isComplete = isLast || before?.isComplete === true
  keepPending(books, device, [...others, { ...asked, requests: (before?.requests ?? 0) + 1, isComplete }])
  return true
}

function keepPending(books: Books, { deviceId }: Device, pending: readonly PendingGroup[]): void {
  if (pending.length === 0) books.pageRequests.delete(deviceId)
  else books.pageRequests.set(deviceId, pending)
}

/** Passes the answer to a group on to its device. ENOENT unless the group is complete and waits. */
export function respond(
  books: Books,
  plan: Plan,
  device: Device,
  asked: RequestGroup,
  responseCode: number,
): Refusal | undefined {
  const pending = books.pageRequests.get(device.deviceId) ?? []
  if (pending.find(isGroup(asked))?.isComplete !== true) {
    return refuse(
      'ENOENT',
      'no-such-page-request',
      `no page request of group ${asked.group} waits for an answer`,
    )
  }
  keepPending(
    books,
    device,
    pending.filter((each) => !isGroup(asked)(each)),
  )
  answerRequest(books, plan, device, asked, responseCode)
  return undefined
}

/**
 * Answers what a device still waits for, as nobody is left who could.
 *
 * @param pasid - of this PASID alone
 */
export function abandonRequests(books: Books, plan: Plan, device: Device, pasid?: number): void {
  const pending = books.pageRequests.get(device.deviceId)
  if (pending === undefined) return
  const isLost = (each: PendingGroup): boolean => pasid === undefined || each.pasid === pasid
  for (const each of pending) {
    if (isLost(each) && each.isComplete) answerRequest(books, plan, device, each, invalidRequest)
  }
  keepPending(
    books,
    device,
    pending.filter((each) => !isLost(each)),
  )
}

/** The command that answers. */
export function answerRequest(
  books: Books,
  plan: Plan,
  device: Device,
  { pasid, group }: RequestGroup,
  responseCode: number,
): void {
  // Gap U13: the answer is made out for a PASID if the host's domain has guest tables, whatever the request was.
  const hasPasid = hasGap(books, 'U13') ? isOnGuestTable(books, device) : pasid !== undefined
  plan.command(
    device.iommu,
    {
      kind: 'CompletePprRequest',
      deviceId: asDeviceId(device.deviceId),
      ...(hasPasid ? { guestNested: true, pasid: asPasid(pasid ?? 0) } : {}),
      groupIndex: group,
      responseCode,
    },
    `page request group ${group} is answered`,
  )
}

const isOnGuestTable = (books: Books, { recorded }: Device): boolean =>
  recorded !== undefined && books.domains.get(recorded)?.kind === 'guest-table'
