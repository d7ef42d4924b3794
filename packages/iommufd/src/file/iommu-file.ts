/**
 * An open `/dev/iommu`: the calls in binary form.
 *
 * Linux drivers/iommu/iommufd/main.c.
 *
 * @packageDocumentation
 */
import { dispatch } from '../abi/dispatch.js'
import { firstNumber } from '../abi/ioctl-table.js'
import type { Caller, Reply } from '../abi/ioctl.js'
import type { Region } from '../backend.js'
import type { FileResult, IoctlCall, MmapRequest, MmapResult, OpenFile } from '../open-file.js'
import { isRefusal } from '../outcome.js'
import { vfioCall } from '../vfio/type1.js'
import { failed, noRead, noWrite, pollOfAnyFile } from './file-result.js'
import type { SharedContext } from './shared-context.js'

/** See the file's comment. */
export class IommuFile implements OpenFile {
  private constructor(readonly shared: SharedContext) {}

  static open(shared: SharedContext): IommuFile {
    shared.opened()
    return new IommuFile(shared)
  }

  ioctl({ cmd, argument, process }: IoctlCall): FileResult {
    const { kernel, context } = this.shared
    kernel.enter(process.memory.key)
    const caller: Caller = { file: this, context, process, argument }
    const number = cmd & 0xff
    if (number < firstNumber || number > kernel.lastNumber) return vfioCall(caller, cmd)
    const { result, outcome } = dispatch(caller, cmd, kernel.ioctl(number))
    if (outcome === undefined) return result
    kernel.settle(outcome)
    const isLost = result.errno !== undefined && outcome.ok && outcome.value.refused === undefined
    if (isLost) this.undo(outcome.value)
    return result
  }

  read = noRead
  write = noWrite
  poll = pollOfAnyFile

  mmap(request: MmapRequest): MmapResult {
    const { objects, regions } = this.shared.context
    const found = regions.find(request)
    if (isRefusal(found)) return failed(found)
    objects.hold(found.owner)
    // A mapping holds the file, and with it the context.
    this.shared.opened()
    return { ret: 0, region: found.region }
  }

  munmap(region: Region): void {
    const { objects, regions } = this.shared.context
    const owner = regions.ownerOf(region)
    if (owner === undefined) return
    objects.letGo(owner)
    this.shared.closed()
  }

  close(): void {
    this.shared.closed()
  }

  /** The caller could not be told of what it asked for: it goes again. */
  private undo({ created, newFiles = [] }: Reply): void {
    const { kernel, context } = this.shared
    for (const { file } of newFiles) file.close()
    if (created !== undefined) kernel.settle(context.destroy(created))
  }
}
