import { describe, expect, test } from 'vitest'
import { arena, control, patternOf, tagOf } from '../src/differential/arena.js'
import { runCampaign } from '../src/differential/campaign.js'
import type { DifferentialCase } from '../src/differential/differential-case.js'
import { generateCase } from '../src/differential/generate/generate.js'
import { Laboratory } from '../src/differential/laboratory.js'
import type { ChipMaker, Peer } from '../src/differential/laboratory.js'
import type { Observation } from '../src/differential/observation.js'
import type { DmaOperation, Machine } from '../src/differential/operations.js'
import { OurMachine } from '../src/differential/our-machine.js'
import type { DmaAnswer } from '../src/differential/our-machine.js'
import { Safety } from '../src/differential/safety.js'
import { judge } from '../src/differential/verdict.js'
import type { Verdict } from '../src/differential/verdict.js'
import { InteropError } from '../src/index.js'
import { caseOf, dma, leafAddress, onePath, translatingEntry } from './differential-cases.js'
import { KnownPeer } from './known-peer.js'

const partiesOf = (verdict: Verdict): string =>
  verdict.kind === 'difference' ? verdict.between : `${verdict.kind}: ${[...verdict.departures].join(' ')}`

const judged = async (testCase: DifferentialCase, makeChip?: ChipMaker): Promise<string> =>
  partiesOf(await new Laboratory(new KnownPeer(), makeChip).run(testCase))

/** Our chip, but for one answer or one reading that is changed. */
class SpoiltMachine implements Machine {
  readonly answers: readonly DmaAnswer[]

  constructor(
    private readonly chip: OurMachine,
    private readonly spoil: Partial<Pick<Machine, 'dma' | 'readRegister' | 'writeRegister'>>,
  ) {
    this.answers = chip.answers
  }

  store(address: bigint, value: bigint): void {
    this.chip.store(address, value)
  }

  writeRegister(offset: number, bytes: 4 | 8, value: bigint): void {
    if (this.spoil.writeRegister === undefined) this.chip.writeRegister(offset, bytes, value)
    else this.spoil.writeRegister(offset, bytes, value)
  }

  readRegister(offset: number): bigint {
    return this.spoil.readRegister?.(offset) ?? this.chip.readRegister(offset)
  }

  dma(operation: DmaOperation): void {
    if (this.spoil.dma === undefined) this.chip.dma(operation)
    else this.spoil.dma(operation)
  }
}

/** A chip whose DMA goes to another address than it was asked for. */
const astray =
  (shift: bigint): ChipMaker =>
  (image) => {
    const chip = new OurMachine(image)
    return new SpoiltMachine(chip, {
      dma: (operation) => {
        chip.dma({ ...operation, iova: operation.iova ^ shift })
      },
    })
  }

describe('a case that both do alike', () => {
  test('is the same', async () => {
    expect(await judged(caseOf([dma(0x8n, false), dma(0x10n, true)]))).toBe('same: ')
  })

  test('shows what was read, and what was written where', async () => {
    const testCase = caseOf([dma(0x8n, false), dma(0x10n, true)])
    let seen: readonly number[] = []
    const peer = new KnownPeer((memory) => {
      seen = [memory.readUInt32LE(arena.dump), memory.readUInt32LE(arena.targets + 0x10)]
    })
    await new Laboratory(peer).run(testCase)
    expect(seen).toEqual([tagOf(arena.targets + 8), patternOf(0, 1, 0)])
  })
})

