/**
 * QEMU's amd-iommu as a second opinion on the chip.
 *
 * @packageDocumentation
 */
export type { CampaignOptions, CampaignResult, FoundDifference } from './campaign.js'
export { readCase, writeCase } from './case-file.js'
export type { Discrepancy } from './compare.js'
export { agreedDifferences, notGenerated } from './departures.js'
export type { AgreedDifference, Departure } from './departures.js'
export { runQemuCase, runQemuCases } from './differential.js'
export type { DifferentialOptions } from './differential.js'
export type { CommandWords, DifferentialCase, DmaStep, Step } from './differential-case.js'
export { agreedLines, differenceLines, notGeneratedLines, summaryLines } from './report.js'
export type { Parties, Verdict } from './verdict.js'
