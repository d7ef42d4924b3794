/**
 * The command processor: takes one command from the ring and carries it out.
 *
 * AMD 48882 rev 3.10, commands. A command that is not legal halts the queue with the head on it. The head moves when a
 * command has been carried out, so a COMPLETION_WAIT store comes after the effects of all commands before it.
 *
 * @packageDocumentation
 */
import type { DeviceTableCache } from '../cache/device-table-cache.js'
import { withoutPasid } from '../cache/iotlb.js'
import type { Iotlb } from '../cache/iotlb.js'
import type { Features } from '../features.js'
import type { SparseMemory } from '../memory/sparse-memory.js'
import { controlLo, mmio, ringBytes, status } from '../registers.js'
import type { Registers } from '../registers.js'
import { trailingOnesSizeLog2 } from '../walk/address-bits.js'
import { addOffset, carry, logEvent } from './event-log.js'

/** Opcodes, bits 63:60 of a command. */
const opcode = {
  completionWait: 1,
  invalidateDevtabEntry: 2,
  invalidateIommuPages: 3,
  invalidateInterruptTable: 5,
  prefetchIommuPages: 6,
  completePprRequest: 7,
  invalidateIommuAll: 8,
} as const

/** What became of a command. */
const done = 0
const illegal = 1
const storeFailed = 2

/** What commands work on: the parts of one IOMMU. */
export interface CommandTargets {
  readonly memory: SparseMemory
  readonly registers: Registers
  readonly iotlb: Iotlb
  readonly deviceTableCache: DeviceTableCache
  readonly features: Features
}

const event = new Int32Array(4)

/** Carries out the next command. False if there is none, or the queue does not run. The machine must be active. */
export function stepCommand(iommu: CommandTargets): boolean {
  const { registers, memory } = iommu
  if (!registers.commandsRun) return false
  const size = ringBytes(registers.hi(mmio.commandBase))
  const head = registers.lo(mmio.commandHead) & (size - 1)
  if (head === (registers.lo(mmio.commandTail) & (size - 1))) return false
  const baseLo = registers.lo(mmio.commandBase) & 0xfffff000
  const lo = addOffset(baseLo, head)
  const hi = (registers.hi(mmio.commandBase) & 0xfffff) + carry(baseLo, head)
  const word = memory.wordOf(lo, hi)
  if (word < 0) {
    halt(iommu, 0x62000000, lo, hi)
    return true
  }
  const pool = memory.words.array
  const outcome = carryOut(iommu, pool[word]!, pool[word + 1]!, pool[word + 2]!, pool[word + 3]!)
  if (outcome === done) registers.set(mmio.commandHead, (head + 16) & (size - 1), 0)
  else if (outcome === illegal) halt(iommu, 0x50000000, lo, hi)
  return true
}

/** ILLEGAL_COMMAND_ERROR, or COMMAND_HARDWARE_ERROR with type 1, master abort; either stops the queue. */
function halt(iommu: CommandTargets, code: number, lo: number, hi: number): void {
  event[0] = 0
  event[1] = code
  event[2] = lo
  event[3] = hi
  iommu.registers.haltCommands()
  logEvent(iommu.registers, iommu.memory, event)
}

function carryOut(iommu: CommandTargets, w0: number, w1: number, w2: number, w3: number): number {
  switch (w1 >>> 28) {
    case opcode.completionWait:
      return completionWait(iommu, w0, w1, w2, w3)
    case opcode.invalidateDevtabEntry:
      if (!namesOnlyDevice(w0, w1, w2, w3)) return illegal
      iommu.deviceTableCache.invalidate(w0)
      return done
    case opcode.invalidateIommuPages:
      return invalidatePages(iommu, w0, w1, w2, w3)
    case opcode.invalidateInterruptTable:
      // No interrupt table entries are cached, so there is nothing to drop.
      return namesOnlyDevice(w0, w1, w2, w3) ? done : illegal
    case opcode.prefetchIommuPages:
      // A hint that may be ignored.
      return iommu.features.prefetch && isLegalPrefetch(iommu, w0, w1, w2) ? done : illegal
    case opcode.completePprRequest:
      // The answer goes to the device; whether it asked is not checked.
      return iommu.features.pageRequests && isLegalPprAnswer(iommu, w0, w1, w2, w3) ? done : illegal
    case opcode.invalidateIommuAll:
      if (!iommu.features.invalidateAll || w0 !== 0 || w1 << 4 !== 0 || w2 !== 0 || w3 !== 0) return illegal
      iommu.iotlb.invalidateAll()
      iommu.deviceTableCache.invalidateAll()
      return done
    default:
      return illegal
  }
}

const namesOnlyDevice = (w0: number, w1: number, w2: number, w3: number): boolean =>
  w0 >>> 16 === 0 && w1 << 4 === 0 && w2 === 0 && w3 === 0

/** GN=1 asks for guest tables. */
const mayBeGuest = (iommu: CommandTargets, w2: number): boolean =>
  (w2 & 4) === 0 || iommu.features.guestTables

const isLegalPrefetch = (iommu: CommandTargets, w0: number, w1: number, w2: number): boolean =>
  (w0 & 0x00ff0000) === 0 && (w1 & 0x0ff00000) === 0 && (w2 & 0xfea) === 0 && mayBeGuest(iommu, w2)

const isLegalPprAnswer = (iommu: CommandTargets, w0: number, w1: number, w2: number, w3: number): boolean =>
  w0 >>> 16 === 0 &&
  (w1 & 0x0ff00000) === 0 &&
  (w2 & ~4) === 0 &&
  (w3 & 0xffff0e00) === 0 &&
  mayBeGuest(iommu, w2)

function completionWait(iommu: CommandTargets, w0: number, w1: number, w2: number, w3: number): number {
  if ((w1 & 0x0ff00000) !== 0) return illegal
  if ((w0 & 1) !== 0) {
    const lo = w0 & ~7
    const hi = w1 & 0xfffff
    if (!iommu.memory.store64(lo, hi, w2, w3)) {
      halt(iommu, 0x62000000, lo, hi)
      return storeFailed
    }
  }
  if ((w0 & 2) !== 0) iommu.registers.report(status.comWaitInt, controlLo.comWaitIntEn)
  return done
}

function invalidatePages(iommu: CommandTargets, w0: number, w1: number, w2: number, w3: number): number {
  const isGuest = (w2 & 4) !== 0
  if ((w0 & 0xfff00000) !== 0 || (w1 & 0x0fff0000) !== 0 || (w2 & 0xff8) !== 0) return illegal
  if (!mayBeGuest(iommu, w2) || (!isGuest && w0 !== 0)) return illegal
  const domainId = w1 & 0xffff
  const sizeLog2 = (w2 & 1) === 0 ? 12 : trailingOnesSizeLog2(w2, w3, 31)
  if (isGuest) {
    iommu.iotlb.invalidateRange(domainId, w0, w2, w3, sizeLog2)
  } else if (sizeLog2 >= 64) {
    iommu.iotlb.invalidateDomain(domainId)
  } else {
    iommu.iotlb.invalidateRange(domainId, withoutPasid, w2, w3, sizeLog2)
    // Which guest addresses lead to this range cannot be told, so all of the domain's go.
    iommu.iotlb.invalidateGuest(domainId)
  }
  return done
}