describe('an agreed difference', () => {
  test('is told by its name: two events for eight bytes', async () => {
    const testCase = caseOf([dma(0x20_0000n, true, 8)])
    expect(await judged(testCase)).toBe('agreed: event-for-each-word event-operands')
  })

  test('is told by its name: rights of a directory', async () => {
    const tables = onePath.map(([address, value], n): readonly [bigint, bigint] => [
      address,
      n === 0 ? value & ~(1n << 62n) : value,
    ])
    expect(await judged(caseOf([dma(0n, true)], { tables }))).toBe('agreed: rights-of-last-entry')
  })

  test('is told by its name: of two writes to one word, the one that only QEMU lets through', async () => {
    const silent = control.iommuEn | control.cmdBufEn
    const tables = onePath.map(([address, value], n): readonly [bigint, bigint] => [
      address,
      n === 0 ? (value & ~0xe00n & ~0xf_ffff_ffff_f000n) | 0x200n | BigInt(arena.tables + 0x2000) : value,
    ])
    const testCase = caseOf([dma(0n, true), dma(0x20_0000n, true)], { tables, control: silent })
    expect(await judged(testCase)).toBe('agreed: skipped-bits-unchecked')
  })

  test('is told by its name: EventLogInt', async () => {
    const quiet = control.iommuEn | control.cmdBufEn | control.eventLogEn
    const testCase = caseOf([dma(0x20_0000n, true)], { control: quiet })
    expect(await judged(testCase)).toBe('agreed: log-status-by-interrupt event-operands')
  })

  test('is told by its name: an answer that both old and new tables may give', async () => {
    const edit = { kind: 'store', address: leafAddress, value: 0n } as const
    const all = { kind: 'commands', commands: [[0x3000_0001_0000_0000n, 0x7fff_ffff_ffff_f007n]] } as const
    // GN=1 leaves host translations alone; QEMU drops the domain's all the same.
    expect(await judged(caseOf([dma(0n, false), edit, all, dma(0n, false)]))).toBe('agreed: not-invalidated')
  })
})

describe('a wrong answer of our chip', () => {
  test('is a difference where QEMU is right: an address', async () => {
    expect(await judged(caseOf([dma(0x8n, false)]), astray(0x10n))).toBe('our chip and the manual')
    expect(await judged(caseOf([dma(0x8n, true)]), astray(0x10n))).toBe('our chip and the manual')
  })

  test('is a difference where QEMU is right: allowed for refused, refused for allowed', async () => {
    const chip = astray(0x20_0000n)
    expect(await judged(caseOf([dma(0x20_0000n, true)]), chip)).toBe('our chip and the manual')
    expect(await judged(caseOf([dma(0n, true)]), chip)).toBe('our chip and the manual')
  })

  test('is a difference where QEMU is right: a register', async () => {
    const headless: ChipMaker = (image) =>
      new SpoiltMachine(new OurMachine(image), {
        readRegister: (offset) => (offset === 0x2000 ? 0n : undefined) as bigint,
      })
    expect(await judged(caseOf([dma(0n, true)]), headless)).toBe('our chip and the manual')
  })

  test('is a difference where QEMU is right: commands that are not carried out', async () => {
    const deaf: ChipMaker = (image) => {
      const chip = new OurMachine(image)
      return new SpoiltMachine(chip, {
        writeRegister: (offset, bytes, value) => {
          if (offset !== 0x2008) chip.writeRegister(offset, bytes, value)
        },
      })
    }
    const wait = {
      kind: 'commands',
      commands: [[0x1000_0000_0000_0001n | BigInt(arena.stores), 5n]],
    } as const
    expect(await judged(caseOf([wait]), deaf)).toBe('our chip and the manual')
  })

  test('is not taken for a known weakness of QEMU’s in the same request', async () => {
    // Reserved bits of the leaf refuse, and QEMU does not look at them. A chip that goes elsewhere is wrong in its own way.
    const tables = onePath.map(([address, value], n): readonly [bigint, bigint] => [
      address,
      n === 2 ? value | (1n << 52n) : value,
    ])
    const testCase = caseOf([dma(0n, true)], {
      tables: [...tables, [leafAddress + 8n, onePath[2]?.[1] ?? 0n]],
    })
    expect(await judged(testCase)).toBe('agreed: reserved-entry-bits')
    expect(await judged(testCase, astray(0x1000n))).toBe('our chip and the manual')
  })

  test('is a difference even where it is just what QEMU does', async () => {
    // TV=0: QEMU refuses without an event.
    const testCase = caseOf([dma(0n, true)], { entry: translatingEntry & ~2n })
    expect(await judged(testCase)).toBe('agreed: tv-0-silent')
    const silent: ChipMaker = (image) => {
      const chip = new OurMachine(image)
      return new SpoiltMachine(chip, { dma: () => undefined })
    }
    expect(await judged(testCase, silent)).toBe('our chip and the manual')
  })

  test('is found by random cases, whatever QEMU makes of them', async () => {
    const laboratory = new Laboratory(new KnownPeer(), astray(0x1000n))
    const safety = new Safety()
    let found = 0
    for (let n = 0; n < 30; n++) {
      const verdict = await laboratory.run(safety.made(generateCase(5, n)))
      if (partiesOf(verdict) === 'our chip and the manual') found++
    }
    expect(found).toBeGreaterThan(15)
  })
})

