/**
 * What IOMMUs have logged, as user space hears of it: page requests and their answers, and a guest's own events.
 *
 * @packageDocumentation
 */
import { writeStruct } from '@nestwalk/bits'
import type { Driver, TakenEvent, TakenPageRequest } from '@nestwalk/driver'
import type { PageFault, PageResponse, Report } from '../backend.js'
import { accept, isRefusal } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import { amdEventLayout, amdEventQueueType } from './abi.js'

/** What logs held. */
export interface TakenReports {
  /** For user space, in order. */
  readonly reports: readonly Report[]
  /** What only the host hears of: it is printed, in Linux. */
  readonly hostEvents: readonly TakenEvent[]
  /** Whether an entry was announced that has not arrived yet: look again. */
  readonly isIncomplete: boolean
}

/** Takes what one IOMMU has logged. To be called in a transaction. */
function takeFrom(driver: Driver, iommu: number): TakenReports | Refusal {
  const events = driver.takeEvents(iommu)
  if (!events.ok) return events
  const requests = driver.takePageRequests(iommu)
  if (!requests.ok) return requests
  const reports: Report[] = []
  const hostEvents: TakenEvent[] = []
  for (const event of events.value.events) {
    const report = eventReport(driver, event)
    if (report === undefined) hostEvents.push(event)
    else reports.push(report)
  }
  for (const request of requests.value.requests) {
    if (!isStopMarker(request)) reports.push(faultReport(request))
  }
  return { reports, hostEvents, isIncomplete: events.value.isIncomplete || requests.value.isIncomplete }
}

/** Takes what all IOMMUs have logged. To be called in a transaction. */
export function takeFromAll(driver: Driver): TakenReports | Refusal {
  const all: TakenReports[] = []
  for (const iommu of driver.iommus.keys()) {
    const taken = takeFrom(driver, iommu)
    if (isRefusal(taken)) return taken
    all.push(taken)
  }
  return {
    reports: all.flatMap(({ reports }) => reports),
    hostEvents: all.flatMap(({ hostEvents }) => hostEvents),
    isIncomplete: all.some(({ isIncomplete }) => isIncomplete),
  }
}

/** The event for the guest whose device it is about; `undefined` if there is none who knows the device. */
function eventReport(driver: Driver, { words, event, to }: TakenEvent): Report | undefined {
  if (to.kind !== 'viommu') return undefined
  const virtualId = driver.virtualIdOf(to.viommu, to.deviceId)
  if (virtualId === undefined) return undefined
  const [low, high] = words
  const named = replaceBits(low, 0n, virtualId)
  const own = event.kind === 'IoPageFault' ? replaceBits(named, 32n, to.guestDomainId) : named
  const bytes = writeStruct(amdEventLayout, { words: BigUint64Array.of(own, high) })
  return { kind: 'event', viommu: to.viommu, type: amdEventQueueType, bytes }
}

/** A word with 16 of its bits, from `low` up, replaced. */
const replaceBits = (word: bigint, low: bigint, value: number): bigint =>
  (word & ~(0xffffn << low)) | (BigInt(value) << low)

const [read, write, execute, privileged] = [1, 2, 4, 8]

/** Linux drivers/iommu/amd/ppr.c, `ppr_flag_to_fault_perm`. */
const faultReport = ({ deviceId, pasid, group, address, request }: TakenPageRequest): Report => {
  const permissions =
    (request.read ? read : 0) |
    (request.write ? write : 0) |
    (request.execute ? execute : 0) |
    (request.user ? 0 : privileged)
  const fault: PageFault = { pasid, group, isLast: request.lastInGroup, permissions, address }
  return { kind: 'fault', deviceId, fault }
}

/** Says that no more requests with the PASID come; nobody is asked for anything. */
const isStopMarker = ({ request }: TakenPageRequest): boolean =>
  request.guestNested && request.lastInGroup && !request.read && !request.write

/** Answers a page request. One that the driver has answered, as the device left whoever was asked, is answered already. */
export function answerDevice(
  driver: Driver,
  deviceId: number,
  { pasid, group, code }: PageResponse,
): Outcome<undefined> {
  const isPending = driver
    .pendingPageRequests(deviceId)
    .some((each) => each.pasid === pasid && each.group === group && each.isComplete)
  if (!isPending) return accept(undefined)
  return driver.respond(deviceId, { pasid, group }, code === 'success' ? 'success' : 'invalid-request')
}
