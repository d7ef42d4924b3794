/**
 * An open `/dev/vfio/devices/vfioN`: a device that a VMM binds to its iommufd and attaches.
 *
 * Linux drivers/vfio/device_cdev.c, drivers/vfio/iommufd.c.
 *
 * @packageDocumentation
 */
import { defineStruct, readStruct, s32, u32, u64, writeStruct } from '@nestwalk/bits'
import type { StructLayout, StructValue } from '@nestwalk/bits'
import type { ObjectId } from '../object/object.js'
import type { FileResult, IoctlCall, MmapResult, OpenFile } from '../open-file.js'
import { isRefusal, refuse } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import type { AddressSpace, CallingProcess } from '../process.js'
import { failed, noMmap, noRead, noWrite, pollOfAnyFile } from './file-result.js'
import { IommuFile } from './iommu-file.js'
import type { Kernel } from './kernel.js'
import type { SharedContext } from './shared-context.js'

export const vfioDeviceBind = defineStruct({
  name: 'vfio_device_bind_iommufd',
  byteLength: 24,
  fields: { argsz: u32(0), flags: u32(4), iommufd: s32(8), outDevid: u32(12), tokenUuidPtr: u64(16) },
})

export const vfioDeviceAttach = defineStruct({
  name: 'vfio_device_attach_iommufd_pt',
  byteLength: 16,
  fields: { argsz: u32(0), flags: u32(4), ptId: u32(8), pasid: u32(12) },
})

export const vfioDeviceDetach = defineStruct({
  name: 'vfio_device_detach_iommufd_pt',
  byteLength: 12,
  fields: { argsz: u32(0), flags: u32(4), pasid: u32(8) },
})

const vfioCommands = { bind: 0x3b76, attach: 0x3b77, detach: 0x3b78 } as const

/** BIND: smallest structure, and the flag of a token. */
const bindMin = 16
const bindToken = 1
/** Bytes of an unknown tail that are looked at. */
const mostTail = 4096
/** ATTACH and DETACH: a PASID is named. */
const withPasid = 1

interface Bound {
  readonly shared: SharedContext
  readonly id: ObjectId
}

/** See the file's comment. */
export class VfioDeviceFile implements OpenFile {
  private bound: Bound | undefined

  constructor(
    private readonly kernel: Kernel,
    private readonly deviceId: number,
  ) {}

  ioctl(call: IoctlCall): FileResult {
    const { cmd, argument, process } = call
    this.kernel.enter(process.memory.key)
    if (cmd === vfioCommands.bind) return this.bind(process, argument)
    if (this.bound === undefined) return notBound()
    switch (cmd) {
      case vfioCommands.attach:
        return this.attach(this.bound, process.memory, argument)
      case vfioCommands.detach:
        return this.detach(this.bound, process.memory, argument)
      default:
        return (
          this.kernel.deviceCall(cmd)?.(this.deviceId, call) ??
          failed(refuse('unknown-command', `0x${cmd.toString(16)} is no command of a VFIO device here`))
        )
    }
  }

  read = noRead
  write = noWrite
  poll = pollOfAnyFile

  mmap(): MmapResult {
    return this.bound === undefined ? notBound() : noMmap()
  }

  munmap(): void {
    // Nothing of it can be mapped.
  }

  close(): void {
    if (this.bound === undefined) return
    const { shared, id } = this.bound
    this.kernel.deliverReports()
    this.kernel.settle(shared.context.unbind(id))
    shared.closed()
  }

  private bind(process: CallingProcess<OpenFile>, argument: bigint): FileResult {
    const request = copyIn(process.memory, argument, vfioDeviceBind, bindMin)
    if (isRefusal(request)) return failed(request)
    const { argsz, flags, iommufd } = request
    if (iommufd < 0 || (flags & ~bindToken) !== 0)
      return failed(refuse('vfio-arguments', `flags 0x${flags.toString(16)}, iommufd ${iommufd}`))
    if ((flags & bindToken) !== 0)
      return failed(refuse('vfio-token', 'the device has no token that a virtual function could be bound by'))
    if (this.bound !== undefined) return failed(refuse('vfio-bound', 'the file is bound already'))
    const file = process.file(iommufd)
    if (file === undefined) return failed(refuse('bad-descriptor', `descriptor ${iommufd} is not open`))
    if (!(file instanceof IommuFile))
      return failed(refuse('not-an-iommufd', `descriptor ${iommufd} is no /dev/iommu`))
    const { shared } = file
    if (shared.kernel !== this.kernel)
      return failed(refuse('not-an-iommufd', `descriptor ${iommufd} is a /dev/iommu of another machine`))
    const done = this.kernel.settle(shared.context.bind(this.deviceId))
    if (!done.ok) return failed(done)
    this.bound = { shared, id: done.value }
    shared.opened()
    const bytes = writeStruct(vfioDeviceBind, { ...request, outDevid: done.value })
    if (process.memory.write(argument, bytes.subarray(0, argsz))) return { ret: 0 }
    this.close()
    this.bound = undefined
    return failed(refuse('answer-unwritable', 'the answer cannot be written back'))
  }

