/**
 * What a guest wants for one of its devices, read off its device table.
 *
 * @packageDocumentation
 */
import { decode, reservedBits } from '@nestwalk/bits'
import {
  controlLayout,
  decodeDte,
  decodeEfr,
  deviceTableBaseLayout,
  dteLayout,
  load64,
  registers,
} from '@nestwalk/hardware'
import type { Dte, Memory, RegisterFile } from '@nestwalk/hardware'

/** Where the device shall be attached. */
export type Wanted =
  /** Its requests are refused. */
  | { readonly kind: 'blocked' }
  /** An address is a guest-physical one: the nest parent alone. */
  | { readonly kind: 'parent' }
  /** Through the guest's tables that this entry names: four quad-words, lowest first. */
  | { readonly kind: 'nested'; readonly entry: readonly bigint[] }

const blocked: Wanted = { kind: 'blocked' }
const parent: Wanted = { kind: 'parent' }

const entryBytes = 32n
const entriesPerUnit = 128

/** Bits of the lower half of an entry count on a memory request, as on the chip. */
const lowerHalfBits = 128

/**
 * What the guest wants for a device, as the chip would read it now.
 *
 * An entry that the chip would refuse, or that asks for host tables of the guest's own, blocks the device.
 *
 * @param virtualId - the DeviceID that the guest knows the device by
 */
export function wantedFor(registerFile: RegisterFile, memory: Memory, virtualId: number): Wanted {
  if (!isOn(registerFile)) return parent
  const words = readEntry(registerFile, memory, virtualId)
  if (words === undefined) return blocked
  const entry = decodeDte(words)
  if (!entry.valid) return parent
  if (!entry.translationValid || (!entry.readAllowed && !entry.writeAllowed)) return blocked
  if (reservedBits(dteLayout, words).some(({ lo }) => lo < lowerHalfBits) || entry.mode !== 0) return blocked
  if (hasGatedBits(registerFile, entry) || entry.hostAccessDirty === 2) return blocked
  return entry.guestValid ? { kind: 'nested', entry: [...words] } : parent
}

/** Whether bits are set whose feature the guest's IOMMU lacks or the guest has not enabled: they count as reserved. */
function hasGatedBits(registerFile: RegisterFile, entry: Dte): boolean {
  const efr = decodeEfr(registerFile.readMmio(registers.efr.offset, 8))
  const control = decode(controlLayout, BigUint64Array.of(registerFile.readMmio(registers.control.offset, 8)))
  const guestTables = efr.gtSup && control.gtEn
  const pageRequests = efr.ephSup && control.ephEn
  return (
    (!guestTables && (entry.guestValid || entry.gcr3Levels !== 0 || entry.gcr3Root !== 0n)) ||
    (!efr.gIoSup && entry.guestIoValid) ||
    (!pageRequests && (entry.pageRequestsAllowed || entry.pageResponseHasPasid)) ||
    (!efr.satsSup && entry.secureAts)
  )
}

/** Whether the guest's IOMMU is enabled. */
export const isOn = (registerFile: RegisterFile): boolean =>
  (registerFile.readMmio(registers.control.offset, 8) & 1n) === 1n

/** The guest's entry, or `undefined` beyond its table or its memory. */
function readEntry(
  registerFile: RegisterFile,
  memory: Memory,
  virtualId: number,
): BigUint64Array | undefined {
  const raw = registerFile.readMmio(registers.deviceTableBase.offset, 8)
  const { base, size } = decode(deviceTableBaseLayout, BigUint64Array.of(raw))
  if (virtualId >= (size + 1) * entriesPerUnit) return undefined
  const address = base + BigInt(virtualId) * entryBytes
  if (address >= 1n << 52n) return undefined
  const words = [0n, 8n, 16n, 24n].map((offset) => load64(memory, address + offset))
  return words.includes(undefined) ? undefined : BigUint64Array.from(words, (word) => word ?? 0n)
}
