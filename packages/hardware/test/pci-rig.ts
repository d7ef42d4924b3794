/** A PCI function, and ways to find one's way in it. */
import { featuresOf, nestingFeatures, SparseMemory } from '../src/index.js'
import { PciFunction } from '../src/pci/index.js'
import type { PciFunctionOptions } from '../src/pci/index.js'

const bit = (n: number): bigint => 1n << BigInt(n)

/** Features that the function depends on. */
export const efrBit = { pcSup: bit(9), msiCapMmioSup: bit(46), vIommuSup: bit(55) } as const
/** The nesting part, with and without features. */
export const featuresWith = (on: bigint, off = 0n): PciFunctionOptions['features'] =>
  featuresOf({ efr: (nestingFeatures.efr | on) & ~off, efr2: nestingFeatures.efr2 })

export const memoryOf = (): SparseMemory => SparseMemory.create(1 << 20)
export const newFunction = (options: Partial<PciFunctionOptions> = {}): PciFunction =>
  PciFunction.create(memoryOf().words, { features: featuresWith(0n), ...options })

/** IDs and offsets, by the list of capabilities. */
export function capabilities(pci: PciFunction): [id: number, offset: number][] {
  const found: [number, number][] = []
  let at = pci.readConfig(0x34, 1)
  for (let i = 0; at !== 0 && i < 48; i++) {
    found.push([pci.readConfig(at, 1), at])
    at = pci.readConfig(at + 1, 1)
  }
  return found
}

/** Offset of a capability that must be there. */
export function at(pci: PciFunction, id: number): number {
  const offset = capabilities(pci).find(([found]) => found === id)?.[1]
  if (offset === undefined) throw new Error(`no capability ${id}`)
  return offset
}

/** Capability IDs. */
export const iommuId = 0x0f
export const msiId = 0x05
export const mappingId = 0x08
export const vendorId = 0x09
export const ones = 0xffffffff
