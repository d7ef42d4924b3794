/**
 * Leaving out what would do more than a case is about.
 *
 * DMA that reaches tables, rings, or QEMU's other devices would change what the rest of the case means, or QEMU itself.
 *
 * @packageDocumentation
 */
import { arena, background, ramHole } from './arena.js'
import type { DifferentialCase, DmaStep, Step } from './differential-case.js'
import { carryOut } from './laboratory.js'
import { MemoryImage } from './memory-image.js'
import { KnownQemu } from './reading/known-qemu.js'
import { frameOf } from './reading/entry-bits.js'
import { ManualMachine } from './reading/manual-machine.js'

const hole: readonly [bigint, bigint] = [BigInt(ramHole.start), BigInt(ramHole.end)]

/** What a PC has for other things: video memory and firmware, and devices below 4 GiB. */
const forbidden: readonly (readonly [bigint, bigint])[] = [hole, [0xb000_0000n, 0x1_0000_0000n]]

/** Interrupts, and the HyperTransport hole. */
const specialAddresses: readonly (readonly [bigint, bigint])[] = [
  [0xfee0_0000n, 0xfef0_0000n],
  [0xfd_0000_0000n, 0x100_0000_0000n],
]

/** What only software touches; tables may be read. */
const software: readonly (readonly [bigint, bigint])[] = [[BigInt(arena.commands), BigInt(arena.tables)]]
const tables: readonly (readonly [bigint, bigint])[] = [[BigInt(arena.tables), BigInt(arena.tablesEnd)]]

const isIn = (ranges: readonly (readonly [bigint, bigint])[], address: bigint, bytes: number): boolean =>
  ranges.some(([start, end]) => address + BigInt(bytes) > start && address < end)

/** See the file's comment. */
export class Safety {
  private readonly background = background()
  private readonly manualImage = new MemoryImage(this.background)
  private readonly knownImage = new MemoryImage(this.background)

  /** The case without the requests that are not safe, and without what points to firmware. */
  made(testCase: DifferentialCase): DifferentialCase {
    let made = {
      ...testCase,
      memory: testCase.memory.filter(([, value]) => !namesHole(value)),
      steps: testCase.steps.filter((step) => step.kind !== 'store' || !namesHole(step.value)),
    }
    for (;;) {
      const steps = this.safeSteps(made)
      if (steps.length === made.steps.length) return made
      made = { ...made, steps }
    }
  }

  isSafe(testCase: DifferentialCase): boolean {
    const isBare = testCase.memory.some(([, value]) => namesHole(value))
    const isLater = testCase.steps.some((step) => step.kind === 'store' && namesHole(step.value))
    return !isBare && !isLater && this.safeSteps(testCase).length === testCase.steps.length
  }

  private safeSteps(testCase: DifferentialCase): Step[] {
    const { manualImage, knownImage } = this
    manualImage.restore()
    knownImage.restore()
    const manual = new ManualMachine(manualImage, [])
    const known = new KnownQemu(knownImage, testCase.passing)
    carryOut(testCase, manual, manualImage, () => undefined)
    carryOut(testCase, known, knownImage, () => undefined)
    let request = 0
    return testCase.steps.filter((step) => {
      if (step.kind !== 'dma') return true
      const destinations = [manual.destinations[request], known.destinations[request]]
      request++
      return isSafe(step, destinations)
    })
  }
}

/** Whether a table's address would be where there is firmware, which QEMU can read and nobody else. */
const namesHole = (word: bigint): boolean => isIn([hole], frameOf(word), 1)

function isSafe({ iova, bytes, write }: DmaStep, destinations: readonly (bigint | undefined)[]): boolean {
  if (isIn(specialAddresses, iova, bytes)) return false
  return destinations.every((address) => {
    if (address === undefined) return true
    if (isIn(forbidden, address, bytes) || isIn(software, address, bytes)) return false
    return !(write && isIn(tables, address, bytes))
  })
}
