/**
 * The interrupts that an IOMMU raises for itself, as messages.
 *
 * AMD 48882 rev 3.10, MSI capability and X2APIC interrupt control: with Control.IntCapXTEn the registers at 170h to
 * 180h say where an interrupt goes, otherwise MSI does. Interrupts of devices are the business of remapping.
 *
 * @packageDocumentation
 */
import { interruptLine } from './log.js'
import { controlHi, mmio } from './mmio.js'
import type { Registers } from './registers.js'

/** What an interrupt is about. */
export type InterruptCause = 'general' | 'ppr' | 'ga'

/** One interrupt: a posted write of 32 bits, or a message with a destination of 32 bits. */
export type InterruptMessage =
  | {
      readonly kind: 'msi'
      readonly cause: InterruptCause
      readonly address: bigint
      /** 32 bits. */
      readonly data: number
    }
  | {
      readonly kind: 'x2apic'
      readonly cause: InterruptCause
      readonly destination: number
      readonly logicalDestination: boolean
      /** The lowest-priority processor of the destination, rather than all. */
      readonly lowestPriority: boolean
      readonly vector: number
    }

/** What MSI sends, as the PCI function keeps it. */
export interface MsiTarget {
  readonly address: bigint
  readonly data: number
  /** log2 of the messages that software allows: the low bits of `data` that the function may set. */
  readonly messagesLog2: number
  /** Message number of each cause. */
  readonly numbers: Readonly<Record<InterruptCause, number>>
}

const sources = {
  [interruptLine.general]: { cause: 'general', offset: mmio.x2ApicGeneral },
  [interruptLine.ppr]: { cause: 'ppr', offset: mmio.x2ApicPpr },
  [interruptLine.ga]: { cause: 'ga', offset: mmio.x2ApicGa },
} as const

/** Takes the next interrupt that the registers hold ready. */
export function takeMessage(registers: Registers, msi: () => MsiTarget): InterruptMessage | undefined {
  const line = registers.takeInterrupt()
  if (line === 0) return undefined
  const { cause, offset } = sources[line as keyof typeof sources]
  if ((registers.hi(mmio.control) & controlHi.intCapXtEn) === 0) {
    const { address, data, messagesLog2, numbers } = msi()
    const free = (1 << messagesLog2) - 1
    return { kind: 'msi', cause, address, data: ((data & ~free) | (numbers[cause] & free)) >>> 0 }
  }
  const lo = registers.lo(offset)
  const hi = registers.hi(offset)
  return {
    kind: 'x2apic',
    cause,
    destination: ((lo >>> 8) | (hi & 0xff000000)) >>> 0,
    logicalDestination: (lo & 4) !== 0,
    lowestPriority: (hi & 0x100) !== 0,
    vector: hi & 0xff,
  }
}
