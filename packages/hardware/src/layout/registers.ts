/**
 * The MMIO register map.
 *
 * A 64-bit register may be written as two 32-bit halves. Reserved bits read as zero and are to be
 * preserved on writing. Writing the base of a ring clears its head and tail.
 *
 * @packageDocumentation
 */
import type { RecordLayout } from '@nestwalk/bits'
import { controlLayout, statusLayout } from './control.js'
import { counterConfigurationLayout } from './counter-layouts.js'
import { efr2Layout, efrLayout } from './features.js'
import * as layouts from './register-layouts.js'

/** One register: its manual's name, byte offset, width in bits, and the layout of its value. */
export interface MmioRegister {
  readonly name: string
  readonly offset: number
  readonly widthBits: 32 | 64
  readonly layout: RecordLayout
}

const wide = <const L extends RecordLayout>(name: string, offset: number, layout: L) => ({
  name,
  offset,
  widthBits: 64 as const,
  layout,
})

const narrow = <const L extends RecordLayout>(name: string, offset: number, layout: L) => ({
  name,
  offset,
  widthBits: 32 as const,
  layout,
})

/** Every register with an offset of its own, by our name for it. */
export const registers = {
  deviceTableBase: wide('Device Table Base', 0x0000, layouts.deviceTableBaseLayout),
  commandBufferBase: wide('Command Buffer Base', 0x0008, layouts.commandBufferBaseLayout),
  eventLogBase: wide('Event Log Base', 0x0010, layouts.eventLogBaseLayout),
  control: wide('Control', 0x0018, controlLayout),
  exclusionBase: wide('Exclusion Base', 0x0020, layouts.exclusionBaseLayout),
  exclusionLimit: wide('Exclusion Limit', 0x0028, layouts.exclusionLimitLayout),
  efr: wide('Extended Feature', 0x0030, efrLayout),
  pprLogBase: wide('PPR Log Base', 0x0038, layouts.pprLogBaseLayout),
  hardwareEventUpper: wide('Hardware Event Upper', 0x0040, layouts.hardwareEventUpperLayout),
  hardwareEventLower: wide('Hardware Event Lower', 0x0048, layouts.wholeRegisterLayout),
  hardwareEventStatus: wide('Hardware Event Status', 0x0050, layouts.hardwareEventStatusLayout),
  gaLogBase: wide('GA Log Base', 0x00e0, layouts.gaLogBaseLayout),
  gaLogTailAddress: wide('GA Log Tail Address', 0x00e8, layouts.gaLogTailAddressLayout),
  pprLogBBase: wide('PPR Log B Base', 0x00f0, layouts.pprLogBaseLayout),
  eventLogBBase: wide('Event Log B Base', 0x00f8, layouts.eventLogBaseLayout),
  deviceSpecificFeature: wide('Device-Specific Feature', 0x0138, layouts.deviceSpecificLayout),
  deviceSpecificControl: wide('Device-Specific Control', 0x0140, layouts.deviceSpecificLayout),
  deviceSpecificStatus: wide('Device-Specific Status', 0x0148, layouts.deviceSpecificLayout),
  msiVector0: narrow('MSI Vector 0', 0x0150, layouts.wholeRegisterLayout),
  msiVector1: narrow('MSI Vector 1', 0x0154, layouts.wholeRegisterLayout),
  msiCapabilityHeader: narrow('MSI Capability Header', 0x0158, layouts.wholeRegisterLayout),
  msiAddressLow: narrow('MSI Address Low', 0x015c, layouts.wholeRegisterLayout),
  msiAddressHigh: narrow('MSI Address High', 0x0160, layouts.wholeRegisterLayout),
  msiMessage: narrow('MSI Data', 0x0164, layouts.wholeRegisterLayout),
  msiMappingCapability: narrow('MSI Mapping Capability', 0x0168, layouts.wholeRegisterLayout),
  performanceOptimization: narrow(
    'Performance Optimization Control',
    0x016c,
    layouts.performanceOptimizationLayout,
  ),
  x2ApicGeneral: wide('X2APIC Interrupt Control, general', 0x0170, layouts.x2ApicControlLayout),
  x2ApicPpr: wide('X2APIC Interrupt Control, PPR', 0x0178, layouts.x2ApicControlLayout),
  x2ApicGa: wide('X2APIC Interrupt Control, GA', 0x0180, layouts.x2ApicControlLayout),
  viommuStatus: wide('vIOMMU Status', 0x0190, layouts.wholeRegisterLayout),
  efr2: wide('Extended Feature 2', 0x01a0, efr2Layout),
  /** Reads and writes are ignored, but counted. */
  reservedAt1ff8: wide('Reserved', 0x1ff8, layouts.wholeRegisterLayout),
  commandHead: wide('Command Head', 0x2000, layouts.ringPointerLayout),
  commandTail: wide('Command Tail', 0x2008, layouts.ringPointerLayout),
  eventHead: wide('Event Head', 0x2010, layouts.ringPointerLayout),
  eventTail: wide('Event Tail', 0x2018, layouts.ringPointerLayout),
  status: wide('Status', 0x2020, statusLayout),
  pprHead: wide('PPR Head', 0x2030, layouts.ringPointerLayout),
  pprTail: wide('PPR Tail', 0x2038, layouts.ringPointerLayout),
  gaHead: wide('GA Head', 0x2040, layouts.gaLogPointerLayout),
  gaTail: wide('GA Tail', 0x2048, layouts.gaLogPointerLayout),
  pprBHead: wide('PPR B Head', 0x2050, layouts.ringPointerLayout),
  pprBTail: wide('PPR B Tail', 0x2058, layouts.ringPointerLayout),
  eventBHead: wide('Event B Head', 0x2070, layouts.ringPointerLayout),
  eventBTail: wide('Event B Tail', 0x2078, layouts.ringPointerLayout),
  pprAutoResponse: wide('PPR Auto Response', 0x2080, layouts.pprAutoResponseLayout),
  pprOverflowEarly: wide('PPR Overflow Early', 0x2088, layouts.pprOverflowEarlyLayout),
  pprBOverflowEarly: wide('PPR B Overflow Early', 0x2090, layouts.pprOverflowEarlyLayout),
  counterConfiguration: wide('Counter Configuration', 0x4000, counterConfigurationLayout),
  /** The three bank locks have one public source. */
  counterPasidBankLock: wide('Counter PASID Bank Lock', 0x4008, layouts.wholeRegisterLayout),
  counterDomainBankLock: wide('Counter Domain Bank Lock', 0x4010, layouts.wholeRegisterLayout),
  counterDeviceBankLock: wide('Counter DeviceID Bank Lock', 0x4018, layouts.wholeRegisterLayout),
} as const satisfies Record<string, MmioRegister>

