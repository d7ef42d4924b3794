/**
 * The calls on vIOMMUs, and on the queues by which user space hears of faults and events.
 *
 * Linux drivers/iommu/iommufd/viommu.c, eventq.c.
 *
 * @packageDocumentation
 */
import { accept, refuse } from '../outcome.js'
import { EventFile } from '../file/event-file.js'
import { FaultFile } from '../file/fault-file.js'
import { userData } from '../user-data.js'
import { defineIoctl } from './ioctl.js'
import {
  iommuFaultAlloc,
  iommuHwQueueAlloc,
  iommuVdeviceAlloc,
  iommuVeventqAlloc,
  iommuViommuAlloc,
} from './structs.js'

const faultQueueAlloc = defineIoctl({
  name: 'fault_queue_alloc',
  number: 0x8e,
  struct: iommuFaultAlloc,
  min: 16,
  run: ({ file, context, argument }, { flags }) => {
    if (flags !== 0) return refuse('flags', `flags 0x${flags.toString(16)} are not known`)
    const made = context.faultQueueAlloc()
    if (!made.ok) return made
    const id = made.value
    const address = argument + BigInt(iommuFaultAlloc.fields.outFaultFd.offset)
    const opened = { file: new FaultFile(file.shared, id), address, isCloseOnExec: true }
    return accept({ out: { outFaultId: id }, created: id, newFiles: [opened] }, made.effects)
  },
})

const viommuAlloc = defineIoctl({
  name: 'viommu_alloc',
  number: 0x90,
  struct: iommuViommuAlloc,
  min: 24,
  run: ({ context, process }, { flags, type, devId, hwptId, dataLen, dataUptr }) => {
    if (flags !== 0) return refuse('flags', `flags 0x${flags.toString(16)} are not known`)
    // The vIOMMU's type is its data's type: there is none to name it apart.
    const data = userData(process.memory, type, dataUptr, dataLen)
    const made = context.viommuAlloc({ device: devId, parent: hwptId, type, data })
    return made.ok ? accept({ out: { outViommuId: made.value }, created: made.value }, made.effects) : made
  },
})

const vdeviceAlloc = defineIoctl({
  name: 'vdevice_alloc',
  number: 0x91,
  struct: iommuVdeviceAlloc,
  min: 24,
  run: ({ context }, { viommuId, devId, virtId }) => {
    const made = context.vdeviceAlloc(viommuId, devId, virtId)
    return made.ok ? accept({ out: { outVdeviceId: made.value }, created: made.value }, made.effects) : made
  },
})

const veventqAlloc = defineIoctl({
  name: 'veventq_alloc',
  number: 0x93,
  struct: iommuVeventqAlloc,
  min: 28,
  run: ({ file, context, argument }, { flags, viommuId, type, veventqDepth, reserved }) => {
    if (flags !== 0) return refuse('flags', `flags 0x${flags.toString(16)} are not known`)
    if (reserved !== 0) return refuse('reserved-field', `__reserved is ${reserved}`)
    const made = context.veventqAlloc(viommuId, type, veventqDepth)
    if (!made.ok) return made
    const id = made.value
    const address = argument + BigInt(iommuVeventqAlloc.fields.outVeventqFd.offset)
    const opened = { file: new EventFile(file.shared, id), address, isCloseOnExec: true }
    return accept({ out: { outVeventqId: id }, created: id, newFiles: [opened] }, made.effects)
  },
})

const hwQueueAlloc = defineIoctl({
  name: 'hw_queue_alloc',
  number: 0x94,
  struct: iommuHwQueueAlloc,
  min: 40,
  run: ({ context }, { flags, viommuId, type, index, nestingParentIova, length }) => {
    if (flags !== 0) return refuse('flags', `flags 0x${flags.toString(16)} are not known`)
    const request = { viommu: viommuId, type, index, iova: nestingParentIova, length }
    const made = context.hwQueueAlloc(request)
    return made.ok ? accept({ out: { outHwQueueId: made.value }, created: made.value }, made.effects) : made
  },
})

export const viommuCalls = [faultQueueAlloc, viommuAlloc, vdeviceAlloc, veventqAlloc, hwQueueAlloc]
