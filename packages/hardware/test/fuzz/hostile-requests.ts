/** Requests of hostile devices: every kind, any address, any PASID; and what became of them. */
import type { Iommu, Request } from '../../src/index.js'
import type { Random } from '../slow/random.js'
import { deviceIdOf, pasidOf, wildAddress } from './wild.js'
import { longestWalk } from './work-meter.js'

export interface HostileRequest {
  readonly kind: 'request' | 'ats' | 'translated' | 'prefetch' | 'look'
  readonly asked: Request & { readonly noWrite: boolean }
}

export function hostileRequest(random: Random): HostileRequest {
  const kinds = [
    'request',
    'request',
    'request',
    'request',
    'ats',
    'ats',
    'translated',
    'prefetch',
    'look',
  ] as const
  return {
    kind: random.pick(kinds),
    asked: {
      deviceId: deviceIdOf(random),
      pasid: pasidOf(random),
      iova: wildAddress(random),
      write: random.chance(0.4),
      execute: random.chance(0.1),
      supervisor: random.chance(0.2),
      nonPosted: random.chance(0.1),
      noWrite: random.chance(0.3),
    },
  }
}

/** Walks that a request may take: one by translated address none, one for ATS a second one that sets D. */
export const walksOf = ({ kind }: HostileRequest): number =>
  kind === 'translated' ? 0 : kind === 'ats' ? 2 : 1

export function answerOf(iommu: Iommu, { kind, asked }: HostileRequest) {
  switch (kind) {
    case 'ats':
      return iommu.translationRequest(asked)
    case 'translated':
      return iommu.translatedRequest(asked)
    case 'prefetch':
      return iommu.prefetch(asked)
    case 'look':
      return iommu.walkFresh(asked)
    case 'request':
      return iommu.request(asked)
  }
}

/** An answer in few words; throws where it tells of more reads than it may have had. */
export function outcomeOf(request: HostileRequest, answer: ReturnType<typeof answerOf>): string {
  if ('reads' in answer && answer.reads > walksOf(request) * longestWalk) {
    throw new Error(`an answer to ${request.kind} tells of ${answer.reads} reads`)
  }
  const event = 'event' in answer ? ` by event ${answer.event[0] >> 60n}` : ''
  return `${request.kind}: ${answer.kind}${event}`
}