export type RegisterName = keyof typeof registers

function checkIndex(what: string, index: number, first: number, last: number): void {
  if (!Number.isInteger(index) || index < first || index > last) {
    throw new RangeError(`there is no ${what} ${index}: they are numbered ${first} to ${last}`)
  }
}

/** Device Table Segment Base 1 to 7. @throws RangeError for another number */
export function deviceTableSegmentBase(segment: number): MmioRegister {
  checkIndex('device table segment base', segment, 1, 7)
  const name = `Device Table Segment ${segment} Base`
  return wide(name, 0x0100 + 8 * (segment - 1), layouts.deviceTableSegmentLayout)
}

/** SMI Filter 0 to 15. @throws RangeError for another number */
export function smiFilter(index: number): MmioRegister {
  checkIndex('SMI filter', index, 0, 15)
  return wide(`SMI Filter ${index}`, 0x0060 + 8 * index, layouts.smiFilterLayout)
}

/** The three registers of MARC 0 to 3. @throws RangeError for another number */
export function marc(index: number): Record<'base' | 'relocation' | 'length', MmioRegister> {
  checkIndex('MARC', index, 0, 3)
  const offset = 0x0200 + 24 * index
  return {
    base: wide(`MARC ${index} Base`, offset, layouts.marcBaseLayout),
    relocation: wide(`MARC ${index} Relocation`, offset + 8, layouts.marcRelocationLayout),
    length: wide(`MARC ${index} Length`, offset + 16, layouts.marcLengthLayout),
  }
}

/** Every register below the counters, in order of offset. */
export const registerMap: readonly MmioRegister[] = [
  ...Object.values(registers),
  ...[1, 2, 3, 4, 5, 6, 7].map(deviceTableSegmentBase),
  ...Array.from({ length: 16 }, (_, index) => smiFilter(index)),
  ...[0, 1, 2, 3].flatMap((index) => Object.values(marc(index))),
].sort((a, b) => a.offset - b.offset)
