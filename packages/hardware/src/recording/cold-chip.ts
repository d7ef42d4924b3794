/**
 * The chip as a snapshot describes it, asked each request from cold caches and untouched memory.
 *
 * @packageDocumentation
 */
import type { FeatureRegisters } from '../features.js'
import { nestingFeatures } from '../features.js'
import { Iommu } from '../iommu.js'
import { decodeDte, dteWordCount } from '../layout/dte.js'
import { load64 } from '../memory/memory.js'
import type { SparseMemory } from '../memory/sparse-memory.js'
import { mmio } from '../mmio.js'
import type { SwitchChoices } from '../switches.js'
import type { Request, Translation } from '../translation.js'
import type { EventWords, StoredWord } from './query.js'
import { RecordedMemory } from './recorded-memory.js'
import type { Snapshot } from './snapshot.js'

/**
 * Features of a chip whose recording names none.
 *
 * Those recordings are of QEMU's amd-iommu, which offers fewer features than these: six-level host tables, guest
 * tables, prefetch, page requests, invalidate-all, guest APIC. A driver leaves alone what it is not offered, so in
 * its tables and in the control register all that a further feature would give a meaning to is zero, and the answers
 * are the same.
 */
const featuresNotRecorded: FeatureRegisters = nestingFeatures

/** Registers that decide translations, in the order in which a driver writes them: control comes last. */
const writtenRegisters = [
  mmio.deviceTableBase,
  ...[0x100, 0x108, 0x110, 0x118, 0x120, 0x128, 0x130],
  mmio.commandBase,
  mmio.eventBase,
  mmio.control,
]

const dteBytes = dteWordCount * 8
const tableAddressMask = 0xffffffffff000n

/** What became of one request. */
export interface ColdAnswer {
  readonly translation: Translation
  /** The event: as it stands in the log in memory, or, without a log, as the chip gave it. Null: none, or suppressed. */
  readonly event: EventWords | null
  /** Words of the recorded pages that are not what they were, by address. Costs a look at every page. */
  changedWords(): StoredWord[]
}

/** See the file's comment. */
export class ColdChip {
  /** Requests asked so far. */
  requests = 0
  /** Whether events go to a log in memory: only then can it be seen that one is suppressed. */
  readonly hasEventLog: boolean
  private readonly chip: Iommu
  private readonly memory: SparseMemory

  constructor(
    private readonly snapshot: Snapshot,
    switches: Partial<SwitchChoices>,
    private readonly recorded = new RecordedMemory(snapshot),
  ) {
    this.memory = recorded.fork()
    this.chip = Iommu.create({
      memory: this.memory,
      features: snapshot.features ?? featuresNotRecorded,
      switches,
    })
    for (const offset of writtenRegisters) {
      const value = snapshot.registers.get(offset)
      if (value !== undefined) this.chip.writeMmio(offset, 8, value)
    }
    this.hasEventLog = this.firstEventAt() !== undefined
  }

  /** Asks one request of a fork that is thrown away afterwards. */
  ask(request: Request): ColdAnswer {
    this.requests += 1
    const memory = this.memory.fork()
    const translation = this.chip.forkOnto(memory).request(request)
    return {
      translation,
      event: this.eventOf(translation, memory),
      changedWords: () => this.recorded.changedWords(memory),
    }
  }

  /** Whether the device's table entry has GV set. For device tables in one segment, which is all that QEMU has. */
  hasGuestTables(deviceId: number): boolean {
    const table = (this.snapshot.registers.get(mmio.deviceTableBase) ?? 0n) & tableAddressMask
    const entry = table + BigInt(deviceId * dteBytes)
    if (entry >= BigInt(this.snapshot.memoryBytes)) return false
    const words = Array.from(
      { length: dteWordCount },
      (_, i) => load64(this.memory, entry + BigInt(i * 8)) ?? 0n,
    )
    const { valid, guestValid } = decodeDte(BigUint64Array.from(words))
    return valid && guestValid
  }

  private eventOf(translation: Translation, memory: SparseMemory): EventWords | null {
    if (translation.kind !== 'fault') return null
    const at = this.firstEventAt()
    if (at === undefined) return translation.event
    if (!translation.logged) return null
    const low = load64(memory, at)
    const high = load64(memory, at + 8n)
    return low === undefined || high === undefined ? null : [low, high]
  }

  /** Where the first event of the empty log goes; undefined where no log was recorded or it was off. */
  private firstEventAt(): bigint | undefined {
    const base = this.snapshot.registers.get(mmio.eventBase)
    if (base === undefined || (this.chip.readMmio(mmio.status, 8) & logRuns) === 0n) return undefined
    return base & tableAddressMask
  }
}

/** EventLogRun of the status register. */
const logRuns = 1n << 3n
