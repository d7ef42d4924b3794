/**
 * Physical memory as a guest sees it: guest-physical ranges backed by ranges of the host's memory.
 *
 * This is what the processors of a VM see; a device sees guest-physical addresses through its IOMMU's host table, which
 * the VMM keeps in step with it, or not.
 *
 * @packageDocumentation
 */
import type { Gpa, Spa } from '@nestwalk/bits'
import type { Memory } from './memory.js'

/** One range. All three multiples of 4096; the addresses below 2^52. */
export interface MemorySlot {
  readonly gpa: Gpa
  readonly length: bigint
  readonly spa: Spa
}

/** A slot in doubles, which are exact for 52-bit addresses. */
interface PlainSlot {
  readonly first: number
  readonly end: number
  readonly moves: number
}

const unit = 2 ** 32

/** See the file's comment. */
export class GuestMemory implements Memory {
  private readonly plain: readonly PlainSlot[]

  constructor(
    private readonly host: Memory,
    readonly slots: readonly MemorySlot[],
  ) {
    this.plain = slots.map(({ gpa, length, spa }) => {
      if (((gpa | length | spa) & 0xfffn) !== 0n || length <= 0n) {
        throw new RangeError(`memory slot at GPA 0x${gpa.toString(16)} is not made of whole pages`)
      }
      return { first: Number(gpa), end: Number(gpa + length), moves: Number(spa - gpa) }
    })
  }

  load32(lo: number, hi: number): number | undefined {
    const spa = this.spaOf(lo, hi)
    return spa < 0 ? undefined : this.host.load32(spa | 0, Math.floor(spa / unit))
  }

  store32(lo: number, hi: number, value: number): boolean {
    const spa = this.spaOf(lo, hi)
    return spa >= 0 && this.host.store32(spa | 0, Math.floor(spa / unit), value)
  }

  store64(lo: number, hi: number, valueLo: number, valueHi: number): boolean {
    const spa = this.spaOf(lo, hi)
    return spa >= 0 && this.host.store64(spa | 0, Math.floor(spa / unit), valueLo, valueHi)
  }

  /** The same view of a fork of the host's memory. */
  forkOnto(host: Memory): GuestMemory {
    return new GuestMemory(host, this.slots)
  }

  /** The host address behind a guest address, or -1. */
  private spaOf(lo: number, hi: number): number {
    const gpa = (hi >>> 0) * unit + (lo >>> 0)
    for (const { first, end, moves } of this.plain) {
      if (gpa >= first && gpa < end) return gpa + moves
    }
    return -1
  }
}
