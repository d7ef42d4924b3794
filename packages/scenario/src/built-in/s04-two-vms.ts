/**
 * S04: two VMs whose guests chose the same DomainID.
 *
 * @packageDocumentation
 */
import type { Scenario } from '../spec.js'
import { page, twoVms } from './parts.js'

export const s04: Scenario = {
  id: 'S04',
  title: 'two VMs, the same guest DomainID',
  story: 'Two guests, each with a device of its own, chose the same DomainID and map the same address.',
  machine: twoVms,
  setup: [
    { do: 'guest-domain', vm: 'VM1', domain: 'A' },
    { do: 'guest-map', vm: 'VM1', domain: 'A', gva: page.x, gpa: page.a },
    { do: 'guest-attach', vm: 'VM1', device: 'D1', domain: 'A' },
    { do: 'guest-domain', vm: 'VM2', domain: 'A' },
    { do: 'guest-map', vm: 'VM2', domain: 'A', gva: page.x, gpa: page.b },
    { do: 'guest-attach', vm: 'VM2', device: 'D2', domain: 'A' },
  ],
  run: [
    { do: 'dma', device: 'D1', gva: page.x, write: false },
    { do: 'dma', device: 'D2', gva: page.x, write: false },
  ],
}
