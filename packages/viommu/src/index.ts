/**
 * The guest's AMD IOMMU, made of iommufd objects.
 *
 * @packageDocumentation
 */
export {}
