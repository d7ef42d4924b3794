/**
 * Extension: a hardware queue of a vIOMMU, from which the guest's commands are taken without its VMM.
 *
 * The guest puts commands into its ring and moves the tail in a page of registers that it shares with whoever takes them;
 * that one moves the head. docs/iommufd-extensions.md.
 *
 * @packageDocumentation
 */
import { readStruct, spa, writeStruct } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'
import type { Driver, GuestQueueStop } from '@nestwalk/driver'
import { encodeEvent } from '@nestwalk/hardware'
import type { EventFields } from '@nestwalk/hardware'
import type { HwQueueRequest, Region, Report, ViommuRequest } from '../backend.js'
import { isRefusal, refuse } from '../outcome.js'
import type { Refusal } from '../outcome.js'
import {
  amdEventLayout,
  amdEventQueueType,
  amdRegisterBytes,
  amdRegistersLayout,
  amdViommuLayout,
  amdViommuType,
} from './abi.js'

/** The ring of a guest's commands. */
interface CommandQueue {
  /** Guest physical. */
  readonly iova: bigint
  readonly base: Spa
  readonly byteLength: number
}

/** What a vIOMMU with a page of registers has. */
export interface QueuePlace {
  readonly registers: Region
  readonly queue: CommandQueue | undefined
}

const commandBytes = 16
const [fewestBytes, mostBytes] = [4096n, 0x8_0000n]
/** Status: an interrupt was asked for by COMPLETION_WAIT; commands are taken. */
const [waitInterrupt, running] = [1n << 2n, 1n << 4n]
/** Hardware error type: nothing answered. */
const masterAbort = 1

/** The page of registers that a VMM asks for by giving data; `undefined` if it does not. EINVAL, EFAULT for data. */
export function offerRegisters({ data, offerRegion }: ViommuRequest): Region | undefined | Refusal {
  if (data.length === 0) return undefined
  const { byteLength } = amdViommuLayout
  const given = data.copyIn(amdViommuType, byteLength, byteLength)
  if (isRefusal(given)) return given
  const registers = { bytes: new Uint8Array(amdRegisterBytes) }
  const answer = { outRegionOffset: offerRegion(registers), outRegionLength: BigInt(amdRegisterBytes) }
  return data.copyOut(writeStruct(amdViommuLayout, answer, given)) ?? registers
}

/** The queue that is asked for, running and empty. EINVAL for its shape, EEXIST for a second one. */
export function startQueue(place: QueuePlace | undefined, request: HwQueueRequest): QueuePlace | Refusal {
  const { index, iova, length, physical } = request
  if (place === undefined)
    return refuse('amd-queue-registers', `vIOMMU ${request.viommu} was made without a page of registers`)
  if (index !== 0) return refuse('amd-queue-index', `there is a command queue 0, not ${index}`)
  if (place.queue !== undefined) return refuse('amd-queue-taken', 'the vIOMMU has a command queue already')
  const isPowerOfTwo = (length & (length - 1n)) === 0n
  if (!isPowerOfTwo || length < fewestBytes || length > mostBytes || iova % fewestBytes !== 0n)
    return refuse('amd-queue-shape', `a command queue of ${length} bytes at 0x${iova.toString(16)}`)
  writeStruct(
    amdRegistersLayout,
    { commandHead: 0n, commandTail: 0n, status: running },
    place.registers.bytes,
  )
  return { ...place, queue: { iova, base: spa(physical), byteLength: Number(length) } }
}

/** Takes the queue away. */
export function stopQueue(place: QueuePlace): QueuePlace {
  changeStatus(place.registers, 0n, running)
  return { ...place, queue: undefined }
}

/**
 * Takes what the guest has queued; what the VMM is told when the queue stops. To be called in a transaction.
 *
 * A queue that has stopped goes on once Status says that it runs.
 */
export function takeCommands(
  driver: Driver,
  viommu: number,
  { registers, queue }: QueuePlace,
): Report | undefined | Refusal {
  if (queue === undefined) return undefined
  const { commandHead, commandTail, status } = readStruct(amdRegistersLayout, registers.bytes)
  if ((status & running) === 0n) return undefined
  const { base, byteLength, iova } = queue
  const inRing = (offset: bigint): number =>
    Number(BigInt.asUintN(32, offset)) & (byteLength - 1) & -commandBytes
  const ring = { base, byteLength, head: inRing(commandHead), tail: inRing(commandTail) }
  const done = driver.runGuestQueue(viommu, ring)
  if (!done.ok) return done
  const { head, interrupts, stop } = done.value
  writeStruct(amdRegistersLayout, { commandHead: BigInt(head) }, registers.bytes)
  if (interrupts) changeStatus(registers, waitInterrupt, 0n)
  if (stop === undefined) return undefined
  changeStatus(registers, 0n, running)
  const bytes = writeStruct(amdEventLayout, { words: encodeEvent(eventOf(stop, iova + BigInt(head))) })
  return { kind: 'event', viommu, type: amdEventQueueType, bytes }
}

/** The event of a queue that stops at the command at a guest physical address. */
function eventOf(stop: GuestQueueStop, address: bigint): EventFields {
  if (stop.kind === 'not-carried-out') return { kind: 'IllegalCommandError', address: spa(address) }
  const wanted = spa(stop.guestAddress ?? address)
  return { kind: 'CommandHardwareError', errorType: masterAbort, address: wanted }
}

function changeStatus({ bytes }: Region, set: bigint, clear: bigint): void {
  const { status } = readStruct(amdRegistersLayout, bytes)
  writeStruct(amdRegistersLayout, { status: (status & ~clear) | set }, bytes)
}

/** A fork's registers are its own. */
export const forkPlace = ({ registers, queue }: QueuePlace): QueuePlace => ({
  registers: { bytes: registers.bytes.slice() },
  queue,
})
