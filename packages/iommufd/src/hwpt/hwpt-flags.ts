/**
 * Flags of HWPT_ALLOC: include/uapi/linux/iommufd.h, `enum iommufd_hwpt_alloc_flags`.
 *
 * @packageDocumentation
 */
export const hwptFlags = {
  nestParent: 1,
  dirtyTracking: 2,
  faultIdValid: 4,
  pasid: 8,
} as const

/** All of them. */
export const allHwptFlags = 15
