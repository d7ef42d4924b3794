/**
 * Linux `/dev/iommu` over a modelled IOMMU: objects, calls, errnos, lifetimes, and the binary interface.
 *
 * @packageDocumentation
 */
export { amdEventQueueType, amdHwInfoType, amdViommuType } from './amd/abi.js'
export { AmdBackend } from './amd/amd-backend.js'
export type { AmdBackendOptions } from './amd/amd-backend.js'
export { featuresOfHwInfo, guestCommandArray, guestEntryData } from './amd/guest-structures.js'
export * from './abi/structs.js'
export { Context } from './context.js'
export type { AccountingMode } from './context.js'
export { Iommufd } from './iommufd.js'
export type { IommufdOptions } from './iommufd.js'
export type { GroupRule } from './kernel-state.js'
export { amdMachine, firstProgramAddress } from './file/amd-kernel.js'
export { deviceDmaCommand, deviceDmaLayout } from './file/device-dma.js'
export type { AmdKernelDevice, AmdKernelOptions, AmdMachine } from './file/amd-kernel.js'
export { Kernel } from './file/kernel.js'
export { mockKernel } from './file/mock-kernel.js'
export type { KernelOptions } from './file/kernel.js'
export type { HwptRequest } from './hwpt/allocate.js'
export type { DirtyRequest } from './hwpt/dirty-bitmap.js'
export { hwptFlags } from './hwpt/hwpt-flags.js'
export { mapFlags } from './ioas/map.js'
export type { CopyRequest, MappedMemory, MapRequest } from './ioas/map.js'
export type {
  AccessObject,
  BoundDevice,
  FaultObject,
  Hwpt,
  HwQueue,
  Ioas,
  IommufdObject,
  NestedHwpt,
  ObjectId,
  ObjectKind,
  PagingHwpt,
  Selftest,
  Vdevice,
  Veventq,
  Viommu,
} from './object/object.js'
export { accept, errnoNumbers, refuse } from './outcome.js'
export type { Accepted, Errno, Outcome, Refusal } from './outcome.js'
export type {
  FileResult,
  IoctlCall,
  MmapRequest,
  MmapResult,
  NewFile,
  OpenableKernel,
  OpenFile,
} from './open-file.js'
export { SimulatedFile, SimulatedHost, SimulatedMemory, SimulatedProcess } from './simulated-process.js'
export type { MapOptions, ProcessOptions } from './simulated-process.js'
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
export { physicalMemory } from './page-source.js'
export { eventHeaderStruct } from './queue/event-queue.js'
export { pageFaultStruct, pageResponseStruct } from './queue/fault-queue.js'
export { callNames, parseCall, parseErrno, rulesFor } from './rules/explain.js'
export type { NamedRule } from './rules/explain.js'
export { rules } from './rules/rules.js'
export type { RuleName } from './rules/rules.js'
export type { CallName, Rule } from './rules/rule.js'
export { driverData, driverDataArray } from './user-data.js'
export type { ViommuAllocation } from './viommu/allocate.js'
export type { HwQueueAllocation } from './viommu/hw-queue.js'
export type {
  AddressRange,
  BackendDevice,
  IommuBackend,
  PageFault,
  Region,
  UserData,
  UserDataArray,
} from './backend.js'
export type { Effect, GuestInvalidation } from '@nestwalk/driver'
