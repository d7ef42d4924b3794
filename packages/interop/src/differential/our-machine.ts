/**
 * The model's chip with the arena's memory and devices around it.
 *
 * @packageDocumentation
 */
import { Iommu, SparseMemory } from '@nestwalk/hardware'
import {
  arena,
  arenaDevices,
  arenaFeatures,
  halfBufferBytes,
  nothingRead,
  pageBytes,
  slotBytes,
} from './arena.js'
import type { MemoryImage } from './memory-image.js'
import type { DmaOperation, Machine } from './operations.js'

/** What became of one DMA: where it went, or the code of the event that tells why it did not. */
export interface DmaAnswer {
  /** Undefined: refused. */
  readonly address: bigint | undefined
  /** 0 without an event. */
  readonly eventCode: number
}

/** See the file's comment. */
export class OurMachine implements Machine {
  /** What became of each DMA, in order. */
  readonly answers: DmaAnswer[] = []
  private readonly iommu: Iommu

  constructor(private readonly image: MemoryImage) {
    this.iommu = Iommu.create({ memory: SparseMemory.over(image), features: arenaFeatures })
  }

  store(address: bigint, value: bigint): void {
    this.image.store64(address, value)
  }

  writeRegister(offset: number, bytes: 4 | 8, value: bigint): void {
    this.iommu.writeMmio(offset, bytes, value)
    this.runCommands()
  }

  readRegister(offset: number): bigint {
    return this.iommu.readMmio(offset, 8)
  }

  dma(operation: DmaOperation): void {
    const { device, iova, write } = operation
    const { deviceId } = arenaDevices[device] ?? { deviceId: 0 }
    const answer = this.iommu.request({ deviceId, iova, write })
    let address: bigint | undefined
    if (answer.kind === 'translated') address = answer.spa
    else if (answer.kind === 'forwarded') address = answer.address
    const eventCode = answer.kind === 'fault' ? Number(answer.event[0] >> 60n) : 0
    this.answers.push({ address, eventCode })
    carryOutDma(this.image, operation, address)
  }

  /** Devices answer at once what the chip asks of them. */
  private runCommands(): void {
    for (;;) {
      let moved = this.iommu.run()
      for (
        let next = this.iommu.takeDeviceMessage();
        next !== undefined;
        next = this.iommu.takeDeviceMessage()
      ) {
        moved++
        if (next.kind === 'invalidate') this.iommu.completeInvalidation(next.deviceId, next.tag)
      }
      if (moved === 0) return
    }
  }
}

/**
 * What a device does once it is known where its DMA goes. What it reads goes straight to where it is shown in the end.
 *
 * @param address - undefined: nowhere
 */
export function carryOutDma(image: MemoryImage, operation: DmaOperation, address: bigint | undefined): void {
  const { device, slot, bytes, write } = operation
  if (write) {
    const at = arena.patterns + device * pageBytes + halfBufferBytes + slot * slotBytes
    if (address !== undefined) image.write(Number(address), image.bytes.subarray(at, at + bytes))
    return
  }
  const found = address === undefined ? undefined : image.read(address, bytes)
  const shown = arena.dump + device * pageBytes + slot * slotBytes
  image.write(shown, found ?? Buffer.alloc(bytes, nothingRead))
}

/** What a device's buffer shows of reads that were not made: as it was filled before the case. */
export function showUnread(image: MemoryImage): void {
  arenaDevices.forEach((_, device) => {
    const from = arena.patterns + device * pageBytes
    image.write(arena.dump + device * pageBytes, image.bytes.subarray(from, from + halfBufferBytes))
  })
}
