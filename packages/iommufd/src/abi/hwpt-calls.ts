/**
 * The calls on HWPTs and on what devices are behind.
 *
 * Linux drivers/iommu/iommufd/hw_pagetable.c, device.c.
 *
 * @packageDocumentation
 */
import { backendDevice } from '../hwpt/backend-device.js'
import { accept, isRefusal, refuse } from '../outcome.js'
import type { Refusal } from '../outcome.js'
import { pageBytes } from '../process.js'
import type { BackendDevice } from '../backend.js'
import { userData, userDataArray } from '../user-data.js'
import { defineIoctl } from './ioctl.js'
import type { Caller } from './ioctl.js'
import { emptyReply } from './object-calls.js'
import {
  iommuHwInfo,
  iommuHwptAlloc,
  iommuHwptGetDirtyBitmap,
  iommuHwptInvalidate,
  iommuHwptSetDirtyTracking,
} from './structs.js'

/** Most requests of an HWPT_INVALIDATE. */
const mostRequests = 1 << 19

const hwptAlloc = defineIoctl({
  name: 'hwpt_alloc',
  number: 0x89,
  struct: iommuHwptAlloc,
  min: 24,
  run: ({ context, process }, request) => {
    if (request.reserved !== 0) return refuse('reserved-field', `__reserved is ${request.reserved}`)
    const { dataType, dataUptr, dataLen } = request
    const made = context.hwptAlloc({
      device: request.devId,
      pageTable: request.ptId,
      flags: request.flags,
      data: userData(process.memory, dataType, dataUptr, dataLen),
      faultQueue: request.faultId,
    })
    return made.ok ? accept({ out: { outHwptId: made.value }, created: made.value }, made.effects) : made
  },
})

/** GET_HW_INFO: the caller names the type that it wants. */
const inputType = 1

/** `enum iommufd_hw_capabilities`. */
const capabilities = { dirtyTracking: 1n, pasidExec: 2n, pasidPriv: 4n, atsNotSupported: 8n } as const

const getHwInfo = defineIoctl({
  name: 'get_hw_info',
  number: 0x8a,
  struct: iommuHwInfo,
  min: 32,
  run: (caller, { flags, devId, dataLen, dataUptr, dataType, reserved }) => {
    const { context } = caller
    if ((flags & ~inputType) !== 0) return refuse('flags', `flags 0x${flags.toString(16)} are not known`)
    if (reserved.some((byte) => byte !== 0)) return refuse('reserved-field', '__reserved is not zero')
    const device = context.objects.need(devId, 'device', 'no-such-device-object')
    if (isRefusal(device)) return device
    const info = context.hwInfo(devId, (flags & inputType) === 0 ? 0 : dataType)
    if (!info.ok) return info
    const { type, bytes } = info.value
    const unwritten = writeInfo(caller, bytes, dataUptr, dataLen)
    if (unwritten !== undefined) return unwritten
    const on = backendDevice(context.kernel, device)
    return accept({
      out: {
        dataLen: bytes.length,
        dataType: type,
        outMaxPasidLog2: on.pasids === 0 ? 0 : 31 - Math.clz32(on.pasids),
        outCapabilities: capabilitiesOf(on),
      },
    })
  },
})

/** What is known, as far as there is room, and zeroes in the rest of the room. */
function writeInfo(
  { process }: Caller,
  info: Uint8Array,
  address: bigint,
  room: number,
): Refusal | undefined {
  if (room === 0) return undefined
  const refused = refuse('info-unwritable', `the buffer at 0x${address.toString(16)} cannot be written`)
  if (!process.memory.write(address, info.subarray(0, room))) return refused
  const zeroes = new Uint8Array(pageBytes)
  for (let at = info.length; at < room; at += zeroes.length) {
    const part = zeroes.subarray(0, Math.min(zeroes.length, room - at))
    if (!process.memory.write(address + BigInt(at), part)) return refused
  }
  return undefined
}

const capabilitiesOf = (device: BackendDevice): bigint =>
  (device.canTrackDirty ? capabilities.dirtyTracking : 0n) |
  (device.canExecutePasid ? capabilities.pasidExec : 0n) |
  (device.hasPrivilegedPasid ? capabilities.pasidPriv : 0n) |
  (device.hasAts ? 0n : capabilities.atsNotSupported)

const enableTracking = 1

const setDirtyTracking = defineIoctl({
  name: 'hwpt_set_dirty_tracking',
  number: 0x8b,
  struct: iommuHwptSetDirtyTracking,
  min: 16,
  writesBack: 'nothing',
  run: ({ context }, { flags, hwptId }) => {
    if ((flags & ~enableTracking) !== 0) return refuse('flags', `flags 0x${flags.toString(16)} are not known`)
    return emptyReply(context.setDirtyTracking(hwptId, (flags & enableTracking) !== 0))
  },
})

const noClear = 1

const getDirtyBitmap = defineIoctl({
  name: 'hwpt_get_dirty_bitmap',
  number: 0x8c,
  struct: iommuHwptGetDirtyBitmap,
  min: 48,
  writesBack: 'nothing',
  run: ({ context, process }, { hwptId, flags, reserved, iova, length, pageSize, data }) => {
    if ((flags & ~noClear) !== 0) return refuse('flags', `flags 0x${flags.toString(16)} are not known`)
    if (reserved !== 0) return refuse('reserved-field', `__reserved is ${reserved}`)
    const request = { hwpt: hwptId, iova, length, pageSize, clears: (flags & noClear) === 0 }
    return emptyReply(context.readDirtyBitmap(request, process.memory, data))
  },
})

const hwptInvalidate = defineIoctl({
  name: 'hwpt_invalidate',
  number: 0x8d,
  struct: iommuHwptInvalidate,
  min: 32,
  run: ({ context, process }, { hwptId, dataUptr, dataType, entryLen, entryNum, reserved }) => {
    // Whatever happens, the caller is told how many requests were carried out.
    const none = (refused: Refusal) => accept({ out: { entryNum: 0 }, refused })
    if (reserved !== 0) return none(refuse('reserved-field', `__reserved is ${reserved}`))
    if (entryNum !== 0) {
      if (dataUptr === 0n) return none(refuse('array-null', 'the array is at address 0'))
      if (entryLen === 0 || entryLen > pageBytes)
        return none(refuse('array-entry-size', `requests of ${entryLen} bytes, not 1 to ${pageBytes}`))
      if (entryNum > mostRequests)
        return none(refuse('array-count', `${entryNum} requests, where ${mostRequests} are the most`))
    }
    const place = { type: dataType, address: dataUptr, entryLength: entryLen, count: entryNum }
    const done = context.invalidate(hwptId, userDataArray(process.memory, place))
    if (!done.ok) return none(done)
    const { handled, refused } = done.value
    const out = { entryNum: handled }
    return accept(refused === undefined ? { out } : { out, refused }, done.effects)
  },
})

export const hwptCalls = [hwptAlloc, getHwInfo, setDirtyTracking, getDirtyBitmap, hwptInvalidate]
