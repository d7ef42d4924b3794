/**
 * Where a case is put to all four: our chip, QEMU, the manual as read here, and QEMU as it is known.
 *
 * @packageDocumentation
 */
import { background, pageBytes, ramBytes } from './arena.js'
import type { Departure } from './departures.js'
import type { DifferentialCase } from './differential-case.js'
import { MemoryImage } from './memory-image.js'
import { observe } from './observation.js'
import type { Observation } from './observation.js'
import { operationsOf, startOf } from './operations.js'
import type { Machine, Operation } from './operations.js'
import { OurMachine, showUnread } from './our-machine.js'
import type { DmaAnswer } from './our-machine.js'
import { KnownQemu } from './reading/known-qemu.js'
import { ManualMachine } from './reading/manual-machine.js'
import { judge } from './verdict.js'
import type { Verdict } from './verdict.js'

/** QEMU, or what stands for it in a test. */
export interface Peer {
  /** @param before - memory with the case in it */
  run(
    testCase: DifferentialCase,
    before: MemoryImage,
  ): Promise<{ readonly readings: readonly bigint[]; readonly memory: Buffer }>
  /** Takes memory back to the background. @param pages - those that may have changed */
  restore(pages: Iterable<number>): void
}

/** A chip to be checked. */
export type ChipMaker = (image: MemoryImage) => Machine & { readonly answers: readonly DmaAnswer[] }

/** See the file's comment. */
export class Laboratory {
  /** DMA requests put to the chips so far. */
  requests = 0
  private readonly background = background()
  private readonly before = new MemoryImage(this.background)
  private readonly image = new MemoryImage(this.background)
  private readonly manualImage = new MemoryImage(this.background)
  private readonly knownImage = new MemoryImage(this.background)

  /** @param makeChip - the chip that is checked against QEMU and the manual */
  constructor(
    private readonly peer: Peer,
    private readonly makeChip: ChipMaker = (image) => new OurMachine(image),
  ) {}

  async run(testCase: DifferentialCase): Promise<Verdict> {
    const { before, image, manualImage, knownImage } = this
    for (const each of [before, image, manualImage, knownImage]) each.restore()
    for (const [address, value] of testCase.memory) before.store64(address, value)
    const answered = this.peer.run(testCase, before)
    // Ours work while QEMU does.
    const chip = this.makeChip(image)
    const ours = this.observed(testCase, chip, image)
    const manualMachine = new ManualMachine(manualImage, chip.answers)
    const manual = this.observed(testCase, manualMachine, manualImage)
    const knownMachine = new KnownQemu(knownImage, testCase.passing)
    const known = this.observed(testCase, knownMachine, knownImage, () => {
      knownMachine.nextStep()
    })
    const { readings, memory } = await answered
    const pages = new Set([...this.pagesChanged(memory), ...before.changedPages])
    const qemu = observe(testCase, readings, { after: memory, before: before.bytes, pages })
    this.peer.restore(pages)
    this.requests += chip.answers.length
    const departures = withChoices(testCase, knownMachine.noted, manualMachine.choices)
    return judge(testCase, { ours, qemu, manual, known, departures })
  }

  private observed(
    testCase: DifferentialCase,
    machine: Machine,
    image: MemoryImage,
    beforeStep: () => void = () => undefined,
  ): Observation {
    const readings = carryOut(testCase, machine, image, beforeStep)
    return observe(testCase, readings, {
      after: image.bytes,
      before: this.before.bytes,
      pages: image.changedPages,
    })
  }

  private pagesChanged(memory: Buffer): number[] {
    const stretch = 64 * pageBytes
    const pages: number[] = []
    for (let at = 0; at < ramBytes; at += stretch) {
      if (isSame(memory, this.before.bytes, at, stretch)) continue
      for (let page = at; page < at + stretch; page += pageBytes) {
        if (!isSame(memory, this.before.bytes, page, pageBytes)) pages.push(page / pageBytes)
      }
    }
    return pages
  }
}

const isSame = (one: Buffer, other: Buffer, at: number, bytes: number): boolean =>
  one.compare(other, at, at + bytes, at, at + bytes) === 0

/** Puts a case to a machine; what was read, in order. */
export function carryOut(
  testCase: DifferentialCase,
  machine: Machine,
  image: MemoryImage,
  beforeStep: () => void,
): bigint[] {
  const readings: bigint[] = []
  const perform = (operation: Operation): void => {
    switch (operation.kind) {
      case 'store':
        machine.store(operation.address, operation.value)
        break
      case 'write':
        machine.writeRegister(operation.offset, operation.bytes, operation.value)
        break
      case 'read':
        readings.push(machine.readRegister(operation.offset))
        break
      case 'dma':
        machine.dma(operation)
        break
    }
  }
  showUnread(image)
  startOf(testCase).forEach(perform)
  for (const step of operationsOf(testCase)) {
    beforeStep()
    step.forEach(perform)
  }
  return readings
}

/** Steps in which the manual leaves a choice count as departures too. */
function withChoices(
  testCase: DifferentialCase,
  noted: readonly ReadonlySet<Departure>[],
  choices: ReadonlyMap<number, Departure>,
): ReadonlySet<Departure>[] {
  let request = 0
  const perStep = testCase.steps.map((step) => (step.kind === 'dma' ? choices.get(request++) : undefined))
  return noted.map((departures, n) => {
    const choice = perStep[n - 1]
    return choice === undefined ? departures : new Set([...departures, choice])
  })
}
