/**
 * S01, the founding example: two devices of one group, two DomainIDs of the guest, two GCR3 tables, one address.
 *
 * Suravee Suthikulpanit, 11 Dec 2023, "Re: [PATCH v6 0/6] iommufd: Add nesting infrastructure (part 2/2)".
 *
 * @packageDocumentation
 */
import type { Scenario } from '../spec.js'
import { page, sharedGroup } from './parts.js'

export const s01: Scenario = {
  id: 'S01',
  title: 'one group, two guest domains',
  story:
    'Two devices share a host group. The guest gives each a DomainID and tables of its own; both map the same address, to different pages.',
  machine: sharedGroup,
  setup: [
    { do: 'guest-domain', vm: 'VM1', domain: 'A' },
    { do: 'guest-map', vm: 'VM1', domain: 'A', gva: page.x, gpa: page.a },
    { do: 'guest-domain', vm: 'VM1', domain: 'B' },
    { do: 'guest-map', vm: 'VM1', domain: 'B', gva: page.x, gpa: page.b },
    { do: 'guest-attach', vm: 'VM1', device: 'D1', domain: 'A' },
    { do: 'guest-attach', vm: 'VM1', device: 'D2', domain: 'B' },
  ],
  run: [
    { do: 'dma', device: 'D1', gva: page.x, write: false },
    { do: 'dma', device: 'D2', gva: page.x, write: false },
  ],
}
