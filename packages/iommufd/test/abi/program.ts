/** A program that makes the calls of `/dev/iommu` byte by byte, as the reference lays their structures out. */
import { expect } from 'vitest'
import type { FileResult } from '../../src/index.js'
import { MockProgram, ok } from '../mock-program.js'
import type { Called, Fields } from '../mock-program.js'

export const last64 = (1n << 64n) - 1n
export const page = 0x1000n

/** `errno`, or what the call returned. */
type Answer = string | number | bigint | boolean | undefined | readonly (string | number | bigint)[]

/** What is done, how, and what must come of it. A call that succeeds without an output is `ok`. */
export type Step = readonly [what: string, call: () => unknown, expected: Answer]

/** Makes calls in order, and compares all that came of them at once. */
export function expectSteps(steps: readonly Step[]): void {
  const came = steps.map(([what, call]) => [what, answerOf(call())])
  expect(came).toEqual(steps.map(([what, , expected]) => [what, expected]))
}

function answerOf(made: unknown): unknown {
  if (made === undefined) return 'ok'
  const isResult = typeof made === 'object' && made !== null && !Array.isArray(made)
  return isResult ? ((made as Pick<FileResult, 'errno'>).errno ?? 'ok') : made
}

/** The number that a call wrote at an offset, or its errno. */
export const out32 = (made: Called, offset: number): string | number => made.errno ?? made.u32(offset)
export const out64 = (made: Called, offset: number): string | bigint => made.errno ?? made.u64(offset)

/** The words of a structure's bytes. */
export const words = (bytes: Uint8Array): number[] => [
  ...new Uint32Array(bytes.slice(0, bytes.length & ~3).buffer),
]

export const wordBytes = (...values: readonly number[]): Uint8Array =>
  new Uint8Array(Uint32Array.from(values).buffer)

export const longBytes = (...values: readonly bigint[]): Uint8Array =>
  new Uint8Array(BigUint64Array.from(values).buffer)

/** IOMMU_HWPT_ALLOC and IOMMU_VIOMMU_ALLOC: driver data as words, or where it lies. */
export interface DataOptions {
  readonly flags?: number
  readonly type?: number
  readonly data?: readonly number[]
  readonly length?: number
  readonly address?: bigint
  readonly fault?: number
}

/** See the file's comment. */
export class AbiProgram extends MockProgram {
  /** Where arrays and data of calls are put. */
  readonly room: bigint = this.buffer(4)

  /** An ioctl on a file, of which nothing is looked at but its result. Descriptors that it opens are given. */
  raw(cmd: number, argument: bigint, descriptor = this.iommu): FileResult {
    const { process } = this
    const result = this.file(descriptor).ioctl({ cmd, argument, process })
    for (const { file, address } of result.newFiles ?? []) {
      const opened = this.process.open(file)
      if (address !== 0n) this.write(address, wordBytes(opened))
    }
    return result
  }

  /** Puts bytes somewhere; returns where. */
  put(bytes: Uint8Array): bigint {
    this.write(this.room, bytes)
    return this.room
  }

  /** A structure with its size and fields, as bytes. */
  static struct(size: number, fields: Fields, length = size): Uint8Array {
    const bytes = new Uint8Array(length)
    const view = new DataView(bytes.buffer)
    view.setUint32(0, size, true)
    for (const [offset, value] of Object.entries(fields)) {
      if (typeof value === 'bigint') view.setBigUint64(Number(offset), value, true)
      else view.setUint32(Number(offset), value, true)
    }
    return bytes
  }

  mapAnywhere = (ioas: number, address: bigint, length: bigint, flags = 6): string | bigint =>
    out64(this.map(ioas, 0n, address, length, flags), 32)

  mapFile = (
    ioas: number,
    fd: number,
    at: { start?: bigint; length: bigint; iova?: bigint },
    flags = 7,
  ): Called =>
    this.call(0x8f, 40, {
      ...{ 4: flags, 8: ioas, 12: fd >>> 0, 16: at.start ?? 0n, 24: at.length, 32: at.iova ?? 0n },
    })

  copy = (
    [from, source]: readonly [number, bigint],
    [to, target]: readonly [number, bigint],
    length: bigint,
    flags = 7,
  ): Called => this.call(0x83, 40, { 4: flags, 8: to, 12: from, 16: length, 24: target, 32: source })

  allow = (ioas: number, ...ranges: readonly (readonly [bigint, bigint])[]): Called =>
    this.call(0x82, 24, { 4: ioas, 8: ranges.length, 16: this.put(longBytes(...ranges.flat())) })

  /** IOVA_RANGES with room for some: the ranges that were written, their number, and the alignment. */
  ranges(ioas: number, room = 8): string | readonly bigint[] {
    const address = this.put(new Uint8Array(1024))
    const made = this.call(0x84, 32, { 4: ioas, 8: room, 16: address })
    if (made.errno !== undefined) return made.errno
    const written = new BigUint64Array(this.read(address, 16 * made.u32(8)).buffer)
    return [...written, made.u64(24)]
  }

  option = (id: number, op: number, object: number, value = 0n): Called =>
    this.call(0x87, 24, { 4: id, 8: op, 12: object, 16: value })

  reserve = (ioas: number, start: bigint, length: bigint): Called =>
    this.test(1, ioas, { 16: start, 24: length })

