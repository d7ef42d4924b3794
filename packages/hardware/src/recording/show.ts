/**
 * Requests and answers of a replay in words.
 *
 * @packageDocumentation
 */
import { hex, hexDigits } from '@nestwalk/bits'
import { deviceId, formatDeviceId } from '../layout/device-id.js'
import { eventKindOf } from '../layout/event.js'
import type { Request } from '../translation.js'
import type { ColdAnswer } from './cold-chip.js'
import type { EventWords, StoredWord } from './query.js'

/** Such as `00:07.0 reads 0x12000 with PASID 5 as supervisor`. */
export function showRequest(request: Request): string {
  const verb = request.write === true ? 'writes' : request.execute === true ? 'fetches' : 'reads'
  const pasid = request.pasid === undefined ? '' : ` with PASID ${request.pasid}`
  const privilege = request.supervisor === true ? ' as supervisor' : ''
  return `${formatDeviceId(deviceId(request.deviceId))} ${verb} ${hex(request.iova)}${pasid}${privilege}`
}

export function showAnswer({ translation, event }: ColdAnswer): string {
  switch (translation.kind) {
    case 'translated':
      return showTranslation(
        translation.spa,
        translation.from === 'identity' ? undefined : 1n << BigInt(translation.sizeLog2),
      )
    case 'forwarded':
      return showTranslation(translation.address, undefined)
    case 'interrupt':
      return 'an interrupt message'
    case 'fault':
      return showRefusal(event)
  }
}

export const showTranslation = (pa: bigint, sizeBytes: bigint | undefined): string =>
  sizeBytes === undefined ? `${hex(pa)}, untranslated` : `${hex(pa)} in a page of ${sizeBytes} bytes`

/** The event's bytes stand as recordings have them, first byte first. */
export function showRefusal(event: EventWords | null): string {
  if (event === null) return 'refused without an event'
  const kind = eventKindOf(BigUint64Array.from(event)) ?? 'an unknown event'
  return `refused with ${kind} ${event.map(bytesOf).join('')}`
}

const bytesOf = (word: bigint): string =>
  Array.from({ length: 8 }, (_, n) => hexDigits((word >> BigInt(8 * n)) & 0xffn, 2)).join('')

export const showStore = (store: StoredWord | undefined): string =>
  store === undefined
    ? 'no further word changed'
    : `${hex(store.address)} changed from ${hex(store.before)} to ${hex(store.after)}`
