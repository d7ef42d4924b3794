/**
 * Linux `/dev/iommu` over the modelled driver: objects, calls, errnos, lifetimes.
 *
 * @packageDocumentation
 */
export { Context } from './context.js'
export type { HwptRequest, MapRequest } from './context.js'
export { Iommufd } from './iommufd.js'
export type { GroupRule, Shared } from './iommufd.js'
export type {
  BoundDevice,
  Ioas,
  IoasArea,
  IommufdObject,
  NestedHwpt,
  ObjectId,
  PagingHwpt,
  Vdevice,
  Viommu,
} from './object.js'
export { reservedRegions } from './reserved-region.js'
export type { ReservedRegion } from './reserved-region.js'
export type { Effect, Errno, GuestInvalidation, Outcome, Refusal } from '@nestwalk/driver'
export { errnoNumbers } from './outcome.js'
export type {
  FileResult,
  IoctlCall,
  MmapRequest,
  MmapResult,
  NewFile,
  OpenableKernel,
  OpenFile,
} from './open-file.js'
export { pageBytes } from './process.js'
export type {
  AddressSpace,
  CallingProcess,
  Capabilities,
  ForeignFile,
  PageSource,
  PhysicalRun,
  PinFailure,
} from './process.js'
export type { Region } from './backend.js'
