/**
 * The differential with a QEMU of its own: started, used, ended.
 *
 * @packageDocumentation
 */
import type { QemuBinary } from '../qemu/qemu-binary.js'
import { InteropError } from '../interop-error.js'
import { background } from './arena.js'
import { runCampaign } from './campaign.js'
import type { CampaignOptions, CampaignResult } from './campaign.js'
import type { DifferentialCase } from './differential-case.js'
import { Laboratory } from './laboratory.js'
import { QemuMachine } from './qemu-machine.js'
import { Safety } from './safety.js'
import type { Verdict } from './verdict.js'

export interface DifferentialOptions {
  readonly qemu: QemuBinary
  /** How long QEMU may take to start, and to be silent within a case. */
  readonly timeoutSeconds: number
}

/** Random cases. @throws InteropError if QEMU fails */
export async function runQemuCases(
  options: DifferentialOptions,
  campaign: CampaignOptions,
): Promise<CampaignResult> {
  return await withLaboratory(options, (laboratory) => runCampaign(laboratory, campaign))
}

/** One case. @throws InteropError if QEMU fails, or the case would reach what it must not */
export async function runQemuCase(
  options: DifferentialOptions,
  testCase: DifferentialCase,
): Promise<Verdict> {
  if (!new Safety().isSafe(testCase)) {
    throw new InteropError('the case has DMA to tables, rings or other devices: take those requests out')
  }
  return await withLaboratory(options, (laboratory) => laboratory.run(testCase))
}

async function withLaboratory<Result>(
  { qemu, timeoutSeconds }: DifferentialOptions,
  use: (laboratory: Laboratory) => Promise<Result>,
): Promise<Result> {
  const machine = await QemuMachine.start(qemu, background(), timeoutSeconds)
  try {
    return await use(new Laboratory(machine))
  } finally {
    await machine.end()
  }
}
