/**
 * What a VMM hands over for its guest, as driver data: the guest's device table entry, and its commands.
 *
 * @packageDocumentation
 */
import { readStruct, writeStruct } from '@nestwalk/bits'
import type { FeatureRegisters } from '@nestwalk/hardware'
import type { UserData, UserDataArray } from '../backend.js'
import { driverData, driverDataArray } from '../user-data.js'
import {
  amdCommandLayout,
  amdGuestDataType,
  amdGuestLayout,
  amdHwInfoLayout,
  amdInvalidationType,
} from './abi.js'

/** A guest's device table entry, four quad-words, lowest first: for HWPT_ALLOC on a vIOMMU. */
export const guestEntryData = (entry: readonly bigint[]): UserData =>
  driverData(amdGuestDataType, writeStruct(amdGuestLayout, { dte: BigUint64Array.from(entry) }))

/** Guest commands, two quad-words each: for HWPT_INVALIDATE on a vIOMMU (extension). */
export const guestCommandArray = (commands: readonly (readonly [bigint, bigint])[]): UserDataArray =>
  driverDataArray(
    amdInvalidationType,
    commands.map((words) => writeStruct(amdCommandLayout, { words: BigUint64Array.from(words) })),
  )

/** The feature registers in what GET_HW_INFO tells. */
export const featuresOfHwInfo = (bytes: Uint8Array): FeatureRegisters => readStruct(amdHwInfoLayout, bytes)