  private attach({ shared, id }: Bound, memory: AddressSpace, argument: bigint): FileResult {
    const { context } = shared
    const request = copyIn(memory, argument, vfioDeviceAttach, 12)
    if (isRefusal(request)) return failed(request)
    const { argsz, flags, ptId } = request
    const pasid = this.pasidOf(flags, argsz, 16, request.pasid)
    if (isRefusal(pasid)) return failed(pasid)
    const isAttached = context.objects.held(id, 'device').attachments.has(pasid)
    const done: Outcome<ObjectId> = this.kernel.settle(
      isAttached ? context.replace(id, ptId, pasid) : context.attach(id, ptId, pasid),
    )
    if (!done.ok) return failed(done)
    const bytes = writeStruct(vfioDeviceAttach, { ...request, ptId: done.value })
    if (memory.write(argument, bytes.subarray(0, Math.min(argsz, bytes.length)))) return { ret: 0 }
    this.kernel.settle(context.detach(id, pasid))
    return failed(refuse('answer-unwritable', 'the answer cannot be written back'))
  }

  private detach({ shared, id }: Bound, memory: AddressSpace, argument: bigint): FileResult {
    const request = copyIn(memory, argument, vfioDeviceDetach, 8)
    if (isRefusal(request)) return failed(request)
    const pasid = this.pasidOf(request.flags, request.argsz, 12, request.pasid)
    if (isRefusal(pasid)) return failed(pasid)
    const done = this.kernel.settle(shared.context.detach(id, pasid))
    return done.ok ? { ret: 0 } : failed(done)
  }

  /** The PASID that is named; 0 without the flag. */
  private pasidOf(flags: number, argsz: number, min: number, pasid: number): number | Refusal {
    if ((flags & ~withPasid) !== 0)
      return refuse('vfio-arguments', `flags 0x${flags.toString(16)} are not known`)
    if ((flags & withPasid) === 0) return 0
    if (argsz < min) return refuse('vfio-arguments', `argsz ${argsz} leaves the PASID out`)
    const device = this.kernel.iommufd.backend.device(this.deviceId)
    if (device === undefined || device.pasids === 0)
      return refuse('vfio-no-pasid', 'the device has no PASIDs')
    return pasid
  }
}

const notBound = (): FileResult =>
  failed(refuse('vfio-not-bound', 'the device is not bound to an iommufd: every other call waits for that'))

/** A structure that begins with its size: what is not given is zero; what is not known must be, where BIND is asked. */
function copyIn<const L extends StructLayout>(
  memory: AddressSpace,
  address: bigint,
  struct: L,
  min: number,
): StructValue<L> | Refusal {
  const size = new Uint8Array(4)
  const unreadable = refuse('argument-unreadable', `the caller has no memory at 0x${address.toString(16)}`)
  if (!memory.read(address, size)) return unreadable
  const argsz = new DataView(size.buffer).getUint32(0, true)
  if (argsz < min) return refuse('vfio-arguments', `${struct.name} has ${min} bytes at least, not ${argsz}`)
  const tail = new Uint8Array(Math.min(Math.max(argsz - struct.byteLength, 0), mostTail))
  if (struct.name === vfioDeviceBind.name && !memory.read(address + BigInt(struct.byteLength), tail))
    return unreadable
  if (tail.some((byte) => byte !== 0))
    return refuse(
      'size-unknown-tail',
      `${struct.name} has ${struct.byteLength} bytes here, and more are not zero`,
    )
  const bytes = new Uint8Array(struct.byteLength)
  return memory.read(address, bytes.subarray(0, Math.min(argsz, bytes.length)))
    ? readStruct(struct, bytes)
    : unreadable
}
