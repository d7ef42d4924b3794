/**
 * What a guest has written into its IOMMU's registers and device table.
 *
 * @packageDocumentation
 */
import { decode } from '@nestwalk/bits'
import { controlLayout, decodeDte, deviceTableBaseLayout, load64, registers } from '@nestwalk/hardware'
import type { Dte } from '@nestwalk/hardware'
import type { VirtualMachine } from './virtual-machine.js'

const entryBytes = 32n

/** Whether the guest has turned its IOMMU on. */
export const isEnabled = ({ viommu }: VirtualMachine): boolean =>
  decode(controlLayout, BigUint64Array.of(viommu.readMmio(registers.control.offset, 8))).iommuEn

/** The guest's device table entry; `undefined` beyond its table or its memory. */
export function readGuestEntry({ viommu, memory }: VirtualMachine, virtualId: number): Dte | undefined {
  const raw = viommu.readMmio(registers.deviceTableBase.offset, 8)
  const { base, size } = decode(deviceTableBaseLayout, BigUint64Array.of(raw))
  if (virtualId >= (size + 1) * 128) return undefined
  const words = [0n, 8n, 16n, 24n].map((offset) =>
    load64(memory, base + BigInt(virtualId) * entryBytes + offset),
  )
  return words.includes(undefined) ? undefined : decodeDte(BigUint64Array.from(words, (word) => word ?? 0n))
}
