/**
 * The guest's command ring, as the VMM reads it: the rules of the chip, over guest-physical memory.
 *
 * @packageDocumentation
 */
import { decode, dwordsOf, iova, reservedBits, spa } from '@nestwalk/bits'
import type { RecordLayout } from '@nestwalk/bits'
import {
  commandBufferBaseLayout,
  commandLayouts,
  decodeCommand,
  domainId,
  encodeCommand,
  encodeEvent,
  load64,
  logEvent,
  registers,
} from '@nestwalk/hardware'
import type { Command, EventFields, Memory, RegisterFile } from '@nestwalk/hardware'

const entryBytes = 16n

/** The next command of a guest. */
export type NextCommand =
  | { readonly kind: 'none' }
  /** The ring lies outside the guest's memory. */
  | { readonly kind: 'unreadable'; readonly address: bigint }
  /** An opcode that does not exist here, or reserved bits. */
  | { readonly kind: 'illegal'; readonly address: bigint }
  | { readonly kind: 'command'; readonly command: Command; readonly words: readonly [bigint, bigint] }

/** Kinds that this vIOMMU carries; the others need features that it does not offer. */
const carried: readonly string[] = [
  'CompletionWait',
  'InvalidateDevtabEntry',
  'InvalidateIommuPages',
  'InvalidateInterruptTable',
  'InvalidateIommuAll',
]

/** Looks at the command that the head points to. */
export function nextCommand(file: RegisterFile, memory: Memory): NextCommand {
  const head = pointer(file, registers.commandHead.offset)
  if (!file.commandsRun || head === pointer(file, registers.commandTail.offset)) return { kind: 'none' }
  const address = ringOf(file).base + head
  if (address >= 1n << 52n) return { kind: 'unreadable', address }
  const lo = load64(memory, address)
  const hi = load64(memory, address + 8n)
  if (lo === undefined || hi === undefined) return { kind: 'unreadable', address }
  const raw = BigUint64Array.of(lo, hi)
  const command = decodeCommand(raw)
  if (command.kind === 'Unknown' || !carried.includes(command.kind)) return { kind: 'illegal', address }
  const layout: RecordLayout = commandLayouts[command.kind]
  if (reservedBits(layout, raw).length > 0 || hasStrayPasid(command)) return { kind: 'illegal', address }
  return { kind: 'command', command, words: [lo, hi] }
}

/** A PASID without GN counts as a reserved bit. */
const hasStrayPasid = (command: Command): boolean =>
  command.kind === 'InvalidateIommuPages' && !command.guestNested && command.pasid !== 0

/** Moves the head past a command that has been carried out. */
export function finishCommand(file: RegisterFile): void {
  const next = (pointer(file, registers.commandHead.offset) + entryBytes) % ringOf(file).bytes
  file.set(registers.commandHead.offset, Number(next), 0)
}

/** Stops the queue with the head where it is, and tells the guest in its event log. */
export function haltQueue(file: RegisterFile, memory: Memory, event: EventFields): void {
  file.haltCommands()
  const [low = 0n, high = 0n] = encodeEvent(event)
  logEvent(file, memory, Int32Array.of(...dwordsOf(low), ...dwordsOf(high)))
}

/** The event for a command that could not be read, or whose store found no memory. */
export const commandHardwareError = (address: bigint): EventFields => ({
  kind: 'CommandHardwareError',
  errorType: masterAbort,
  address: spa(BigInt.asUintN(52, address)),
})

export const illegalCommandError = (address: bigint): EventFields => ({
  kind: 'IllegalCommandError',
  address: spa(BigInt.asUintN(52, address)),
})

/** Whether a write to this offset says where the next command is. */
export const placesCommands = (offset: number): boolean =>
  [registers.commandBufferBase.offset, registers.commandHead.offset].includes(offset & ~7)

/** An invalidation of all that a guest DomainID stands for. */
export function everythingOf(guestDomainId: number): readonly [bigint, bigint] {
  const [lo = 0n, hi = 0n] = encodeCommand({
    kind: 'InvalidateIommuPages',
    domainId: domainId(guestDomainId),
    directories: true,
    size: true,
    address: iova(0x7fff_ffff_ffff_f000n),
  })
  return [lo, hi]
}

/** Hardware error type: nothing answered. */
const masterAbort = 1

interface Ring {
  readonly base: bigint
  readonly bytes: bigint
}

function ringOf(file: RegisterFile): Ring {
  const raw = file.readMmio(registers.commandBufferBase.offset, 8)
  const { base, lengthLog2 } = decode(commandBufferBaseLayout, BigUint64Array.of(raw))
  return { base, bytes: entryBytes << BigInt(lengthLog2) }
}

/** A ring pointer in bytes, within the ring. */
const pointer = (file: RegisterFile, offset: number): bigint => file.readMmio(offset, 8) % ringOf(file).bytes
