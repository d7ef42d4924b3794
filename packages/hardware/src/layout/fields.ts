/**
 * Field kinds of this package's layouts: address spaces and identifiers that keep their kind.
 *
 * Decoding never checks a value: an address field wider than its address space yields what is
 * stored. "System physical" is meant from the side of the IOMMU that reads the structure; in a
 * structure that a guest wrote for its own IOMMU the same bits are a guest physical address.
 *
 * @packageDocumentation
 */
import { address, uint } from '@nestwalk/bits'
import type { AddressPart, Field, Gpa, Iova, Spa } from '@nestwalk/bits'
import type { DeviceId } from './device-id.js'
import type { DomainId } from './domain-id.js'
import type { Pasid } from './pasid.js'

/** A system physical address, gathered from its parts. */
export const spa = (...parts: readonly AddressPart[]): Field<Spa> => address(...parts) as Field<Spa>

/** A guest physical address, gathered from its parts. */
export const gpa = (...parts: readonly AddressPart[]): Field<Gpa> => address(...parts) as Field<Gpa>

/** The address that a device put in its request. */
export const iova = (...parts: readonly AddressPart[]): Field<Iova> => address(...parts) as Field<Iova>

/** A number of up to 53 bits gathered from its parts. */
export const gathered = (...parts: readonly AddressPart[]): Field<number> => ({
  spans: address(...parts).spans,
  fromBits: Number,
  toBits: BigInt,
})

/** A byte offset whose bits keep their positions: record bits `hi..lo` are offset bits `hi..lo`. */
export const byteOffset = (hi: number, lo: number): Field<number> => gathered([hi, lo, lo])

/** A DomainID, whole. */
export const domainId = (hi: number, lo: number): Field<DomainId> => uint(hi, lo) as Field<DomainId>

/** A DeviceID, whole. */
export const deviceId = (hi: number, lo: number): Field<DeviceId> => uint(hi, lo) as Field<DeviceId>

/** A PASID, gathered from its parts: structures split its 20 bits in five different ways. */
export const pasid = (...parts: readonly AddressPart[]): Field<Pasid> => gathered(...parts) as Field<Pasid>
