/**
 * The command that the chip will take next, for those who watch.
 *
 * @packageDocumentation
 */
import { decode } from '@nestwalk/bits'
import { commandBufferBaseLayout, decodeCommand, load64, registers } from '@nestwalk/hardware'
import type { Command, IommuPort, Memory, UnknownCommand } from '@nestwalk/hardware'

/** A command in a ring. `undefined` where the ring lies outside memory. */
export type RingCommand = Command | UnknownCommand | undefined

/** The command at the head of an IOMMU's ring. */
export function nextCommandOf(port: IommuPort, memory: Memory): RingCommand {
  const raw = port.readMmio(registers.commandBufferBase.offset, 8)
  const { base } = decode(commandBufferBaseLayout, BigUint64Array.of(raw))
  const address = base + port.readMmio(registers.commandHead.offset, 8)
  const lo = load64(memory, address)
  const hi = load64(memory, address + 8n)
  return lo === undefined || hi === undefined ? undefined : decodeCommand(BigUint64Array.of(lo, hi))
}

/** Whether there are commands that an IOMMU has not taken. */
export const hasCommands = (port: IommuPort): boolean =>
  port.readMmio(registers.commandHead.offset, 8) !== port.readMmio(registers.commandTail.offset, 8)
