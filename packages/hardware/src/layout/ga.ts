/**
 * Guest virtual APIC (GA) log entry: an interrupt came for a guest processor that is not running.
 * 64 bits, although the log's length code counts units of 128.
 *
 * @packageDocumentation
 */
import { decode, encode, uint } from '@nestwalk/bits'
import type { Decoded, RecordLayout } from '@nestwalk/bits'
import { deviceId } from './fields.js'

/** GUEST_NR, the one kind of entry. */
export const gaLayout = {
  name: 'GUEST_NR',
  source: 'AMD 48882 rev 3.10, section 2.7',
  wordCount: 1,
  fields: {
    /** GATag: what software put in the interrupt's entry. */
    gaTag: uint(31, 0),
    deviceId: deviceId(47, 32),
    /** GACode: 1. */
    code: uint(63, 60),
  },
} as const satisfies RecordLayout

/** The code of GUEST_NR. */
export const gaCode = 1

export type GaEntry = Decoded<typeof gaLayout>

/** Decodes an entry. */
export const decodeGa = (words: BigUint64Array): GaEntry => decode(gaLayout, words)

/** Encodes an entry; the code is filled in. */
export const encodeGa = (values: Partial<Omit<GaEntry, 'code'>>): BigUint64Array =>
  encode(gaLayout, { ...values, code: gaCode })
