/**
 * What a VMM asks of a function, and what it is answered: one session, from the version to the end.
 *
 * QEMU docs/interop/vfio-user.rst. Every request gets the reply that the protocol has for it; a request that cannot be
 * gets an errno and changes nothing.
 *
 * @packageDocumentation
 */
import { readStruct, writeStruct } from '@nestwalk/bits'
import type { StructLayout, StructValue } from '@nestwalk/bits'
import { DmaMapList } from './dma-map-list.js'
import { vfioRegionCount } from './function.js'
import type { VfioRegion, VfioUserFunction } from './function.js'
import {
  deviceInfoLayout,
  dmaMapLayout,
  dmaUnmapLayout,
  irqInfoLayout,
  mostTransferBytes,
  regionAccessLayout,
  regionInfoLayout,
  setIrqsLayout,
  vfioCommand,
} from './message.js'
import type { ErrnoName, Message } from './message.js'
import { answerVersion } from './version.js'

/** A payload, or what was wrong. */
export type Answer = Uint8Array | ErrnoName

/** Kinds of interrupt: INTx, MSI, MSI-X, error, request. */
const irqKinds = 5
const msiKind = 1

/** VFIO_DEVICE_FLAGS_RESET and _PCI. */
const deviceFlags = 3
const region = { read: 1, write: 2 } as const
/** VFIO_IRQ_INFO_EVENTFD and _NORESIZE. */
const irqFlags = 9
/** Readable, writable, and how the VMM would have the region reached, which a server may leave alone. */
const mapFlags = { readable: 1, writable: 2, all: 0xf } as const
const unmapAllFlag = 2

const nothing = new Uint8Array(0)

/** See the file's comment. */
export class VfioUserSession {
  private isAgreed = false
  private readonly maps = new DmaMapList()

  constructor(private readonly device: VfioUserFunction) {}

  /** Carries out a request. After an error before there is a version, the session is over. */
  answer({ type, command, payload }: Message): Answer {
    if (type !== 'request') return 'EINVAL'
    if (!this.isAgreed) return this.begin(command, payload)
    try {
      return this.carryOut(command, payload)
    } catch (error) {
      if (error instanceof RangeError) return 'EINVAL'
      throw error
    }
  }

  /** Whether the two have agreed on a version. */
  get isOpen(): boolean {
    return this.isAgreed
  }

  /** The VMM has gone: its memory is out of reach; the function stays as it is. */
  end(): void {
    this.maps.clear()
    this.device.unmapAllDma()
  }

  private begin(command: number, payload: Uint8Array): Answer {
    if (command !== vfioCommand.version) return 'EINVAL'
    const answer = answerVersion(payload)
    this.isAgreed = typeof answer !== 'string'
    return answer
  }

  private carryOut(command: number, payload: Uint8Array): Answer {
    switch (command) {
      case vfioCommand.version:
        return 'EINVAL'
      case vfioCommand.dmaMap:
        return this.mapDma(payload)
      case vfioCommand.dmaUnmap:
        return this.unmapDma(payload)
      case vfioCommand.getInfo:
        return this.deviceInfo(payload)
      case vfioCommand.getRegionInfo:
        return this.regionInfo(payload)
      case vfioCommand.getIrqInfo:
        return this.irqInfo(payload)
      case vfioCommand.setIrqs:
        return this.setIrqs(payload)
      case vfioCommand.regionRead:
        return this.readRegion(payload)
      case vfioCommand.regionWrite:
        return this.writeRegion(payload)
      case vfioCommand.reset:
        this.device.reset()
        return nothing
      default:
        return 'EOPNOTSUPP'
    }
  }

  private mapDma(payload: Uint8Array): Answer {
    const asked = argument(dmaMapLayout, payload)
    if (asked === undefined || (asked.flags & ~mapFlags.all) !== 0) return 'EINVAL'
    const { address, size, offset, flags } = asked
    const wrong = this.maps.add(address, size)
    if (wrong !== undefined) return wrong
    this.device.mapDma({
      ...{ address, sizeBytes: size, fileOffset: offset },
      readable: (flags & mapFlags.readable) !== 0,
      writable: (flags & mapFlags.writable) !== 0,
    })
    return nothing
  }

