/**
 * Test operations on mock devices: making one, and attaching it.
 *
 * @packageDocumentation
 */
import { kindNames } from '../object/object.js'
import type { ObjectId, Selftest } from '../object/object.js'
import { accept, isRefusal, refuse } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import { defineOperation } from './test-operation.js'
import type { TestCall } from './test-operation.js'
import {
  mockDomain,
  mockDomainFlags,
  mockDomainReplace,
  pasidAttach,
  pasidCheckHwpt,
  pasidDetach,
} from './test-structs.js'

/** Flags of a mock device. */
const noDirty = 1
const withPasids = 4

interface MadeDevice {
  readonly outStdevId: ObjectId
  readonly outHwptId: ObjectId
  readonly outIdevId: ObjectId
}

/** Makes a device, binds it and attaches it to the operation's object. */
function makeDevice({ context, backend, id }: TestCall, devFlags: number): Outcome<MadeDevice> {
  if ((devFlags & ~(noDirty | withPasids)) !== 0) {
    return refuse('test-device-flags', `a mock device has no flags 0x${devFlags.toString(16)}`)
  }
  const { objects } = context
  const full = objects.whyFull()
  if (full !== undefined) return full
  const deviceId = backend.addDevice({
    dirty: (devFlags & noDirty) === 0,
    pasid: (devFlags & withPasids) !== 0,
    isTransient: true,
  })
  // The number of the SELFTEST object comes first; what it stands for is known once it is bound.
  const selftest = { kind: 'selftest' as const, users: 0, device: 0, deviceId }
  const outStdevId = objects.add(selftest)
  const bound = context.bind(deviceId)
  if (!bound.ok) {
    backend.removeDevice(deviceId)
    objects.remove(outStdevId)
    return bound
  }
  selftest.device = bound.value
  const attached = context.attach(bound.value, id)
  if (!attached.ok) {
    context.destroy(outStdevId)
    return attached
  }
  return accept({ outStdevId, outHwptId: attached.value, outIdevId: bound.value })
}

const selftestOf = ({ context, id }: TestCall): Selftest | Refusal =>
  context.objects.need(id, 'selftest', 'test-no-such-object')

/** Answers with the HWPT that a device has come to. */
function attachedTo(outcome: Outcome<ObjectId>): Outcome<{ out: { ptId: ObjectId } }> {
  return outcome.ok ? accept({ out: { ptId: outcome.value } }, outcome.effects) : outcome
}

const madeDevice = (made: Outcome<MadeDevice>): Outcome<{ out: MadeDevice; created: ObjectId }> =>
  made.ok ? accept({ out: made.value, created: made.value.outStdevId }, made.effects) : made

const makePlainDevice = defineOperation(2, mockDomain, (call) => madeDevice(makeDevice(call, 0)))

const makeFlaggedDevice = defineOperation(12, mockDomainFlags, (call, { devFlags }) =>
  madeDevice(makeDevice(call, devFlags)),
)

const replaceDevice = defineOperation(10, mockDomainReplace, (call, { ptId }) => {
  const selftest = selftestOf(call)
  return isRefusal(selftest) ? selftest : attachedTo(call.context.replace(selftest.device, ptId))
})

const attachPasid = defineOperation(18, pasidAttach, (call, { pasid, ptId }) => {
  const selftest = selftestOf(call)
  return isRefusal(selftest) ? selftest : attachedTo(call.context.attach(selftest.device, ptId, pasid))
})

const replacePasid = defineOperation(19, pasidAttach, (call, { pasid, ptId }) => {
  const selftest = selftestOf(call)
  return isRefusal(selftest) ? selftest : attachedTo(call.context.replace(selftest.device, ptId, pasid))
})

const detachPasid = defineOperation(20, pasidDetach, (call, { pasid }) => {
  const selftest = selftestOf(call)
  if (isRefusal(selftest)) return selftest
  const detached = call.context.detach(selftest.device, pasid)
  return detached.ok ? accept({}, detached.effects) : detached
})

const checkPasid = defineOperation(21, pasidCheckHwpt, (call, { pasid, hwptId }) => {
  const selftest = selftestOf(call)
  if (isRefusal(selftest)) return selftest
  const { objects } = call.context
  const attached = objects.held(selftest.device, 'device').attachments.get(pasid)
  if (hwptId === 0) {
    if (attached === undefined) return accept({})
    return refuse('test-hwpt-differs', `PASID ${pasid} is on HWPT ${attached}, not on none`)
  }
  const hwpt = objects.get(hwptId)
  if (hwpt === undefined) return refuse('test-no-such-object', `there is no object ${hwptId}`)
  if (hwpt.kind !== 'paging-hwpt' && hwpt.kind !== 'nested-hwpt') {
    return refuse('test-not-a-hwpt', `object ${hwptId} is a ${kindNames[hwpt.kind]}`)
  }
  if (attached === hwptId) return accept({})
  return refuse('test-hwpt-differs', `PASID ${pasid} is on ${attached ?? 'no HWPT'}, not on HWPT ${hwptId}`)
})

export const deviceOperations = [
  makePlainDevice,
  makeFlaggedDevice,
  replaceDevice,
  attachPasid,
  replacePasid,
  detachPasid,
  checkPasid,
]
