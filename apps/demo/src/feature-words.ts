/**
 * Feature registers as an option of the command line names them.
 *
 * @packageDocumentation
 */
import type { FeatureRegisters } from '@nestwalk/hardware'
import { UsageError } from './output.js'

/**
 * EFR, or EFR,EFR2 in hexadecimal.
 *
 * @throws UsageError for anything else
 */
export function featuresOf(value: string): FeatureRegisters {
  const parts = /^(?:0x)?([0-9a-f]{1,16})(?:,(?:0x)?([0-9a-f]{1,16}))?$/i.exec(value)
  if (parts === null) {
    throw new UsageError(`--features ${value}: it takes EFR, or EFR,EFR2, in hexadecimal`)
  }
  return { efr: BigInt(`0x${parts[1] ?? '0'}`), efr2: BigInt(`0x${parts[2] ?? '0'}`) }
}
