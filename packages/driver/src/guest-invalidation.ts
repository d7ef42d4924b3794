/**
 * The invalidations of a guest, carried out under the host's names.
 *
 * What Linux 7.3 has not wired yet; the founding mail's requirement R4 says how they must go: by the guest's DomainID, to
 * the tag that stands for it.
 *
 * @packageDocumentation
 */
import { reservedBits } from '@nestwalk/bits'
import {
  commandLayouts,
  decodeCommand,
  deviceId as asDeviceId,
  domainId as asDomainId,
  formatDeviceId,
} from '@nestwalk/hardware'
import type { Command } from '@nestwalk/hardware'
import type { Books, Viommu } from './books.js'
import { Waits } from './invalidation-plan.js'
import { noViommu } from './nesting.js'
import { refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import type { Plan } from './plan.js'

/** What came of a guest's commands: how many took effect, and why the next one did not. */
export interface GuestInvalidation {
  readonly handled: number
  readonly refusal: Refusal | undefined
}

/**
 * Carries a guest's invalidation commands out under the host's names, then waits: INVALIDATE_IOMMU_PAGES under the
 * DomainIDs that stand for the guest's, INVALIDATE_IOTLB_PAGES for the device that the guest's DeviceID means.
 *
 * A guest DomainID that no nested domain has stands for nothing that could be cached.
 *
 * @param commands - two quad-words each, as the guest wrote them
 */
export function invalidateForGuest(
  books: Books,
  plan: Plan,
  viommuNumber: number,
  commands: readonly (readonly [bigint, bigint])[],
): GuestInvalidation | Refusal {
  const viommu = books.viommus.get(viommuNumber)
  if (viommu === undefined) return noViommu(viommuNumber)
  const waits = new Waits(plan)
  let handled = 0
  let refusal: Refusal | undefined
  for (const words of commands) {
    refusal = carryOut(books, plan, viommu, words, waits)
    if (refusal !== undefined) break
    handled += 1
  }
  waits.wait()
  return { handled, refusal }
}

type GuestCommand = Command<'InvalidateIommuPages' | 'InvalidateIotlbPages'>

/** Queues one invalidation of a guest under the host's names; `waits` learns where. */
export function carryOut(
  books: Books,
  plan: Plan,
  viommu: Viommu,
  words: readonly [bigint, bigint],
  waits: Waits,
): Refusal | undefined {
  const command = checkedInvalidation(words)
  if ('ok' in command) return command
  if (command.kind === 'InvalidateIotlbPages') return forwardToDevice(books, plan, viommu, command, waits)
  forwardPages(books, plan, viommu, command, waits)
  return undefined
}

function forwardPages(
  books: Books,
  plan: Plan,
  viommu: Viommu,
  command: Command<'InvalidateIommuPages'>,
  waits: Waits,
): void {
  const keys = [...(viommu.slots.get(command.domainId)?.keys() ?? [])]
  for (const key of books.policy.guestInvalidation === 'first' ? keys.slice(0, 1) : keys) {
    const tag = books.tags.get(key)
    // The devices of a vIOMMU are behind its IOMMU: nowhere else is anything cached for them.
    if (tag?.iommus.includes(viommu.iommu) !== true) continue
    const own = { ...command, domainId: asDomainId(tag.domainId) }
    plan.command(viommu.iommu, own, `the guest invalidates its DomainID ${command.domainId}`)
    waits.add(viommu.iommu)
  }
}

function forwardToDevice(
  books: Books,
  plan: Plan,
  viommu: Viommu,
  command: Command<'InvalidateIotlbPages'>,
  waits: Waits,
): Refusal | undefined {
  const deviceId = viommu.virtualDevices.get(command.deviceId)
  const device = deviceId === undefined ? undefined : books.devices.get(deviceId)
  if (device === undefined) {
    return refuse(
      'ENODEV',
      'no-such-virtual-device',
      `the guest has no device ${formatDeviceId(command.deviceId)} on this vIOMMU`,
    )
  }
  // A device whose TLB is off has nothing in it.
  if (!device.features.has('ats')) return undefined
  const own = {
    ...command,
    deviceId: asDeviceId(device.deviceId),
    queueId: device.deviceId,
    maxPending: device.atsQueueDepth,
  }
  plan.command(device.iommu, own, `the guest invalidates in its device ${formatDeviceId(command.deviceId)}`)
  waits.add(device.iommu)
  return undefined
}

/** A guest's command if it is one of the two, without reserved bits. */
function checkedInvalidation(words: readonly [bigint, bigint]): GuestCommand | Refusal {
  const raw = BigUint64Array.from(words, (word) => BigInt.asUintN(64, word))
  const command = decodeCommand(raw)
  if (command.kind !== 'InvalidateIommuPages' && command.kind !== 'InvalidateIotlbPages') {
    return refuse(
      'EOPNOTSUPP',
      'guest-command-kind',
      `a guest command of kind ${command.kind} is not forwarded`,
    )
  }
  if (reservedBits(commandLayouts[command.kind], raw).length > 0) {
    return refuse('EINVAL', 'guest-command-reserved-bits', 'reserved bits of a guest command are set')
  }
  if (!command.guestNested && command.pasid !== 0) {
    return refuse('EINVAL', 'guest-command-pasid', 'a guest command has a PASID but no GN')
  }
  return command
}
