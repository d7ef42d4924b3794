/**
 * S03: the guest breaks the rule itself and gives one DomainID to two GCR3 tables. Then a mix-up inside the VM is what
 * bare metal would show too.
 *
 * @packageDocumentation
 */
import type { Scenario } from '../spec.js'
import { page, sharedGroup } from './parts.js'

export const s03: Scenario = {
  id: 'S03',
  title: 'one guest DomainID over two tables: the guest is wrong',
  story:
    'As S01, but the guest gives both domains the same DomainID. Bare metal would mix them up, so the host may; it must not let anything out of the VM.',
  machine: sharedGroup,
  setup: [
    { do: 'guest-domain', vm: 'VM1', domain: 'A' },
    { do: 'guest-map', vm: 'VM1', domain: 'A', gva: page.x, gpa: page.a },
    { do: 'guest-domain', vm: 'VM1', domain: 'B', sameIdAs: 'A' },
    { do: 'guest-map', vm: 'VM1', domain: 'B', gva: page.x, gpa: page.b },
    { do: 'guest-attach', vm: 'VM1', device: 'D1', domain: 'A' },
    { do: 'guest-attach', vm: 'VM1', device: 'D2', domain: 'B' },
  ],
  run: [
    { do: 'dma', device: 'D1', gva: page.x, write: false },
    { do: 'dma', device: 'D2', gva: page.x, write: false },
  ],
}
