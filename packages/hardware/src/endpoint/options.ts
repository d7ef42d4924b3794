/**
 * What an endpoint is made with: its abilities, the choices that PCI Express leaves it, and its misbehaviour.
 *
 * @packageDocumentation
 */
import { checkInteger } from './check.js'

/** What a broken or hostile device does; several may come together. */
export const misbehaviours = [
  /** Drops nothing on an invalidation, and never answers it. Overrules the other ways of answering. */
  'ignores-invalidations',
  /** Answers invalidations, and goes on using the translations. */
  'completes-without-invalidating',
  /** Acts on an invalidation, and answers it, only when `lateBy` more messages have come. */
  'late',
  /** Answers invalidations under the next tag. */
  'answers-with-wrong-tag',
  /** Tags each request with a PASID that it made up, one of all 2^20. */
  'guesses-pasids',
  /** Sends every address as translated, as if it had been given it. */
  'translated-unasked',
  /** Sends a burst of page requests besides each access: any page, any group, more than its allocation. */
  'floods-page-requests',
] as const

export type Misbehaviour = (typeof misbehaviours)[number]

/** What an invalidation without PASID reaches, as the caches of real devices differ. The first is the default. */
export const untaggedInvalidations = ['untagged', 'everything'] as const

/** What an {@link Endpoint} is made with. */
export interface EndpointOptions {
  /** 16 bits: its requester ID. */
  readonly deviceId: number
  /** How many PASIDs it can use, from 0 on: 1 to 2^20. Absent: none. */
  readonly pasids?: number
  /** Its translation cache: 1 to 4096 entries. */
  readonly atc: { readonly capacity: number }
  /** Whether software has turned on ATS. */
  readonly ats: boolean
  /** Whether software has turned on page requests. */
  readonly pri: boolean
  /** Outstanding page request allocation: 1 to 512. */
  readonly outstandingPageRequests: number
  /** Default: 'untagged', those alone that came without PASID. */
  readonly untaggedInvalidation?: (typeof untaggedInvalidations)[number]
  readonly misbehaviour?: readonly Misbehaviour[]
  /** Messages that a late answer waits for: 1 to 2^16. Default: 1. */
  readonly lateBy?: number
  /** Where its guesses start: 32 bits. Default: 1. */
  readonly seed?: number
}

/** @throws RangeError for an option that is out of its limits */
export function checkOptions(options: EndpointOptions): void {
  checkInteger('deviceId', options.deviceId, 0, 0xffff)
  if (options.pasids !== undefined) checkInteger('pasids', options.pasids, 1, 2 ** 20)
  checkInteger('atc.capacity', options.atc.capacity, 1, 4096)
  checkInteger('outstandingPageRequests', options.outstandingPageRequests, 1, 512)
  if (options.lateBy !== undefined) checkInteger('lateBy', options.lateBy, 1, 2 ** 16)
  if (options.seed !== undefined) checkInteger('seed', options.seed, 0, 0xffffffff)
  checkName('untaggedInvalidation', options.untaggedInvalidation, untaggedInvalidations)
  options.misbehaviour?.forEach((each) => checkName('misbehaviour', each, misbehaviours))
}

function checkName(option: string, name: string | undefined, names: readonly string[]): void {
  if (name !== undefined && !names.includes(name)) {
    throw new RangeError(`${option} ${name} is not one of ${names.join(', ')}`)
  }
}
