/**
 * The IVRS ACPI table: read, written, checked, and what its device entries mean.
 *
 * @packageDocumentation
 */
export {
  deviceSettingBits,
  deviceSettingsLayout,
  ivhdAttributesLayout,
  ivhdFeaturesLayout,
  ivhdFlagsLayout,
  ivhdInfoLayout,
  ivInfoLayout,
  ivmdFlagsLayout,
} from './bit-fields.js'
export type {
  DeviceSettingBits,
  IvhdAttributes,
  IvhdFeatures,
  IvhdFlags,
  IvhdInfo,
  IvInfo,
  IvmdFlags,
} from './bit-fields.js'
export { decodeIvrs } from './decode.js'
export { specialVariety, uidFormat } from './device-entry.js'
export type {
  AcpiHidEntry,
  AliasEntry,
  DeviceEntry,
  ExtendedEntry,
  PadEntry,
  PlainEntry,
  SpecialEntry,
  UnknownEntry,
} from './device-entry.js'
export { devicesOf } from './devices-of.js'
export type { DeviceRange, DeviceSettings, EntryOverlap, IvhdDevices, SpecialDevice } from './devices-of.js'
export { encodeIvrs } from './encode.js'
export { ivrsRules } from './finding.js'
export type { IvrsFinding, IvrsPlace, IvrsRule } from './finding.js'
export { IvrsError } from './ivrs-error.js'
export { ivhdsInUse } from './ivrs.js'
export type { Ivhd, Ivhd10, Ivhd11, Ivmd, Ivrs, IvrsBlock, UnknownBlock } from './ivrs.js'
export { lintIvrs } from './lint.js'
