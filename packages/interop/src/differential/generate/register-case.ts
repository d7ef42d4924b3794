/**
 * A random case about registers alone: with the IOMMU off, everything may be written.
 *
 * @packageDocumentation
 */
import { arena, control, register } from '../arena.js'
import type { DifferentialCase, Step } from '../differential-case.js'
import type { SeededRandom } from '../seeded-random.js'

const storedRegisters = [
  register.deviceTable,
  register.commandBase,
  register.eventBase,
  register.control,
  register.exclusionBase,
  register.exclusionLimit,
  register.efr,
  register.pprBase,
  register.commandHead,
  register.commandTail,
  register.eventHead,
  register.eventTail,
  register.status,
  register.pprHead,
  register.pprTail,
] as const

export function registerCase(random: SeededRandom, origin: string): DifferentialCase {
  const steps = Array.from({ length: 4 + random.below(12) }, (): Step => registerStep(random))
  return {
    origin,
    passing: false,
    deviceTable: BigInt(arena.deviceTables),
    commandBase: BigInt(arena.commands) | (8n << 56n),
    eventBase: BigInt(arena.events) | (8n << 56n),
    exclusionBase: 0n,
    exclusionLimit: 0n,
    control: 0n,
    commandStart: 0,
    eventHead: 0,
    eventTail: 0,
    memory: [],
    steps,
  }
}

/** A write of a whole register or of one half. The IOMMU stays off. */
function registerStep(random: SeededRandom): Step {
  const offset = random.pick(storedRegisters)
  const isWhole = random.percent(60)
  const isUpper = !isWhole && random.percent(50)
  const all = isWhole ? random.bits(64) : random.bits(32)
  const keepsOff = offset === register.control && !isUpper ? all & ~control.iommuEn : all
  return {
    kind: 'register',
    offset: offset + (isUpper ? 4 : 0),
    bytes: isWhole ? 8 : 4,
    value: keepsOff,
  }
}
