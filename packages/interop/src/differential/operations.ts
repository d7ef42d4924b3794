/**
 * A case as the accesses it comes down to: the same for every machine.
 *
 * @packageDocumentation
 */
import { control, register, status } from './arena.js'
import type { DifferentialCase, DmaStep, Step } from './differential-case.js'
import { ringAddress, ringBytes } from './differential-case.js'

/** One DMA, and where in its device's buffer it reads to or writes from. */
export interface DmaOperation extends DmaStep {
  /** Which DMA of its device. */
  readonly slot: number
}

/** One access. */
export type Operation =
  | { readonly kind: 'store'; readonly address: bigint; readonly value: bigint }
  | { readonly kind: 'write'; readonly offset: number; readonly bytes: 4 | 8; readonly value: bigint }
  /** What is read is part of what is compared. */
  | { readonly kind: 'read'; readonly offset: number }
  | DmaOperation

/** Something that carries out operations: a chip with memory and devices. */
export interface Machine {
  store(address: bigint, value: bigint): void
  writeRegister(offset: number, bytes: 4 | 8, value: bigint): void
  readRegister(offset: number): bigint
  dma(operation: DmaOperation): void
}

/** What is read after each step; a register step reads its own register too, last. */
export const sampledRegisters = [register.commandHead, register.eventTail, register.status] as const

/** The PPR log has no other use than that its registers can be written: a length of 256 entries, as after reset. */
const pprBaseAtReset = 8n << 56n

/** The accesses before the first step. */
export function startOf(testCase: DifferentialCase): Operation[] {
  const write = (offset: number, value: bigint): Operation => ({ kind: 'write', offset, bytes: 8, value })
  return [
    ...testCase.memory.map(([address, value]): Operation => ({ kind: 'store', address, value })),
    write(register.deviceTable, testCase.deviceTable),
    write(register.commandBase, testCase.commandBase),
    write(register.commandHead, BigInt(testCase.commandStart)),
    write(register.commandTail, BigInt(testCase.commandStart)),
    write(register.eventBase, testCase.eventBase),
    write(register.eventHead, BigInt(testCase.eventHead)),
    write(register.eventTail, BigInt(testCase.eventTail)),
    write(register.exclusionBase, testCase.exclusionBase),
    write(register.exclusionLimit, testCase.exclusionLimit),
    write(register.pprBase, pprBaseAtReset),
    write(register.pprHead, 0n),
    write(register.pprTail, 0n),
    write(register.control, testCase.control),
  ]
}

/** The accesses of each step, the readings after it among them. */
export function operationsOf(testCase: DifferentialCase): Operation[][] {
  const compiler = new Compiler(testCase)
  return testCase.steps.map((step) => [
    ...compiler.accessesOf(step),
    ...sampledRegisters.map((offset): Operation => ({ kind: 'read', offset })),
    ...(step.kind === 'register' ? [{ kind: 'read', offset: step.offset & ~7 } as const] : []),
  ])
}

/** Software's side: where its next command goes. */
class Compiler {
  private readonly ring: bigint
  private readonly inRing: number
  private tail: number
  private readonly slots: number[] = []

  constructor(private readonly testCase: DifferentialCase) {
    this.ring = ringAddress(testCase.commandBase)
    this.inRing = ringBytes(testCase.commandBase) - 1
    this.tail = testCase.commandStart & this.inRing
  }

  accessesOf(step: Step): Operation[] {
    switch (step.kind) {
      case 'commands':
        return this.append(step.commands)
      case 'restart':
        return this.restart()
      case 'store':
        return [step]
      case 'register':
        return [{ ...step, kind: 'write' }]
      case 'dma': {
        const slot = this.slots[step.device] ?? 0
        this.slots[step.device] = slot + 1
        return [{ ...step, slot }]
      }
    }
  }

  private append(commands: readonly (readonly [bigint, bigint])[]): Operation[] {
    const stores = commands.flatMap(([lo, hi]): Operation[] => {
      const address = this.ring + BigInt(this.tail)
      this.tail = (this.tail + 16) & this.inRing
      return [
        { kind: 'store', address, value: lo },
        { kind: 'store', address: address + 8n, value: hi },
      ]
    })
    return [...stores, write(register.commandTail, BigInt(this.tail))]
  }

  private restart(): Operation[] {
    const run = this.testCase.control
    return [
      write(register.control, run & ~control.cmdBufEn),
      write(register.status, status.eventLogInt | status.comWaitInt),
      write(register.commandHead, BigInt(this.tail)),
      write(register.control, run),
    ]
  }
}

const write = (offset: number, value: bigint): Operation => ({ kind: 'write', offset, bytes: 8, value })
