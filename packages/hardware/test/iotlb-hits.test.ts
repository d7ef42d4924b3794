/** What the IOTLB answers, and when it must not. */
import { describe, expect, it } from 'vitest'
import { load64, nestingFeatures } from '../src/index.js'
import type { Translation } from '../src/index.js'
import { Chip, controlBit, quietControl } from './chip.js'
import { runs } from './runs.js'
import { chipOf, isInHole } from './random-chip.js'
import { randomCase } from './slow/random-machine.js'
import { slowTranslate } from './slow/translate.js'
import type { Machine, Request as SlowRequest, Result as SlowResult } from './slow/types.js'
import {
  guestDirectoryAt,
  guestEntryAt,
  guestPages,
  hostEntryAt,
  hostPages,
  nestedChip,
  nestedDte,
} from './tables.js'

const marking = quietControl & ~(controlBit.guestAccessedOff | controlBit.guestDirtyOff)
const accessed = 1n << 5n
const dirty = 1n << 6n
const writable = { guest: 1n << 1n, host: 1n << 62n }

/** Where one page is mapped: host page 0 directly, or through the first page of PASID 0. */
const hostLeaf = hostEntryAt(hostPages)
const guestLeaf = guestEntryAt(0, 0n)

function markingChip(features = nestingFeatures): Chip {
  const chip = nestedChip([1], { features, control: marking | controlBit.hostDirty })
  const [q0 = 0n, ...rest] = nestedDte(1)
  chip.setDte(1, [q0 | (3n << 7n), ...rest])
  return chip
}

const askers = [
  ['the host table', { deviceId: 1, iova: hostPages }, [hostLeaf]],
  ['nested tables', { deviceId: 1, iova: guestPages, pasid: 0 }, [guestLeaf, hostLeaf]],
] as const

const bitsAt = (chip: Chip, leaves: readonly bigint[], bits: bigint): boolean[] =>
  leaves.map((at) => ((chip.load(at) ?? 0n) & bits) === bits)

const from = (answer: Translation): string => (answer.kind === 'translated' ? answer.from : answer.kind)

describe('a translation from the IOTLB', () => {
  it.each(askers)(
    'of %s that a read filled is walked again by the first write, which sets D',
    (_, asked, leaves) => {
      const chip = markingChip()
      const no = leaves.map(() => false)
      const yes = leaves.map(() => true)
      expect(from(chip.iommu.request(asked))).toBe('walk')
      expect(bitsAt(chip, leaves, accessed)).toEqual(yes)
      expect(bitsAt(chip, leaves, dirty)).toEqual(no)
      expect(from(chip.iommu.request(asked))).toBe('iotlb')
      expect(from(chip.iommu.request({ ...asked, write: true }))).toBe('walk')
      expect(bitsAt(chip, leaves, dirty)).toEqual(yes)
      expect(from(chip.iommu.request({ ...asked, write: true }))).toBe('iotlb')
    },
  )

  it.each(askers)(
    'of %s does not set D again that software cleared without an invalidation',
    (_, asked, leaves) => {
      const chip = markingChip()
      chip.iommu.request({ ...asked, write: true })
      for (const at of leaves) chip.put([at, (chip.load(at) ?? 0n) & ~dirty])
      expect(from(chip.iommu.request({ ...asked, write: true }))).toBe('iotlb')
      expect(bitsAt(chip, leaves, dirty)).toEqual(leaves.map(() => false))
    },
  )

  it.each(askers)('of %s serves reads and writes alike where no D is kept', (_, asked) => {
    const chip = nestedChip([1])
    chip.iommu.request(asked)
    expect(from(chip.iommu.request({ ...asked, write: true }))).toBe('iotlb')
  })

  it.each(askers)('of %s serves the first write at once where D was set already', (_, asked, leaves) => {
    const chip = markingChip()
    for (const at of leaves) chip.put([at, (chip.load(at) ?? 0n) | dirty])
    chip.iommu.request(asked)
    expect(from(chip.iommu.request({ ...asked, write: true }))).toBe('iotlb')
  })

  it('of guest tables alone has no D of a host table to wait for, whatever DTE.HAD says', () => {
    const chip = Chip.create({ control: quietControl | controlBit.hostDirty })
    chip.setDte(1, [0x6080000000000183n | (1n << 58n), 1n, 0n, 0n])
    // GCR3 table at 1000, guest tables from 2000 on, all for address 0 and PASID 0.
    chip.put(
      [0x1000n, 0x2001n],
      [0x2000n, 0x3007n],
      [0x3000n, 0x4007n],
      [0x4000n, 0x5007n],
      [0x5000n, 0x6007n],
    )
    const asked = { deviceId: 1, pasid: 0, iova: 0n }
    expect(chip.iommu.request(asked)).toMatchObject({ from: 'walk', spa: 0x6000n })
    expect(from(chip.iommu.request({ ...asked, write: true }))).toBe('iotlb')
  })

  it('sets D of the guest for a write though the host table keeps none', () => {
    const chip = nestedChip([1], { control: marking })
    const asked = { deviceId: 1, iova: guestPages, pasid: 0 }
    chip.iommu.request(asked)
    expect(from(chip.iommu.request({ ...asked, write: true }))).toBe('walk')
    expect(bitsAt(chip, [guestLeaf], dirty)).toEqual([true])
  })

  it.each([
    ['the host table', askers[0][1], hostLeaf, writable.host],
    ['the guest table', askers[1][1], guestLeaf, writable.guest],
  ] as const)('without a right that the request needs is walked again: %s', (_, asked, leaf, right) => {
    const chip = nestedChip([1])
    const full = chip.load(leaf) ?? 0n
    chip.put([leaf, full & ~right])
    expect(chip.iommu.request(asked)).toMatchObject({ from: 'walk', writable: false })
    expect(from(chip.iommu.request({ ...asked, write: true }))).toBe('fault')
    // More rights count at once, fewer only after an invalidation.
    chip.put([leaf, full])
    expect(from(chip.iommu.request({ ...asked, write: true }))).toBe('walk')
    chip.put([leaf, full & ~right])
    expect(from(chip.iommu.request({ ...asked, write: true }))).toBe('iotlb')
  })

  it('of user privilege does not serve where only supervisors may go', () => {
    const chip = nestedChip([1])
    const asked = { deviceId: 1, iova: guestPages, pasid: 0 }
    chip.put([guestLeaf, (chip.load(guestLeaf) ?? 0n) & ~4n])
    expect(from(chip.iommu.request({ ...asked, supervisor: true }))).toBe('walk')
    expect(from(chip.iommu.request(asked))).toBe('fault')
    expect(from(chip.iommu.request({ ...asked, supervisor: true }))).toBe('iotlb')
  })
})

