/**
 * What Linux 7.3 leaves undone or does wrongly about nesting and DomainIDs, each by itself.
 *
 * An open gap makes the driver do as Linux 7.3 does; a policy without gaps does what is right. Read from the sources of
 * drivers/iommu/amd (iommu.c, nested.c, iommufd.c, init.c) and drivers/iommu/iommufd.
 *
 * @packageDocumentation
 */

/** Each gap in one line. There is no gap U1 here: without any invalidation for guests nothing could run. */
export const gaps = {
  U2: 'a DomainID of a nested domain goes back to the allocator without a flush',
  U3: 'a nested attach is not recorded: neither the device nor its IOMMU joins the lists of the parent',
  U4: 'a flush of a table waits only for IOMMUs on the list of the table',
  U5: 'a nested attach leaves ATS off, and a flush reaches the device TLBs of listed devices only',
  U6: 'an attach to the domain that is recorded does nothing, though a nested entry is in force',
  U7: 'growth of the parent gives listed devices an entry without the guest’s tables',
  U8: 'growth of the parent leaves the entries of devices that are not listed as they were',
  U9: 'dirty tracking is switched for listed devices only',
  U10: 'a device TLB filled through guest tables is flushed by guest physical range, or by a PASID that it did not use',
  U11: 'after a reset the nested entry is put back, and nothing else: no list, no ATS',
  U12: 'a nested attach leaves the device on the lists of the paging domain that it was on',
  U13: 'a page request of a nested device is not delivered, and its answer has GN of the host’s domain',
  U14: 'a vIOMMU may own as many DomainIDs as there are',
  U15: 'a device with PASIDs enabled is refused nesting, though its PASIDs would be the guest’s',
  U16: 'the members of a group must be on one domain',
  U17: 'each device has GCR3 tables and a DomainID of its own, whatever is in the tables',
  U18: 'a full flush without INVALIDATE_IOMMU_ALL walks the IDs 0 to the last DeviceID',
  U19: 'a change of the guest paging level goes through V=0, which lets requests pass untranslated',
  U20: 'a nested domain may be attached to a device behind another IOMMU than its vIOMMU’s',
} as const

export type Gap = keyof typeof gaps

export const noGaps: ReadonlySet<Gap> = new Set()

/** Linux 7.3, with the operations wired that it holds back. */
export const allGaps: ReadonlySet<Gap> = new Set(Object.keys(gaps) as Gap[])

/** All gaps but some: what a patch that closes these would leave. */
export const allGapsBut = (...closed: readonly Gap[]): ReadonlySet<Gap> =>
  new Set([...allGaps].filter((gap) => !closed.includes(gap)))
