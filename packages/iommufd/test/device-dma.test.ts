/** DEVICE_DMA: a device of a program reads and writes what the chip lets it, in the program's own memory. */
import { readStruct, writeStruct } from '@nestwalk/bits'
import { describe, expect, it } from 'vitest'
import { amdMachine, firstProgramAddress } from '../src/file/amd-kernel.js'
import { deviceDmaCommand, deviceDmaLayout } from '../src/file/device-dma.js'
import type { OpenFile } from '../src/open-file.js'
import { SimulatedHost, SimulatedProcess } from '../src/simulated-process.js'

const [write, withPasid] = [1, 2]
const from = { walk: 0, iotlb: 1 }
const iova = 0x10_0000n

/** A program that has bound a device, and mapped two pages of its memory; the second can only be read. */
function rig() {
  const { kernel } = amdMachine({ extensions: true, seesPrograms: true })
  const host = SimulatedHost.create({ first: firstProgramAddress })
  const process = SimulatedProcess.create<OpenFile>(host)
  const argument = process.memory.map(4096)
  const buffer = process.memory.map(4096)
  const mapped = process.memory.map(2 * 4096)
  const iommu = kernel.openIommu()
  const device = kernel.openVfioDevice(0)!
  const call = (file: OpenFile, cmd: number, ...words: number[]): DataView => {
    const bytes = new Uint8Array(Uint32Array.from(words).buffer)
    process.memory.write(argument, bytes)
    expect(file.ioctl({ cmd, argument, process })).toMatchObject({ ret: 0 })
    process.memory.read(argument, bytes)
    return new DataView(bytes.buffer)
  }
  const wide = (value: bigint): [number, number] => [Number(value & 0xffff_ffffn), Number(value >> 32n)]
  const dma = (request: Partial<Parameters<typeof writeStruct<typeof deviceDmaLayout>>[1]>) => {
    const bytes = writeStruct(deviceDmaLayout, { argsz: 64, length: 4, iova, buffer, ...request })
    process.memory.write(argument, bytes)
    const result = device.ioctl({ cmd: deviceDmaCommand, argument, process })
    process.memory.read(argument, bytes)
    return { ...result, out: readStruct(deviceDmaLayout, bytes) }
  }
  const attach = (): void => {
    const ioas = call(iommu, 0x3b81, 12, 0, 0).getUint32(8, true)
    call(iommu, 0x3b85, 40, 7, ioas, 0, ...wide(mapped), ...wide(4096n), ...wide(iova))
    call(iommu, 0x3b85, 40, 5, ioas, 0, ...wide(mapped + 4096n), ...wide(4096n), ...wide(iova + 4096n))
    call(device, 0x3b77, 16, 0, ioas, 0)
  }
  call(device, 0x3b76, 16, 0, process.open(iommu), 0)
  return { process, host, buffer, mapped, dma, attach, iommu, device }
}

describe('DEVICE_DMA', () => {
  it('reads and writes the memory that is mapped, any bytes of a page', () => {
    const { process, buffer, mapped, dma, attach } = rig()
    attach()
    process.memory.write(mapped + 13n, Uint8Array.from([1, 2, 3, 4, 5]))
    expect(dma({ iova: iova + 13n, length: 5 })).toMatchObject({ ret: 0, out: { outFrom: from.walk } })
    const read = new Uint8Array(5)
    process.memory.read(buffer, read)
    expect([...read]).toEqual([1, 2, 3, 4, 5])
    process.memory.write(buffer, Uint8Array.from([9, 8, 7]))
    const written = dma({ flags: write, iova: iova + 4093n, length: 3 })
    expect(written).toMatchObject({ ret: 0, out: { outFrom: from.iotlb, outFiller: 0x100 } })
    expect(written.out.outSpa).toBe(process.memory.lookUp(mapped + 4093n)?.physical)
    process.memory.read(mapped + 4093n, read.subarray(0, 3))
    expect([...read.subarray(0, 3)]).toEqual([9, 8, 7])
  })

  it('is refused with the event of the log: by a blocked device, a missing page, a missing right', () => {
    const { dma, attach } = rig()
    const ioPageFault = 2n
    const codeOf = (event: BigUint64Array): bigint => (event[0] ?? 0n) >> 60n
    expect(dma({})).toMatchObject({ errno: 'EIO', rule: 'dma-refused' })
    attach()
    for (const request of [{ iova: 0x50_0000n }, { flags: write, iova: iova + 4096n }]) {
      const { errno, out } = dma(request)
      expect([errno, codeOf(out.outEvent)]).toEqual(['EIO', ioPageFault])
      expect(out.outEvent[1]).toBe(request.iova)
    }
  })

  it('takes only what a device can send, and a buffer that is there', () => {
    const { dma, attach } = rig()
    attach()
    const wrong = [
      { argsz: 63 },
      { flags: 4 },
      { length: 0 },
      { length: 4097 },
      { iova: iova + 4090n, length: 7 },
      { flags: withPasid, pasid: 1 << 20 },
    ]
    for (const request of wrong)
      expect(dma(request)).toMatchObject({ errno: 'EINVAL', rule: 'dma-arguments' })
    for (const flags of [0, write])
      expect(dma({ flags, buffer: 0n })).toMatchObject({ errno: 'EFAULT', rule: 'dma-buffer' })
  })

  it('no longer reaches memory that was unmapped, or a program that is gone', () => {
    const { process, host, dma, attach, iommu, device } = rig()
    attach()
    expect(dma({}).ret).toBe(0)
    device.close()
    iommu.close()
    expect(host.pinned).toBe(0)
    process.kill()
  })

  it('is not there without extensions', () => {
    const { kernel } = amdMachine({ seesPrograms: true })
    const process = SimulatedProcess.create<OpenFile>(SimulatedHost.create())
    const argument = process.memory.map(4096)
    const device = kernel.openVfioDevice(0)!
    const iommu = process.open(kernel.openIommu())
    process.memory.write(argument, new Uint8Array(Uint32Array.from([16, 0, iommu, 0]).buffer))
    expect(device.ioctl({ cmd: 0x3b76, argument, process }).ret).toBe(0)
    expect(device.ioctl({ cmd: deviceDmaCommand, argument, process }).errno).toBe('ENOTTY')
  })
})
