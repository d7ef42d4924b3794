/**
 * Real software on both sides of the model.
 *
 * @packageDocumentation
 */
export * from './vfio-user/index.js'
export * from './iommufd-server/index.js'
export * from './differential/index.js'
export { QtestLink } from './qtest/qtest-link.js'
export { QtestMachine } from './qtest/qtest-machine.js'
export type { QtestMachineOptions } from './qtest/qtest-machine.js'
export { InteropError } from './interop-error.js'
export { fetchQemu, ownQemu } from './qemu/fetch-qemu.js'
export type { QemuBinary } from './qemu/qemu-binary.js'
export { fetchKernel, kernelChoices } from './linux/kernel.js'
export type { Kernel, KernelChoice } from './linux/kernel.js'
export { fetchSelftests, selftestNames } from './linux/selftest.js'
export type { Selftests } from './linux/selftest.js'
export { featuresFor, runLinux } from './linux/linux-run.js'
export type { LinuxRun, LinuxRunOptions } from './linux/linux-run.js'
export { readConsoleLine } from './linux/console.js'
export type { ConsoleLine, GuestMapping } from './linux/console.js'
export { CopyEngine, engineMagic, engineRegister, engineStatus } from './machine/copy-engine.js'
export type { CopyEngineParts, EngineWatcher } from './machine/copy-engine.js'
export { GuestRam } from './machine/guest-ram.js'
export { IommuFunction } from './machine/iommu-function.js'
export type { IommuWatcher } from './machine/iommu-function.js'
export { ivrsOf, ServedMachine } from './machine/served-machine.js'
export type { Account, LoggedEvent, ServedMachineOptions } from './machine/served-machine.js'
