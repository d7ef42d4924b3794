/**
 * How fast the model is: `pnpm bench hardware`. README.md in this folder says what is measured and how to read it.
 *
 * Options: `--quick` for a short run, `--json` for one JSON object, `--strict` to fail on a ratio above its limit.
 * Exit code 1: a wrong answer, memory that grows, with `--strict` a ratio above its limit.
 */
import { request } from '../dist/index.js'
import {
  bytesPerEntry,
  cold,
  coldWithPages,
  domainInvalidation,
  fresh,
  fullEntries,
  fullGeometry,
  hit,
  pageInvalidation,
  time,
} from './cases.mjs'
import { heapGrowth } from './heap.mjs'
import { hooksOff } from './hooks.mjs'
import { buildMachine, deviceCount, firstDeviceId, readsPerWalk, requestWords } from './image.mjs'
import { compileNative } from './native.mjs'
import { isOver, printTable } from './report.mjs'

const options = new Set(process.argv.slice(2))
for (const option of options) {
  if (!['--quick', '--json', '--strict'].includes(option)) throw new Error(`unknown option ${option}`)
}
if (globalThis.gc === undefined) throw new Error('run with node --expose-gc')

const isQuick = options.has('--quick')
const rounds = isQuick ? 3 : 5
const warmUps = isQuick ? 1 : 2
const milliseconds = isQuick ? 30 : 150
/**
 * Turns that the two sides take in a round; the fastest of a side counts, as others may be using the machine. Many short
 * ones: some are not disturbed.
 */
const turns = isQuick ? 5 : 25
/** The same for invalidations, which need a full IOTLB each time. */
const invalidationTurns = 5
const heapTranslations = isQuick ? 1_000_000 : 10_000_000
const heapLimitBytes = 1 << 20
const nearTrees = 16
const farTrees = isQuick ? 1024 : 4096
/** Entries of a small and of a large IOTLB. */
const fewEntries = 1 << 10
const manyEntries = 1 << 16

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1]

const fastest = (count, work) => Math.min(...Array.from({ length: count }, work))

/** A row of two kinds of rounds that took turns. The ratio is the median of the rounds': what disturbs one disturbs both. */
function compare(name, first, second, limit) {
  const ratio = median(second.map((value, round) => first[round] / value))
  return { name, figures: [median(first), median(second)], ratio, limit }
}

// A signal, too, leaves by the way on which processes are ended and files removed.
process.once('SIGINT', () => process.exit(130))
process.once('SIGTERM', () => process.exit(143))

const native = compileNative()
const near = buildMachine(nearTrees)
const far = buildMachine(farTrees)
const small = buildMachine(manyEntries / deviceCount)
const yardsticks = new Map(native.start ? [near, far].map((m, n) => [m, native.start(m, `image${n}`)]) : [])

try {
  process.exitCode = await measure()
} finally {
  for (const yardstick of yardsticks.values()) yardstick.stop()
}

async function measure() {
  const compared = await compareWithNative()
  const own = await compareWithin()
  const hooks = await hooksOff(isQuick ? 1 : 6, isQuick ? 10 : 15)
  const bytes = bytesPerEntry(
    buildMachine(fullEntries / deviceCount, { microArchitecture: { iotlb: fullGeometry } }),
  )
  const memory = await heapGrowth(far, heapTranslations)
  const bounds = await loadBounds()
  const sections = [
    { title: 'nanoseconds per request, tables', columns: ['model', 'tight C'], rows: compared },
    { title: 'nanoseconds within the model', columns: ['this', 'than'], rows: [...own, hooksRow(hooks)] },
    {
      title: `C walk : its ${readsPerWalk} loads alone`,
      columns: ['C walk', 'loads'],
      rows: bounds,
    },
  ]
  const isSteady = memory.bytes < heapLimitBytes
  const rows = sections.flatMap((section) => section.rows)
  rows.push({ name: 'bytes of the IOTLB for each entry, full', figures: [bytes], ratio: bytes, limit: 40 })
  const over = rows.filter(isOver).map(({ name }) => name)
  if (options.has('--json')) {
    const settings = { rounds, milliseconds, nearTrees, farTrees, readsPerWalk, node: process.version }
    console.log(JSON.stringify({ settings, native: native.missing ?? 'cc', rows, memory, over }, null, 2))
  } else {
    print(sections, bytes, memory, isSteady)
  }
  return !isSteady || (options.has('--strict') && over.length > 0) ? 1 : 0
}

function print(sections, bytes, memory, isSteady) {
  if (native.missing) console.log(`${native.missing}\n`)
  printTable(sections)
  console.log(`IOTLB, full: ${bytes.toFixed(1)} bytes for each entry, limit 40${bytes > 40 ? ' OVER' : ''}`)
  const grown = `${(memory.bytes / 1024).toFixed(0)} KiB, ${memory.collections} collections`
  console.log(`memory over ${heapTranslations} translations: ${grown}${isSteady ? '' : ': TOO MUCH'}`)
}

