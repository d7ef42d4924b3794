/**
 * Accesses to memory that a device is told to make, and what becomes of them.
 *
 * @packageDocumentation
 */
import type { Iommu } from '../iommu.js'
import type { Translation } from '../translation.js'
import { checkInteger } from './check.js'

/** What an endpoint uses of the IOMMU above it. */
export type Upstream = Pick<
  Iommu,
  'request' | 'translationRequest' | 'translatedRequest' | 'pageRequest' | 'completeInvalidation'
>

/** One access within a page. */
export interface DmaRequest {
  /** 64 bits. */
  readonly iova: bigint
  /** One of the device's PASIDs; absent: without PASID. */
  readonly pasid?: number | undefined
  readonly write?: boolean
  /** Fetches code; counts with a PASID only. */
  readonly execute?: boolean
  /** Supervisor privilege; counts with a PASID only. */
  readonly supervisor?: boolean
  /** With `write`: one that waits for an answer, such as an atomic operation. */
  readonly nonPosted?: boolean
  /** Pages from this one on that the device wants, should it have to ask for them: 1 to 32. Default: 1. */
  readonly pages?: number
}

/** What became of an access. */
export type DmaAnswer =
  | {
      readonly kind: 'done'
      /** Where the access went: an SPA, or an address that passed as it was. */
      readonly address: bigint
      /**
       * How it was addressed: untranslated, by a translation from the device's cache, by one it has just asked for, or by
       * an address that it was never given.
       */
      readonly by: 'untranslated' | 'atc' | 'ats' | 'unasked'
    }
  /** A write to the interrupt range: what becomes of it is for `Iommu.requestInterrupt` to say. */
  | { readonly kind: 'interrupt'; readonly address: bigint }
  /** For the answer to a page request; for any of them when `group` is undefined. Try again then. */
  | { readonly kind: 'waiting'; readonly group: number | undefined }
  /** The translation lacks the right, and page requests are off or were answered with "invalid". */
  | { readonly kind: 'denied'; readonly because: 'no-right' | 'page-request-refused' }
  /** The IOMMU ended the request, or does not give the device a translation. */
  | {
      readonly kind: 'refused'
      readonly by: 'fault' | 'unsupported-request' | 'completer-abort'
      readonly event: readonly [bigint, bigint]
      readonly logged: boolean
    }

/**
 * Checks an access that a caller wants made.
 *
 * @param pasids - how many the device has
 * @throws RangeError for values out of range
 */
export function checkDma({ iova, pasid, pages = 1 }: DmaRequest, pasids: number): void {
  if (iova < 0n || iova >= 1n << 64n) throw new RangeError(`iova ${iova} is not from 0 to 2^64 - 1`)
  if (pasid !== undefined) checkPasid(pasid, pasids)
  checkInteger('pages', pages, 1, 32)
}

/** @throws RangeError for a PASID that the device does not have */
export function checkPasid(pasid: number, pasids: number): void {
  if (pasids === 0) throw new RangeError(`pasid ${pasid}: the device has none`)
  checkInteger('pasid', pasid, 0, pasids - 1)
}

/** The outcome of a request as the device's access sees it. */
export function dmaAnswerOf(answer: Translation, by: 'untranslated' | 'atc' | 'ats' | 'unasked'): DmaAnswer {
  switch (answer.kind) {
    case 'translated':
      return { kind: 'done', address: answer.spa, by }
    case 'forwarded':
      return { kind: 'done', address: answer.address, by }
    case 'interrupt':
      return answer
    case 'fault':
      return { kind: 'refused', by: 'fault', event: answer.event, logged: answer.logged }
  }
}
