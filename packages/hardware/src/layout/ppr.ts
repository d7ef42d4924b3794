/**
 * Peripheral page request (PPR) log entry: a device asks software to make a page present. 128 bits.
 *
 * @packageDocumentation
 */
import { decode, encode, flag, uint } from '@nestwalk/bits'
import type { Decoded, RecordLayout } from '@nestwalk/bits'
import { deviceId, iova, pasid } from './fields.js'

/** PAGE_SERVICE_REQUEST, the one kind of entry. */
export const pprLayout = {
  name: 'PAGE_SERVICE_REQUEST',
  source: 'AMD 48882 rev 3.10, section 2.6',
  wordCount: 2,
  fields: {
    deviceId: deviceId(15, 0),
    /** PASID; counts only if GN. */
    pasid: pasid([31, 16, 0], [45, 42, 16]),
    /** PPRTag[8:0]: the page request group. */
    groupIndex: uint(40, 32),
    /** PPRTag[9]: the last request of its group, which wants a response. */
    lastInGroup: flag(41),
    /** Execute access is asked for. */
    execute: flag(49),
    /** Read access is asked for. */
    read: flag(50),
    /** Write access is asked for. */
    write: flag(53),
    /** US: user privilege. */
    user: flag(54),
    /** RZ: the request had a reserved bit set. */
    reservedNotZero: flag(55),
    /** GN: the address is a guest virtual one and the PASID counts. Elsewhere than in faults. */
    guestNested: flag(56),
    /** PPRCode: 1; 0 is an entry not yet written. */
    code: uint(63, 60),
    /** The page. */
    address: iova([127, 76, 12]),
  },
} as const satisfies RecordLayout

/** The code of PAGE_SERVICE_REQUEST. */
export const pprCode = 1

export type Ppr = Decoded<typeof pprLayout>

/** Decodes an entry from its two quad-words. */
export const decodePpr = (words: BigUint64Array): Ppr => decode(pprLayout, words)

/** Encodes an entry; the code is filled in. */
export const encodePpr = (values: Partial<Omit<Ppr, 'code'>>): BigUint64Array =>
  encode(pprLayout, { ...values, code: pprCode })