  /** HWPT_ALLOC with everything that can be said. */
  alloc(device: number, on: number, options: DataOptions = {}): Called {
    const { flags = 0, data, fault = 0 } = options
    const address = options.address ?? (data === undefined ? 0n : this.put(wordBytes(...data)))
    const length = options.length ?? 4 * (data?.length ?? 0)
    const type = options.type ?? (data === undefined ? 0 : 0xdead)
    return this.call(0x89, 48, {
      ...{ 4: flags, 8: device, 12: on, 24: type, 28: length, 32: address, 40: fault },
    })
  }

  viommu(device: number, parent: number, options: DataOptions = {}): Called {
    const { flags = 0, type = 0xdeadbeef, data } = options
    const address = options.address ?? (data === undefined ? 0n : this.put(wordBytes(...data)))
    const length = options.length ?? 4 * (data?.length ?? 0)
    return this.call(0x90, 40, { 4: flags, 8: type, 12: device, 16: parent, 24: length, 32: address })
  }

  vdevice = (viommu: number, device: number, virtualId: bigint): Called =>
    this.call(0x91, 24, { 4: viommu, 8: device, 16: virtualId })

  hwQueue = (viommu: number, index: number, iova: bigint, length: bigint, type = 0xdeadbeef): Called =>
    this.call(0x94, 40, { 8: viommu, 12: type, 16: index, 24: iova, 32: length })

  veventq = (viommu: number, depth: number, type = 0xbeefbeef): Called =>
    this.call(0x93, 32, { 8: viommu, 12: type, 16: depth })

  faultQueue(): { readonly id: number; readonly fd: number } {
    const made = ok(this.call(0x8e, 16, {}))
    return { id: made.u32(8), fd: made.u32(12) }
  }

  /** HWPT_INVALIDATE with entries given as words: errno or ok, and entry_num as it was left. */
  invalidate(
    id: number,
    entries: readonly (readonly number[])[],
    options: { type?: number; length?: number; address?: bigint } = {},
  ): readonly (string | number)[] {
    const { type = 0xdeadbeef, length = 4 * (entries[0]?.length ?? 0) } = options
    const address = options.address ?? this.put(wordBytes(...entries.flat()))
    const made = this.call(0x8d, 32, { 4: id, 8: address, 16: type, 20: length, 24: entries.length })
    return [made.errno ?? 'ok', made.u32(24)]
  }

  setDirty = (hwpt: number, flags: number): Called => this.call(0x8b, 16, { 4: flags, 8: hwpt })

  /** GET_DIRTY_BITMAP into 8 bytes of zeroes: the bitmap, or the errno. */
  dirtyBits(
    hwpt: number,
    at: { iova: bigint; length: bigint; pageSize: bigint; data?: bigint },
    flags = 0,
  ): string | bigint {
    const address = this.put(new Uint8Array(8))
    const { iova, length, pageSize, data = address } = at
    const made = this.call(0x8c, 48, { 4: hwpt, 8: flags, 16: iova, 24: length, 32: pageSize, 40: data })
    return made.errno ?? new DataView(this.read(address, 8).buffer).getBigUint64(0, true)
  }

  /** Marks what the bits of a word name as written: how many, or the errno. */
  markDirty(hwpt: number, iova: bigint, length: bigint, pageSize: bigint, bits: bigint): string | bigint {
    const address = this.put(longBytes(bits))
    return out64(this.test(13, hwpt, { 24: iova, 32: length, 40: pageSize, 48: address }), 56)
  }

  hwInfo(
    device: number,
    options: { flags?: number; type?: number; length?: number; address?: bigint } = {},
  ): Called {
    const { flags = 0, type = 0, length = 0, address = this.room } = options
    return this.call(0x8a, 40, { 4: flags, 8: device, 12: length, 16: address, 24: type })
  }

  /** read(2): the words that were read, or the errno. */
  readWords(fd: number, count: number, offset = -1n): string | readonly number[] {
    const { errno, bytes = new Uint8Array() } = this.file(fd).read(this.process, BigInt(count), offset)
    return errno ?? words(bytes)
  }

  /** write(2): the bytes that were taken, or the errno. */
  writeWords(fd: number, values: readonly number[], count = 4 * values.length): string | number {
    const bytes = wordBytes(...values).subarray(0, count)
    const { errno, ret } = this.file(fd).write(this.process, bytes, BigInt(count), -1n)
    return errno ?? ret
  }

  mmap = (length: bigint, offset: bigint, { protection = 3, flags = 1 } = {}): FileResult =>
    this.file(this.iommu).mmap({ length, protection, flags, offset })

  /** A page fault of a device: READ at an address. */
  fault = (device: number, group: number, { pasid = 0, address = 0x5000n } = {}): Called =>
    this.test(15, 0, { 16: device, 20: pasid, 24: group, 28: 1, 32: address })

  event = (device: number): Called => this.test(17, 0, { 16: device })
}

/** A device on a nest parent, and a vIOMMU. */
export interface Nesting {
  readonly program: AbiProgram
  readonly ioas: number
  readonly stdev: number
  readonly device: number
  /** The automatic HWPT that the device came to first. */
  readonly automatic: number
  readonly parent: number
  readonly viommu: number
}

export function nesting(program = new AbiProgram()): Nesting {
  const ioas = program.ioas()
  const { stdev, hwpt, device } = program.device(ioas)
  const parent = program.hwpt(device, ioas, { flags: 1 })
  const viommu = ok(program.viommu(device, parent)).u32(20)
  return { program, ioas, stdev, device, automatic: hwpt, parent, viommu }
}

/** Moves a mock device: the HWPT that it came to, or the errno. */
export const replace = (program: AbiProgram, stdev: number, to: number): string | number =>
  out32(program.test(10, stdev, { 16: to }), 16)