/** The cases that the yardstick runs too: medians of rounds that take turns. */
async function compareWithNative() {
  const cases = [
    { name: 'cold walk, in cache', work: cold, machine: near, command: 'cold', limit: 4 },
    { name: 'cold walk, far', work: cold, machine: far, command: 'cold' },
    { name: 'walk without caches, in cache', work: fresh, machine: near, command: 'fresh', limit: 4 },
    { name: 'walk without caches, far', work: fresh, machine: far, command: 'fresh' },
    { name: 'cached, 16 entries', work: hit, machine: near, command: 'hit', limit: 5 },
    { name: `cached, ${farTrees} entries`, work: hit, machine: far, command: 'hit' },
    ...pageCacheCases(),
  ]
  for (const each of cases) Object.assign(each, { model: [], c: [] })
  for (let round = -warmUps; round < rounds; round++) {
    for (const { work, machine, yardstick = machine, command, model, c } of cases) {
      if (work === hit) cold(machine)
      const inModel = []
      const inC = []
      for (let turn = 0; turn < turns; turn++) {
        inModel.push(time(work, machine, milliseconds / turns))
        const yardstickTime = await yardsticks.get(yardstick)?.time(command, milliseconds / turns)
        if (yardstickTime !== undefined) inC.push(yardstickTime)
      }
      if (round < 0) continue
      model.push(Math.min(...inModel))
      if (inC.length > 0) c.push(Math.min(...inC))
    }
  }
  return cases.map(({ name, model, c, limit }) => compare(name, model, c, limit))
}

/** The yardstick reads all tables in these cases too. */
function pageCacheCases() {
  const options = { tablePageCache: true }
  const shared = { work: coldWithPages, command: 'cold' }
  return [
    {
      ...shared,
      name: 'cold, table pages cached',
      machine: buildMachine(nearTrees, options),
      yardstick: near,
      limit: 1.5,
    },
    {
      ...shared,
      name: 'cold, table pages cached, far',
      machine: buildMachine(farTrees, options),
      yardstick: far,
    },
  ]
}

/** Invalidations, against each other and against a cached translation. */
async function compareWithin() {
  const times = { few: [], many: [], page: [], hit: [] }
  for (let round = -warmUps; round < rounds; round++) {
    const one = {
      few: fastest(invalidationTurns, () => domainInvalidation(small, fewEntries, far)),
      many: fastest(invalidationTurns, () => domainInvalidation(small, manyEntries, far)),
      page: fastest(invalidationTurns, () => pageInvalidation(far)),
      hit: (cold(far), fastest(turns, () => time(hit, far, milliseconds / turns))),
    }
    if (round >= 0) for (const [name, value] of Object.entries(one)) times[name].push(value)
  }
  return [
    compare('whole domain, 64 k entries : 1 k', times.many, times.few, 1.5),
    compare('one page : cached translation', times.page, times.hit, 1),
  ]
}

function hooksRow({ never, once }) {
  const name = 'cold walk once watched : never'
  return { name, figures: [once, never], ratio: once / never, limit: 1.02 }
}

/** The yardstick's walk against its loads alone. Comes last: it watches a machine. */
async function loadBounds() {
  const bounds = []
  for (const [machine, yardstick] of yardsticks) {
    yardstick.setLoads(loadsOf(machine))
    const chases = []
    const walks = []
    for (let round = -1; round < rounds; round++) {
      const chase = await yardstick.time('chase', milliseconds / 2)
      const walk = await yardstick.time('fresh', milliseconds / 2)
      if (round < 0) continue
      chases.push(chase)
      walks.push(walk)
    }
    bounds.push(compare(machine === near ? 'in cache' : 'far', walks, chases))
  }
  return bounds
}

/** Offsets in the window of what one pass reads, in order. */
function loadsOf(machine) {
  const { iommu, requests, trees, windowBase } = machine
  const offsets = []
  const read = (kind, spaLo, spaHi) => {
    if (kind !== 'device-table') offsets.push(spaHi * 2 ** 32 + (spaLo >>> 0) - windowBase)
  }
  iommu.watch({ read, store: () => {} })
  // Answers do not matter here, only where the walks went.
  for (let at = 0; at < requests.length; at += requestWords) {
    iommu.translate(firstDeviceId, requests[at], requests[at + 1], requests[at + 2], request.fresh)
  }
  iommu.watch(null)
  if (offsets.length !== trees * readsPerWalk) throw new Error(`${offsets.length} reads of ${trees} walks`)
  return offsets
}
