/**
 * A chip that reads everything from memory: registers, and the two rings. What commands and requests do is for those who
 * build on it.
 *
 * @packageDocumentation
 */
import { control, register, status } from '../arena.js'
import { ringAddress, ringBytes } from '../differential-case.js'
import type { MemoryImage } from '../memory-image.js'
import type { DmaOperation, Machine } from '../operations.js'
import { carryOutDma } from '../our-machine.js'
import type { Load, Settings } from './manual-walk.js'

/** Bytes of a command and of an event. */
const entryBytes = 16

/** See the file's comment. */
export abstract class Reading implements Machine {
  /** Where each DMA went, in order; undefined: nowhere. */
  readonly destinations: (bigint | undefined)[] = []
  protected readonly load: Load = (address) => this.image.load64(address)
  private readonly registers = new Map<number, bigint>()

  constructor(readonly image: MemoryImage) {}

  store(address: bigint, value: bigint): void {
    this.image.store64(address, value)
  }

  abstract writeRegister(offset: number, bytes: 4 | 8, value: bigint): void
  abstract readRegister(offset: number): bigint
  abstract dma(operation: DmaOperation): void

  protected answer(operation: DmaOperation, address: bigint | undefined): void {
    this.destinations.push(address)
    carryOutDma(this.image, operation, address)
  }

  protected get(offset: number): bigint {
    return this.registers.get(offset) ?? 0n
  }

  protected set(offset: number, value: bigint): void {
    this.registers.set(offset, BigInt.asUintN(64, value))
  }

  /** A register after a write to all of it, or to one half. */
  protected merged(offset: number, bytes: 4 | 8, value: bigint): bigint {
    if (bytes === 8) return value
    const old = this.get(offset & ~7)
    const half = BigInt.asUintN(32, value)
    if ((offset & 4) === 0) return ((old >> 32n) << 32n) | half
    return (half << 32n) | BigInt.asUintN(32, old)
  }

  protected isSet(bits: bigint): boolean {
    return (this.get(register.control) & bits) === bits
  }

  protected get isOn(): boolean {
    return this.isSet(control.iommuEn)
  }

  protected get settings(): Settings {
    return {
      deviceTable: this.get(register.deviceTable),
      exclusionBase: this.get(register.exclusionBase),
      exclusionLimit: this.get(register.exclusionLimit),
      guestTables: this.isSet(control.gtEn),
    }
  }

  /** Address of the entry at a pointer into a ring. */
  protected placeOf(base: number, pointer: bigint): bigint {
    const value = this.get(base)
    return ringAddress(value) + (pointer & BigInt(ringBytes(value) - 1))
  }

  protected next(base: number, pointer: bigint): bigint {
    return (pointer + BigInt(entryBytes)) & BigInt(ringBytes(this.get(base)) - 1)
  }

  protected get isLogFull(): boolean {
    const head = this.get(register.eventHead) & BigInt(ringBytes(this.get(register.eventBase)) - 1)
    return this.next(register.eventBase, this.get(register.eventTail)) === head
  }

  /** Writes an event at the tail of the log, and moves it. */
  protected append(lo: bigint, hi: bigint): void {
    const at = this.placeOf(register.eventBase, this.get(register.eventTail))
    this.image.store64(at, lo)
    this.image.store64(at + 8n, hi)
    this.set(register.eventTail, this.next(register.eventBase, this.get(register.eventTail)))
  }

  protected setStatus(bits: bigint): void {
    this.set(register.status, this.get(register.status) | bits)
  }

  protected clearStatus(bits: bigint): void {
    this.set(register.status, this.get(register.status) & ~bits)
  }

  protected get hasOverflowed(): boolean {
    return (this.get(register.status) & status.eventOverflow) !== 0n
  }
}
