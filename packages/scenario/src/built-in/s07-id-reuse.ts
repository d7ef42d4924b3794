/**
 * S07: a guest moves its device to another DomainID; the host's ID behind the old one is free, and another VM gets it.
 *
 * The guest does all it must: it rewrites the entry, invalidates entry and old DomainID, and waits.
 *
 * @packageDocumentation
 */
import type { Scenario } from '../spec.js'
import { page, twoVms } from './parts.js'

export const s07: Scenario = {
  id: 'S07',
  title: 'a freed DomainID is handed to another VM',
  story:
    'A guest moves its device from one DomainID to another. The host ID behind the old one is free again, and the next VM gets it.',
  machine: twoVms,
  setup: [
    { do: 'guest-domain', vm: 'VM1', domain: 'A' },
    { do: 'guest-map', vm: 'VM1', domain: 'A', gva: page.x, gpa: page.a },
    { do: 'guest-domain', vm: 'VM1', domain: 'B' },
    { do: 'guest-map', vm: 'VM1', domain: 'B', gva: page.x, gpa: page.b },
    { do: 'guest-attach', vm: 'VM1', device: 'D1', domain: 'A' },
    { do: 'guest-domain', vm: 'VM2', domain: 'C' },
    { do: 'guest-map', vm: 'VM2', domain: 'C', gva: page.x, gpa: page.c },
  ],
  run: [
    { do: 'dma', device: 'D1', gva: page.x, write: false },
    { do: 'guest-replace', vm: 'VM1', device: 'D1', domain: 'B' },
    { do: 'guest-attach', vm: 'VM2', device: 'D2', domain: 'C' },
    { do: 'dma', device: 'D2', gva: page.x, write: false },
    { do: 'dma', device: 'D1', gva: page.x, write: false },
  ],
}