describe('setting A and D', () => {
  it('is an OR on memory: a guest entry that is also the host entry it is reached through keeps both', () => {
    // HDSup without HASup: the host table gets D alone, the guest table A alone.
    const chip = markingChip({ ...nestingFeatures, efr: nestingFeatures.efr & ~(1n << 49n) })
    const hostTable = hostEntryAt(0n)
    const gpa = 0x7000n
    const shared = hostEntryAt(gpa)
    // The host table maps itself there, and the guest takes it for its last table.
    chip.put([shared, (3n << 61n) | hostTable | 7n], [guestDirectoryAt(0), gpa | 7n])
    chip.iommu.request({ deviceId: 1, iova: guestPages + gpa, pasid: 0 })
    expect((chip.load(shared) ?? 0n) & (accessed | dirty)).toBe(accessed | dirty)
  })
})

/** The twin's answer, as far as a cache must give the same. */
function summaryOfSlow(result: SlowResult): object {
  if (result.kind === 'fault') return { event: result.event ?? 'suppressed' }
  if (result.kind === 'forwarded') return { address: result.spa }
  if (result.kind === 'interrupt') return { interrupt: true }
  if (result.kind !== 'translated') throw new Error(`the twin answers ${result.kind}`)
  const { spa, sizeLog2 = 64, readable, writable: canWrite } = result
  return { spa, sizeLog2, readable, writable: canWrite }
}

function summaryOfFast(answer: Translation, isSuppressed: boolean): object {
  if (answer.kind === 'fault') return { event: isSuppressed ? 'suppressed' : answer.event }
  if (answer.kind === 'forwarded') return { address: answer.address }
  if (answer.kind === 'interrupt') return { interrupt: true }
  const { spa, sizeLog2, readable, writable: canWrite } = answer
  return { spa, sizeLog2, readable, writable: canWrite }
}

/** Sends all requests of a random case twice, the second time with reads and writes swapped; counts the hits. */
function warmAnswers(seed: number): number {
  const each = randomCase(seed)
  const chip = chipOf(each)
  const { registers, features } = each
  const machine: Machine = {
    load64: (address) => (address < 1n << 52n ? load64(chip.memory, address) : undefined),
    registers,
    features,
  }
  const requests = each.requests.filter((request) => !isInHole(each, request))
  /** For each block in the IOTLB, the page whose walk put it there. */
  const walked = new Map<string, bigint>()
  let hits = 0
  for (const request of [...requests, ...requests.map((one) => ({ ...one, write: !one.write }))]) {
    const slow = slowTranslate(machine, request)
    const { user = true, ...rest } = request
    const answer = chip.iommu.request({ ...rest, supervisor: !user })
    if (answer.kind === 'translated' && answer.from !== 'identity') {
      const block = blockName(request, answer.sizeLog2)
      const page = request.iova >> 12n
      if (answer.from === 'walk') walked.set(block, page)
      // Another device's translation, or another of the copies of a large entry, which need not be equal here.
      else if (answer.filler !== request.deviceId || walked.get(block) !== page) continue
      else hits++
    }
    const isSuppressed = slow.kind === 'fault' && slow.event === null
    expect(summaryOfFast(answer, isSuppressed), `seed ${seed}`).toEqual(summaryOfSlow(slow))
  }
  return hits
}

const blockName = ({ deviceId, pasid, iova }: SlowRequest, sizeLog2: number): string =>
  `${deviceId} ${pasid ?? '-'} ${iova >> BigInt(sizeLog2)} ${sizeLog2}`

describe('a chip with a warm IOTLB', () => {
  it('answers as the tables do, as long as nobody but hardware changes them', { timeout: 120_000 }, () => {
    let hits = 0
    for (let seed = 1; seed <= runs(400); seed++) hits += warmAnswers(seed)
    expect(hits).toBeGreaterThan(runs(1000))
  })
})
