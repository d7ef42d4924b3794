/** Hostile traffic on one chip after the other, for a time or for a number of acts, and what it amounted to. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { HostileTraffic } from './hostile-traffic.js'

export interface CampaignReport {
  readonly chips: number
  readonly acts: number
  readonly outcomes: Readonly<Record<string, number>>
  /** Table reads of the walk that had most. */
  readonly mostReadsOfWalk: number
  /** Table reads, and stores of A and D, of the call that had most: commands may ask for many walks. */
  readonly mostReads: number
  readonly mostStores: number
  /** Largest growth of the heap, in bytes, over the second half of a chip's traffic. */
  readonly heapGrowth: number
  /** The same of the words that a machine takes. */
  readonly wordsGrowth: number
  /** Words that a machine took at most, as a share of what its options allow. */
  readonly mostWordsShare: number
}

export interface CampaignOptions {
  readonly firstSeed: number
  /** Goes on to the next chip until told to stop. */
  readonly goesOn: (chips: number) => boolean
  /** Acts of each chip, half of them before the growth is measured. */
  readonly actsOfChip: number
}

/**
 * Bytes that half of a chip's traffic may add to the heap: the journal that keeps a machine apart from its forks grows
 * up to what a machine's words take.
 */
const heapGrowthAllowed = 16 << 20

function collector(): () => void {
  setFlagsFromString('--expose-gc')
  return runInNewContext('gc') as () => void
}

export function runCampaign({ firstSeed, goesOn, actsOfChip }: CampaignOptions): CampaignReport {
  const collect = collector()
  const heapBytes = (): number => {
    collect()
    const { heapUsed, arrayBuffers } = process.memoryUsage()
    return heapUsed + arrayBuffers
  }
  const outcomes: Record<string, number> = {}
  const most = { readsOfWalk: 0, reads: 0, stores: 0, heap: 0, words: 0, wordsShare: 0 }
  let chips = 0
  for (; goesOn(chips); chips++) {
    const traffic = new HostileTraffic(firstSeed + chips)
    traffic.meetAll()
    for (let n = 0; n < actsOfChip / 2; n++) traffic.act()
    const before = { heap: heapBytes(), words: traffic.words }
    for (let n = 0; n < actsOfChip / 2; n++) traffic.act()
    most.heap = Math.max(most.heap, heapBytes() - before.heap)
    most.words = Math.max(most.words, traffic.words - before.words)
    most.wordsShare = Math.max(most.wordsShare, traffic.words / traffic.mostWords)
    if (traffic.words > traffic.mostWords) {
      throw new Error(
        `seed ${traffic.seed}: ${traffic.words} words, and ${traffic.mostWords} are all it can have`,
      )
    }
    if (most.heap > heapGrowthAllowed)
      throw new Error(`seed ${traffic.seed}: the heap grew by ${most.heap} bytes`)
    most.readsOfWalk = Math.max(most.readsOfWalk, traffic.meter.mostOfWalk)
    most.reads = Math.max(most.reads, traffic.meter.most)
    most.stores = Math.max(most.stores, traffic.meter.mostStores)
    for (const [outcome, count] of traffic.outcomes) outcomes[outcome] = (outcomes[outcome] ?? 0) + count
  }
  return {
    chips,
    acts: chips * actsOfChip,
    outcomes,
    mostReadsOfWalk: most.readsOfWalk,
    mostReads: most.reads,
    mostStores: most.stores,
    heapGrowth: most.heap,
    wordsGrowth: most.words,
    mostWordsShare: most.wordsShare,
  }
}
