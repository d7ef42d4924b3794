import { encode, parseHex, reservedSpans } from '@nestwalk/bits'
import { describe, expect, it } from 'vitest'
import commands from '../vectors/commands.json' with { type: 'json' }
import sizeCodes from '../vectors/size-codes.json' with { type: 'json' }
import { commandLayouts, nestingFeatures } from '../src/index.js'
import type { CommandKind, FeatureRegisters } from '../src/index.js'
import { Chip, controlBit, place, quietControl, register, statusBit } from './chip.js'
import { guestPages, hostPages, mapHost, nestedChip, pagesFrom } from './tables.js'

type Command = readonly [lo: bigint, hi: bigint]

/** PREFETCH_IOMMU_PAGES besides what the default part can do. */
const features = { ...nestingFeatures, efr: nestingFeatures.efr | 1n }
const without = (bit: bigint): FeatureRegisters => ({ ...features, efr: features.efr & ~(1n << bit) })

const interrupt: Command = [0x1000000000000002n, 0n]
const storeMark = (address: bigint, mark: bigint): Command => [0x1000000000000001n | address, mark]
const wordsOf = (words: readonly string[]): Command => [parseHex(words[0] ?? ''), parseHex(words[1] ?? '')]
const pdeAll = 0x7ffffffffffff003n

/** What a command that is not legal leads to. */
function expectHalt(chip: Chip, at: bigint): void {
  expect(chip.hasStatus(statusBit.cmdBufRun)).toBe(false)
  expect(place.commandRing + chip.read(register.commandHead)).toBe(at)
  expect(chip.takeEvents()).toEqual([[0x5000000000000000n, at]])
  expect(chip.run()).toBe(0)
}

const isLegal = (command: Command, able: FeatureRegisters = features): boolean => {
  const chip = Chip.create({ features: able })
  chip.command(command)
  return chip.hasStatus(statusBit.cmdBufRun)
}

describe('a command that is not legal', { timeout: 120_000 }, () => {
  it.each(commands.illegal)(
    'halts the queue, the head stays on it, translation goes on: $name',
    ({ words }) => {
      const chip = Chip.create({ features })
      chip.setDte(1, [0x6000000000000003n])
      chip.command(interrupt, wordsOf(words), storeMark(0x1000n, 7n))
      expectHalt(chip, place.commandRing + 16n)
      expect(chip.load(0x1000n)).toBe(0n)
      expect(chip.iommu.request({ deviceId: 1, iova: 0x1000n })).toMatchObject({ kind: 'translated' })
    },
  )

  it('may be overwritten: the queue goes on from there when CmdBufEn goes from 0 to 1', () => {
    const chip = Chip.create()
    chip.command([0n, 0n], storeMark(0x1000n, 7n))
    chip.put([place.commandRing, interrupt[0]], [place.commandRing + 8n, interrupt[1]])
    chip.write(register.control, quietControl)
    expect(chip.run()).toBe(0)
    chip.write(register.control, quietControl & ~controlBit.cmdBufEn)
    chip.write(register.control, quietControl)
    expect(chip.run()).toBe(2)
    expect(chip.load(0x1000n)).toBe(7n)
    expect(chip.read(register.commandHead)).toBe(32n)
  })

  it('may be skipped by moving the head while the queue is off', () => {
    const chip = Chip.create()
    chip.command([0n, 0n], storeMark(0x1000n, 7n))
    chip.write(register.control, quietControl & ~controlBit.cmdBufEn)
    chip.write(register.commandHead, 16n)
    chip.write(register.control, quietControl)
    expect(chip.run()).toBe(1)
    expect(chip.load(0x1000n)).toBe(7n)
  })

  const supported = [
    'CompletionWait',
    'InvalidateDevtabEntry',
    'InvalidateIommuPages',
    'InvalidateIotlbPages',
    'InvalidateInterruptTable',
  ]
  const optional = ['PrefetchIommuPages', 'CompletePprRequest', 'InvalidateIommuAll']
  const legalKinds = [...supported, ...optional]

  it.each(commands.vectors)(
    'is one of a kind that the chip lacks, and no other: $kind $name',
    ({ kind, words }) => {
      expect(isLegal(wordsOf(words))).toBe(legalKinds.includes(kind))
    },
  )

  it.each(legalKinds as CommandKind[])('is one with any reserved bit set: %s', (kind) => {
    const layout = commandLayouts[kind]
    const [lo = 0n, hi = 0n] = encode(layout, {})
    const opcode = lo | (BigInt(legalKinds.indexOf(kind) + 1) << 60n)
    expect(isLegal([opcode, hi])).toBe(true)
    for (const span of reservedSpans(layout)) {
      for (let bit = BigInt(span.lo); bit <= span.hi; bit++) {
        const flipped: Command = bit < 64n ? [opcode | (1n << bit), hi] : [opcode, hi | (1n << (bit - 64n))]
        expect(isLegal(flipped), `bit ${bit}`).toBe(false)
      }
    }
  })

  it('is INVALIDATE_IOMMU_PAGES with a PASID but GN=0', () => {
    expect(isLegal([0x3000004200000001n, 0n])).toBe(false)
    expect(isLegal([0x3000004200000001n, 4n])).toBe(true)
  })

  it.each([
    ['PREFETCH_IOMMU_PAGES without PreFSup', [0x6000000000000600n, 0n], 0n],
    ['COMPLETE_PPR_REQUEST without PPRSup', [0x7000000000000600n, 0n], 1n],
    ['INVALIDATE_IOMMU_ALL without IASup', [0x8000000000000000n, 0n], 6n],
    ['INVALIDATE_IOMMU_PAGES with GN=1 without GTSup', [0x3000004200000000n, 4n], 4n],
    ['PREFETCH_IOMMU_PAGES with GN=1 without GTSup', [0x6000000000000600n, 4n], 4n],
    ['COMPLETE_PPR_REQUEST with GN=1 without GTSup', [0x7000000000000600n, 4n], 4n],
  ] as const)('is %s', (_, command, bit) => {
    expect(isLegal(command)).toBe(true)
    expect(isLegal(command, without(bit))).toBe(false)
  })
})

