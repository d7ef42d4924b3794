/**
 * Carrying messages from the IOMMU down to the devices.
 *
 * PCI Express: messages go by requester ID. There is no device at most of them, and one may have been taken out.
 *
 * @packageDocumentation
 */
import type { Iommu } from '../iommu.js'
import type { Endpoint } from './endpoint.js'

/** What {@link deliver} has done. */
export interface Delivery {
  /** Messages that reached a device. */
  readonly received: number
  /** Messages for which there is no device. */
  readonly unsupported: number
}

/** Messages that an IOMMU holds at most: an invalidation for each tag, and the answers to page requests. */
const mostMessages = 32 + 64

/**
 * Carries the waiting messages to the endpoints, until there are none; at most as many as an IOMMU can hold, whatever the
 * endpoints do meanwhile.
 *
 * A message to a DeviceID that no endpoint has is an unsupported request, and dropped. That ends an invalidation: where
 * there is no device, there are no translations.
 *
 * @param absent - 'lost': an invalidation to no device stays unanswered instead, until Control.InvTimeOut ends it, as
 *   on links that tell nobody of the error
 */
export function deliver(
  iommu: Iommu,
  endpoints: readonly Endpoint[],
  absent: 'completed' | 'lost' = 'completed',
): Delivery {
  let received = 0
  let unsupported = 0
  while (received + unsupported < mostMessages) {
    const message = iommu.takeDeviceMessage()
    if (message === undefined) break
    const endpoint = endpoints.find(({ deviceId }) => deviceId === message.deviceId)
    if (endpoint !== undefined) {
      endpoint.receive(message, iommu)
      received++
      continue
    }
    unsupported++
    if (message.kind === 'invalidate' && absent === 'completed') {
      iommu.completeInvalidation(message.deviceId, message.tag)
    }
  }
  return { received, unsupported }
}
