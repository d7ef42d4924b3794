/**
 * Every layout of this package in one table: what holds for all layouts is tested over it.
 *
 * @packageDocumentation
 */
import type { RecordLayout } from '@nestwalk/bits'
import { commandLayouts } from './command.js'
import { controlLayout, statusLayout } from './control.js'
import * as counterLayouts from './counter-layouts.js'
import { dteLayout } from './dte.js'
import { eventLayouts } from './event-layouts.js'
import { efr2Layout, efrLayout } from './features.js'
import { gaLayout } from './ga.js'
import { gcr3EntryLayout } from './gcr3.js'
import { guestEntryLayout, guestLeaf1GLayout, guestLeaf2MLayout } from './guest-pte.js'
import { hostDirectoryLayout, hostLeafLayout } from './host-pte.js'
import { irte128Layout, irte32Layout, irteGuestLayout } from './irte.js'
import { pprLayout } from './ppr.js'
import * as registerLayouts from './register-layouts.js'

/** The layouts by name: command and event kinds as they are, others after their constant. */
export const allLayouts: Readonly<Record<string, RecordLayout>> = {
  dte: dteLayout,
  hostLeaf: hostLeafLayout,
  hostDirectory: hostDirectoryLayout,
  guestEntry: guestEntryLayout,
  guestLeaf2M: guestLeaf2MLayout,
  guestLeaf1G: guestLeaf1GLayout,
  gcr3Entry: gcr3EntryLayout,
  ...commandLayouts,
  ...eventLayouts,
  ppr: pprLayout,
  ga: gaLayout,
  irte32: irte32Layout,
  irte128: irte128Layout,
  irteGuest: irteGuestLayout,
  efr: efrLayout,
  efr2: efr2Layout,
  control: controlLayout,
  status: statusLayout,
  deviceTableBase: registerLayouts.deviceTableBaseLayout,
  deviceTableSegment: registerLayouts.deviceTableSegmentLayout,
  commandBufferBase: registerLayouts.commandBufferBaseLayout,
  eventLogBase: registerLayouts.eventLogBaseLayout,
  pprLogBase: registerLayouts.pprLogBaseLayout,
  gaLogBase: registerLayouts.gaLogBaseLayout,
  gaLogTailAddress: registerLayouts.gaLogTailAddressLayout,
  exclusionBase: registerLayouts.exclusionBaseLayout,
  exclusionLimit: registerLayouts.exclusionLimitLayout,
  hardwareEventUpper: registerLayouts.hardwareEventUpperLayout,
  hardwareEventStatus: registerLayouts.hardwareEventStatusLayout,
  smiFilter: registerLayouts.smiFilterLayout,
  deviceSpecific: registerLayouts.deviceSpecificLayout,
  performanceOptimization: registerLayouts.performanceOptimizationLayout,
  x2ApicControl: registerLayouts.x2ApicControlLayout,
  marcBase: registerLayouts.marcBaseLayout,
  marcRelocation: registerLayouts.marcRelocationLayout,
  marcLength: registerLayouts.marcLengthLayout,
  ringPointer: registerLayouts.ringPointerLayout,
  gaLogPointer: registerLayouts.gaLogPointerLayout,
  pprAutoResponse: registerLayouts.pprAutoResponseLayout,
  pprOverflowEarly: registerLayouts.pprOverflowEarlyLayout,
  wholeRegister: registerLayouts.wholeRegisterLayout,
  counterConfiguration: counterLayouts.counterConfigurationLayout,
  counter: counterLayouts.counterLayout,
  counterSource: counterLayouts.counterSourceLayout,
  counterMatch: counterLayouts.counterMatchLayout,
  counterReport: counterLayouts.counterReportLayout,
}
