/**
 * Whole machines, what is done to them, and the built-in scenarios.
 *
 * @packageDocumentation
 */
export { findScenario, scenarios } from './built-in/all.js'
export type { RingCommand } from './command-ring-view.js'
export { hostOwnedCost, nestedCost } from './cost/cost.js'
export { hostOwnedFormula, nestedFormula } from './cost/formula.js'
export type { HostOwnedCost, NestedCost } from './cost/formula.js'
export { checkSetting, workedExample } from './cost/setting.js'
export type { CostSetting } from './cost/setting.js'
export { isSameAnswer } from './fresh-view.js'
export type { Answer } from './fresh-view.js'
export { isEnabled, readGuestEntry } from './guest-view.js'
export { Machine } from './machine.js'
export type { MachineOptions } from './machine.js'
export type { DmaEvent, MachineEvent } from './machine-event.js'
export { RefusedError } from './must.js'
export type { Action, DeviceSpec, MachineSpec, Scenario, VmSpec } from './spec.js'
export { VirtualMachine } from './virtual-machine.js'
