/**
 * S: the DomainID belongs to the host (stage 2) table and is used wherever that is attached. Right for domains without
 * guest tables (requirement R2), and what Arm does with its VMID, which has a second tag of the guest beside it.
 *
 * @packageDocumentation
 */
import type { DomainIdPolicy } from '../policy.js'

export const perHostTable: DomainIdPolicy = {
  letter: 'S',
  name: 'per-host-table',
  summary: 'one DomainID for each host table, whatever guest tables are on top',
  keyOfDomain: ({ table }) => `table ${table}`,
  keyOfAttachment: (_device, { table }) => `table ${table}`,
  keyOfGcr3Table: ({ table }) => `table ${table}`,
  guestInvalidation: 'first',
}