describe('COMPLETION_WAIT', () => {
  it('with s stores its data, with i sets ComWaitInt; the interrupt needs ComWaitIntEn', () => {
    const chip = Chip.create()
    chip.command(storeMark(0x123456788n, 0xfedcba9876543210n))
    expect(chip.load(0x123456788n)).toBe(0xfedcba9876543210n)
    expect(chip.hasStatus(statusBit.comWaitInt)).toBe(false)
    chip.command(interrupt)
    expect(chip.hasStatus(statusBit.comWaitInt)).toBe(true)
    expect(chip.iommu.takeInterrupt()).toBeUndefined()
    chip.write(register.control, quietControl | controlBit.comWaitIntEn)
    chip.command(interrupt)
    expect(chip.iommu.takeInterrupt()).toBeDefined()
    expect(chip.hasStatus(statusBit.eventLogInt)).toBe(false)
  })

  it('without s stores nothing', () => {
    const chip = Chip.create()
    chip.command([0x1000000000001000n, 5n])
    expect(chip.load(0x1000n)).toBe(0n)
  })

  it('halts with COMMAND_HARDWARE_ERROR where no memory takes the store', () => {
    const chip = Chip.create()
    chip.command(storeMark(0xffffffffffff8n, 1n), interrupt)
    expect(chip.takeEvents()).toEqual([[0x6200000000000000n, 0xffffffffffff8n]])
    expect(chip.read(register.commandHead)).toBe(0n)
    expect(chip.hasStatus(statusBit.cmdBufRun | statusBit.comWaitInt)).toBe(false)
  })
})

describe('the command ring', () => {
  it.each([8n, 9n, 15n])('wraps, with 2^%d entries', (length) => {
    const chip = Chip.create({ commandLength: length })
    const entries = 1 << Number(length)
    const bytes = BigInt(entries) * 16n
    chip.write(register.control, 0n)
    chip.write(register.commandHead, bytes - 32n)
    chip.write(register.commandTail, bytes - 32n)
    chip.write(register.control, quietControl)
    chip.command(storeMark(0x1000n, 1n), storeMark(0x1008n, 2n), storeMark(0x1010n, 3n))
    expect([0x1000n, 0x1008n, 0x1010n].map((at) => chip.load(at))).toEqual([1n, 2n, 3n])
    expect(chip.read(register.commandHead)).toBe(16n)
    expect(chip.iommu.step()).toBe(false)
  })

  it('that lies outside memory halts with COMMAND_HARDWARE_ERROR at the command', () => {
    const chip = Chip.create({ control: 0n })
    chip.write(register.commandBase, 0xffffffffff000n | (8n << 56n))
    chip.write(register.control, quietControl)
    chip.write(register.commandTail, 0x20n)
    expect(chip.run()).toBe(1)
    expect(chip.takeEvents()).toEqual([[0x6200000000000000n, 0xffffffffff000n]])
    expect(chip.read(register.commandHead)).toBe(0n)
  })

  it('is carried out one command at a step', () => {
    const chip = Chip.create()
    chip.enqueue(storeMark(0x1000n, 1n), storeMark(0x1000n, 2n))
    expect([chip.iommu.step(), chip.load(0x1000n)]).toEqual([true, 1n])
    expect([chip.iommu.step(), chip.load(0x1000n)]).toEqual([true, 2n])
    expect(chip.iommu.step()).toBe(false)
  })

  it('is carried out in one go up to where it waits or halts', () => {
    const chip = Chip.create()
    chip.enqueue(storeMark(0x1000n, 1n), storeMark(0x1008n, 2n), [0n, 0n], storeMark(0x1000n, 3n))
    // The command that is not legal moves the queue, too: it halts it.
    expect(chip.iommu.run()).toBe(3)
    expect([chip.load(0x1000n), chip.load(0x1008n)]).toEqual([1n, 2n])
    expectHalt(chip, place.commandRing + 32n)
    expect(chip.iommu.run()).toBe(0)
  })
})

