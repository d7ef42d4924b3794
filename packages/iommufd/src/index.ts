/**
 * The objects, ioctls and errnos of Linux /dev/iommu over the nestwalk driver.
 *
 * @packageDocumentation
 */
export {}
