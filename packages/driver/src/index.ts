/**
 * What a kernel decides about an AMD IOMMU: domains, device tables, cache tags and invalidations.
 *
 * @packageDocumentation
 */
export {}
