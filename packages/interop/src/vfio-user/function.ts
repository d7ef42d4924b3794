/**
 * What a vfio-user server serves: one PCI function, and what it may ask of the VMM that it is served to.
 *
 * @packageDocumentation
 */

/** Numbers of regions: BAR 0 to 5, the expansion ROM, configuration space, VGA. */
export const vfioRegion = { bar0: 0, rom: 6, config: 7, vga: 8 } as const
export const vfioRegionCount = 9

/** A region that the function has. */
export interface VfioRegion {
  /** See {@link vfioRegion}. */
  readonly index: number
  readonly sizeBytes: number
  readonly readable: boolean
  readonly writable: boolean
}

/** A stretch of the guest's memory, as the VMM tells of it. */
export interface DmaRegion {
  /** Guest physical address of the first byte. */
  readonly address: bigint
  readonly sizeBytes: bigint
  /** Where it begins in the file that holds it. */
  readonly fileOffset: bigint
  readonly readable: boolean
  readonly writable: boolean
}

/** What a function may ask of the VMM. Nothing of it waits: a VMM may hold its lock while it waits for the function. */
export interface VfioUserClient {
  /** Writes the guest's memory; a write to an MSI address is an interrupt. Ignored after the VMM has gone. */
  writeMemory(address: bigint, bytes: Uint8Array): void
}

/** One PCI function. A `RangeError` thrown by it is answered with EINVAL. */
export interface VfioUserFunction {
  readonly regions: readonly VfioRegion[]
  /** MSI vectors that can be asked for. */
  readonly msiVectors: number
  /** A VMM has come; it goes before another comes. */
  attached(client: VfioUserClient): void
  detached(): void
  /** Fills `into` from a region that can be read, and all of which is in range. */
  readRegion(index: number, offset: number, into: Uint8Array): void
  writeRegion(index: number, offset: number, from: Uint8Array): void
  mapDma(region: DmaRegion): void
  /** As it was mapped; or all of it. */
  unmapDma(address: bigint, sizeBytes: bigint): void
  unmapAllDma(): void
  reset(): void
}