/** Each cached translation as `domain/PASID/page number within its kind`. */
function cached(chip: Chip): string[] {
  const name = (page: bigint): bigint => (page - (page >= guestPages ? guestPages : hostPages)) >> 12n
  return chip.iommu
    .iotlbEntries()
    .map(({ domainId, pasid, page }) => `${domainId}/${pasid ?? '-'}/${name(page)}`)
    .sort()
}

/** Domains 1 and 2 with two host pages, and two guest pages each of PASIDs 0 and 5. */
function warmChip(): Chip {
  const chip = nestedChip([1, 2])
  for (const deviceId of [1, 2]) {
    for (const page of [0n, 0x1000n]) {
      chip.iommu.request({ deviceId, iova: hostPages + page })
      for (const pasid of [0, 5]) chip.iommu.request({ deviceId, pasid, iova: guestPages + page })
    }
  }
  expect(cached(chip)).toHaveLength(12)
  return chip
}

describe('what each invalidation reaches', () => {
  const hostOf = (domain: number): string[] => [`${domain}/-/0`, `${domain}/-/1`]
  const guestOf = (domain: number, pasid: number): string[] => [
    `${domain}/${pasid}/0`,
    `${domain}/${pasid}/1`,
  ]
  const allOf = (domain: number): string[] => [
    ...hostOf(domain),
    ...guestOf(domain, 0),
    ...guestOf(domain, 5),
  ]
  const pages = 0x3000000100000000n

  it.each<[string, Command, string[]]>([
    ['GN=0, a page', [pages, hostPages], ['1/-/0', ...guestOf(1, 0), ...guestOf(1, 5)]],
    ['GN=0, another page', [pages, 0x500000n], [...guestOf(1, 0), ...guestOf(1, 5)]],
    ['GN=0, a range', [pages, hostPages | 1n], allOf(1)],
    ['GN=0, everything, PDE', [pages, pdeAll], allOf(1)],
    ['GN=1, a page of PASID 0', [pages, guestPages | 4n], ['1/0/0']],
    ['GN=1, a range of PASID 5', [pages | 5n, guestPages | 5n], guestOf(1, 5)],
    ['GN=1, everything of PASID 5, PDE', [pages | 5n, pdeAll | 4n], guestOf(1, 5)],
    ['GN=1, the wrong PASID', [pages | 6n, pdeAll | 4n], []],
    ['GN=1, a host address', [pages, hostPages | 4n], []],
    ['another domain', [0x3000000300000000n, pdeAll], []],
    ['INVALIDATE_DEVTAB_ENTRY', [0x2000000000000001n, 0n], []],
    ['INVALIDATE_INTERRUPT_TABLE', [0x5000000000000001n, 0n], []],
    ['INVALIDATE_IOMMU_ALL', [0x8000000000000000n, 0n], [...allOf(1), ...allOf(2)]],
    ['COMPLETION_WAIT', interrupt, []],
  ])('%s', (_, command, dropped) => {
    const chip = warmChip()
    const before = cached(chip)
    expect(chip.command(command)).toBe(1)
    expect(cached(chip)).toEqual(before.filter((entry) => !dropped.includes(entry)))
    expect(chip.iommu.cachedDeviceIds()).toEqual(
      command[0] === 0x8000000000000000n ? [] : command[0] === 0x2000000000000001n ? [2] : [1, 2],
    )
  })

  it.each([...sizeCodes.encoding, ...sizeCodes.decoding])(
    'the pages from $base on, 2^$sizeLog2 bytes, and none beside them: $hiWord',
    ({ base, sizeLog2, hiWord }) => {
      if ((parseHex(hiWord) & 0xffen) !== 0n) return
      // The HyperTransport hole is memory, so that every address is.
      const features = { ...nestingFeatures, efr2: nestingFeatures.efr2 | (1n << 11n) }
      const chip = Chip.create({ features })
      chip.setDte(1, [0x6000000100000c03n, 1n])
      const first = parseHex(base)
      const end = first + (1n << BigInt(sizeLog2))
      const inside = [...new Set([first, first + (1n << BigInt(sizeLog2 - 1)), end - 0x1000n])]
      const beside = [first - 0x1000n, end].filter((page) => page >= 0n && page < 1n << 64n)
      const tables = pagesFrom(0x100001000n)
      for (const iova of [...inside, ...beside]) {
        mapHost(chip, { root: 0x100000000n, mode: 6 }, tables, iova & ~0xfffn, 0x5000n)
        expect(chip.iommu.request({ deviceId: 1, iova })).toMatchObject({ kind: 'translated' })
      }
      chip.command([0x3000000100000000n, parseHex(hiWord)])
      const held = chip.iommu.iotlbEntries().map(({ page }) => page)
      expect(held.sort()).toEqual([...beside].sort())
    },
  )
})
