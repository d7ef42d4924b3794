/**
 * Test operations that let a mock device report: a page request, an event for a guest.
 *
 * @packageDocumentation
 */
import { writeStruct } from '@nestwalk/bits'
import { accept, isRefusal, refuse } from '../outcome.js'
import { viommuWithNumber } from '../viommu/allocate.js'
import { mockEventLayout, mockEventQueueType } from './abi.js'
import { defineOperation } from './test-operation.js'
import { triggerIopf, triggerVevent } from './test-structs.js'

/** One request that makes a group of its own. Whether anybody takes it does not matter. */
const triggerFault = defineOperation(15, triggerIopf, ({ context }, { devId, pasid, grpid, perm, addr }) => {
  const device = context.objects.need(devId, 'device', 'test-no-such-object')
  if (isRefusal(device)) return device
  context.reportFault(devId, {
    pasid: pasid === 0 ? undefined : pasid,
    group: grpid,
    isLast: true,
    permissions: perm,
    address: addr,
  })
  return accept({})
})

/** An event that says what the guest calls the device. */
const triggerEvent = defineOperation(17, triggerVevent, ({ context, backend }, { devId }) => {
  const device = context.objects.need(devId, 'device', 'test-no-such-object')
  if (isRefusal(device)) return device
  const source = backend.eventSource(device.deviceId)
  const viommu = source && viommuWithNumber(context, source.viommu)
  if (source === undefined || viommu === undefined || source.virtualId === 0n) {
    return refuse(
      'test-no-event-source',
      `device object ${devId} is on no HWPT of a vIOMMU, or has virtual ID 0 there`,
    )
  }
  const virtualId = Number(BigInt.asUintN(32, source.virtualId))
  const reported = context.reportEvent(
    viommu[0],
    mockEventQueueType,
    writeStruct(mockEventLayout, { virtualId }),
  )
  return reported.ok ? accept({}, reported.effects) : reported
})

export const eventOperations = [triggerFault, triggerEvent]