  private unmapDma(payload: Uint8Array): Answer {
    const asked = argument(dmaUnmapLayout, payload)
    if (asked === undefined || (asked.flags & ~unmapAllFlag) !== 0) return 'EINVAL'
    const { address, size } = asked
    if (asked.flags === unmapAllFlag) {
      if (address !== 0n || size !== 0n) return 'EINVAL'
      this.maps.clear()
      this.device.unmapAllDma()
    } else {
      const wrong = this.maps.remove(address, size)
      if (wrong !== undefined) return wrong
      this.device.unmapDma(address, size)
    }
    return payload.slice(0, dmaUnmapLayout.byteLength)
  }

  private deviceInfo(payload: Uint8Array): Answer {
    if (argument(deviceInfoLayout, payload) === undefined) return 'EINVAL'
    const { byteLength: argsz } = deviceInfoLayout
    return writeStruct(deviceInfoLayout, {
      ...{ argsz, flags: deviceFlags, regions: vfioRegionCount, irqs: irqKinds },
    })
  }

  private regionInfo(payload: Uint8Array): Answer {
    const asked = argument(regionInfoLayout, payload)
    if (asked === undefined || asked.index >= vfioRegionCount) return 'EINVAL'
    const { index } = asked
    const found = this.regionAt(index)
    const flags = (found?.readable === true ? region.read : 0) | (found?.writable === true ? region.write : 0)
    const { byteLength: argsz } = regionInfoLayout
    return writeStruct(regionInfoLayout, { argsz, flags, index, size: BigInt(found?.sizeBytes ?? 0) })
  }

  private irqInfo(payload: Uint8Array): Answer {
    const asked = argument(irqInfoLayout, payload)
    if (asked === undefined || asked.index >= irqKinds) return 'EINVAL'
    const { index } = asked
    const { byteLength: argsz } = irqInfoLayout
    return writeStruct(irqInfoLayout, { argsz, flags: irqFlags, index, count: this.irqCount(index) })
  }

  /**
   * Takes note of nothing: how a VMM would like its interrupts cannot be told without the descriptors, which do not reach
   * us. They go out as writes to the address that software put into the MSI capability.
   */
  private setIrqs(payload: Uint8Array): Answer {
    const asked = argument(setIrqsLayout, payload)
    if (asked === undefined || asked.index >= irqKinds) return 'EINVAL'
    const { index, start, count } = asked
    return start + count > this.irqCount(index) ? 'EINVAL' : nothing
  }

  private readRegion(payload: Uint8Array): Answer {
    const access = this.accessOf(payload, 'readable')
    if (access === undefined) return 'EINVAL'
    const { byteLength } = regionAccessLayout
    const reply = new Uint8Array(byteLength + access.count)
    reply.set(payload.subarray(0, byteLength))
    this.device.readRegion(access.region, Number(access.offset), reply.subarray(byteLength))
    return reply
  }

  private writeRegion(payload: Uint8Array): Answer {
    const access = this.accessOf(payload, 'writable')
    const bytes = payload.subarray(regionAccessLayout.byteLength)
    if (access?.count !== bytes.length) return 'EINVAL'
    this.device.writeRegion(access.region, Number(access.offset), bytes)
    return payload.slice(0, regionAccessLayout.byteLength)
  }

  /** An access that the region takes; undefined for any other. */
  private accessOf(payload: Uint8Array, right: 'readable' | 'writable') {
    const access = argument(regionAccessLayout, payload)
    const found = this.regionAt(access?.region)
    if (access === undefined || found?.[right] !== true) return undefined
    const { offset, count } = access
    const isWhole = count > 0 && count <= mostTransferBytes
    return isWhole && offset + BigInt(count) <= BigInt(found.sizeBytes) ? access : undefined
  }

  private regionAt(index: number | undefined): VfioRegion | undefined {
    return this.device.regions.find((each) => each.index === index)
  }

  private irqCount(kind: number): number {
    return kind === msiKind ? this.device.msiVectors : 0
  }
}

/** The fixed part of a payload; undefined if the payload is shorter. */
function argument<const L extends StructLayout>(layout: L, payload: Uint8Array): StructValue<L> | undefined {
  return payload.length < layout.byteLength ? undefined : readStruct(layout, payload)
}
