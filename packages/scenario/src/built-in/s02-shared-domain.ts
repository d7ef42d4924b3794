/**
 * S02: two devices of different groups on one guest domain. The guest takes a page away with a single invalidation.
 *
 * @packageDocumentation
 */
import type { Scenario } from '../spec.js'
import { page, twoGroups } from './parts.js'

export const s02: Scenario = {
  id: 'S02',
  title: 'two devices, one guest domain, one invalidation',
  story:
    'Two devices of different groups share a guest domain. The guest unmaps a page, invalidates its one DomainID once, waits, and frees the page.',
  machine: twoGroups,
  setup: [
    { do: 'guest-domain', vm: 'VM1', domain: 'A' },
    { do: 'guest-map', vm: 'VM1', domain: 'A', gva: page.x, gpa: page.a },
    { do: 'guest-attach', vm: 'VM1', device: 'D1', domain: 'A' },
    { do: 'guest-attach', vm: 'VM1', device: 'D2', domain: 'A' },
  ],
  run: [
    { do: 'dma', device: 'D1', gva: page.x, write: false },
    { do: 'dma', device: 'D2', gva: page.x, write: false },
    { do: 'guest-unmap', vm: 'VM1', domain: 'A', gva: page.x },
    { do: 'dma', device: 'D1', gva: page.x, write: true },
    { do: 'dma', device: 'D2', gva: page.x, write: true },
  ],
}