describe('a QEMU that does more than it is known for', () => {
  const testCase = caseOf([dma(0x20_0000n, true)])

  test('is a difference: an event’s operand', async () => {
    const peer = new KnownPeer((memory) => {
      memory.writeUInt32LE(1, arena.events + 8)
    })
    expect(partiesOf(await new Laboratory(peer).run(testCase))).toBe('QEMU and what is known of it')
  })

  test('is a difference: a word anywhere in memory', async () => {
    const peer = new KnownPeer((memory) => {
      memory.writeUInt32LE(1, arena.targets + 0x1234_0)
    })
    expect(partiesOf(await new Laboratory(peer).run(testCase))).toBe('QEMU and what is known of it')
  })

  test('is a difference: a register', async () => {
    const peer = new KnownPeer((_, readings) => {
      readings[1] = 0x30n
    })
    expect(partiesOf(await new Laboratory(peer).run(testCase))).toBe('QEMU and what is known of it')
  })
})

test('a difference without a name is not agreed, though all do what they are expected to', () => {
  const testCase = caseOf([dma(0n, false)])
  const steps = (tail: bigint): Observation => ({
    steps: testCase.steps.map(() => ({
      commandHead: 0n,
      eventTail: tail,
      status: 0n,
      readBack: undefined,
      events: [],
    })),
    words: new Map(),
  })
  const said = { ours: steps(0n), manual: steps(0n), qemu: steps(16n), known: steps(16n) }
  expect(partiesOf(judge(testCase, { ...said, departures: [] }))).toBe('our chip and QEMU')
  const departures = [new Set(['tv-0-silent' as const])]
  expect(partiesOf(judge(testCase, { ...said, departures }))).toBe('agreed: tv-0-silent')
})

test('random cases of a QEMU as it is known have no difference', async () => {
  const result = await runCampaign(new Laboratory(new KnownPeer()), { cases: 60, seed: 3 })
  expect(result.failed).toBe(0)
  expect(result.same).toBeGreaterThan(0)
  expect(result.agreed).toBeGreaterThan(0)
  expect(result.requests).toBeGreaterThan(100)
})

test('a QEMU that fails is told of with the case', async () => {
  const peer: Peer = {
    run: () => Promise.reject(new InteropError('QEMU ended with 6: see')),
    restore: () => undefined,
  }
  const campaign = runCampaign(new Laboratory(peer), { cases: 2, seed: 3 })
  await expect(campaign).rejects.toThrow(new InteropError('at seed 3, case 0: QEMU ended with 6: see'))
})

test('what reaches tables, rings or QEMU’s devices is left out, and nothing else', () => {
  const safety = new Safety()
  const passing = { entry: 0n }
  const reaching = [
    dma(BigInt(arena.tables), true),
    dma(BigInt(arena.events), false),
    dma(0xe000_0000n, true),
    dma(0xfee0_0000n, false),
    dma(0xfd_1234_5000n, false),
    dma(0xb8000n, true),
  ]
  const harmless = [
    dma(BigInt(arena.tables), false),
    dma(BigInt(arena.targets), true),
    dma(0x3000_0000n, true),
  ]
  const testCase = caseOf([...reaching, ...harmless], passing)
  expect(safety.isSafe(testCase)).toBe(false)
  expect(safety.made(testCase).steps.slice(1)).toEqual(harmless)
  expect(safety.isSafe(caseOf(harmless, passing))).toBe(true)
  expect(safety.isSafe(safety.made(generateCase(1, 1)))).toBe(true)
})
