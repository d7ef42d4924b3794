/**
 * How long a translation takes: `node --expose-gc packages/hardware/bench/translate.bench.mjs`, after a build.
 *
 * A cold walk is one that finds nothing in the IOTLB: nested, a GCR3 table of three levels in guest-physical memory, a
 * guest table of four over a host table of four. Every answer is checked in the loop, and so is the number of reads.
 * Exit code 1: a wrong answer, or memory that grows.
 */
import { PerformanceObserver } from 'node:perf_hooks'
import { setTimeout } from 'node:timers/promises'
import {
  encodeDte,
  Iommu,
  nestingFeatures,
  outcome,
  request,
  resultWord,
  source,
  SparseMemory,
  store64,
} from '../dist/index.js'

const rounds = 7
const warmUps = 2
const roundMilliseconds = 150
const heapTranslations = 10_000_000
const heapLimitBytes = 1 << 20

/** (GCR3 levels + guest levels) times (host levels + 1), and the host levels of the page itself. */
const readsPerWalk = (3 + 4) * (4 + 1) + 4
const deviceId = 0x600
const domainId = 7
const offset = 0xabc
const ring = 0x7_0000_0000n
const deviceTable = 0x7_1000_0000n
/** A part that knows GCR3 tables of three levels: GLXSup=10b. */
const features = { ...nestingFeatures, efr: (nestingFeatures.efr & ~(3n << 14n)) | (2n << 14n) }
const control = (1n << 0n) | (1n << 12n) | (1n << 16n) | (1n << 48n) | (1n << 54n) | (1n << 58n)

/** A chip whose one device has `trees` PASIDs, each with tables of its own, no two in one place. */
function build(trees) {
  const memory = SparseMemory.create(2 ** 38)
  const pages = 2 ** Math.ceil(Math.log2(trees * 16 + 64))
  let taken = 0
  /** The next page, spread over all of them. */
  const spaPage = () => (BigInt((taken++ * 0x9e3779b1) & (pages - 1)) + 0x1000n) << 12n
  const host = hostTable(memory, spaPage)
  let guestTaken = 0n
  /** A page of the guest: far from the others, so that it has a host table of its own. */
  const guestPage = () => {
    const gpa = ++guestTaken << 21n
    const spa = spaPage()
    host.map(gpa, spa)
    return { gpa, spa }
  }
  const put = (page, index, value) => store64(memory, page.spa + index * 8n, value)
  const guest = { ...guestPage(), below: new Map() }
  const table = (parent, index, flags) => {
    const known = parent.below.get(index)
    if (known !== undefined) return known
    const page = { ...guestPage(), below: new Map() }
    put(parent, index, page.gpa | flags)
    parent.below.set(index, page)
    return page
  }
  const pasids = new Int32Array(trees)
  const words = { lo: new Int32Array(trees), hi: new Int32Array(trees) }
  const expected = { lo: new Int32Array(trees), hi: new Int32Array(trees) }
  for (let n = 0; n < trees; n++) {
    // An odd factor: all PASIDs differ, and they lead to as many GCR3 tables as there can be.
    pasids[n] = (n * 0x201 + 1) & 0xfffff
    const pasid = BigInt(pasids[n])
    const gva =
      ((BigInt(n) << 39n) % (1n << 46n)) |
      (BigInt(n % 511) << 30n) |
      (BigInt(n % 509) << 21n) |
      (BigInt(n % 503) << 12n)
    let page = table(guest, pasid >> 18n, 1n)
    page = table(page, (pasid >> 9n) & 511n, 1n)
    page = table(page, pasid & 511n, 1n)
    for (const shift of [39n, 30n, 21n, 12n]) page = table(page, (gva >> shift) & 511n, 0x67n)
    words.lo[n] = Number(BigInt.asIntN(32, gva)) | offset
    words.hi[n] = Number(gva >> 32n)
    expected.lo[n] = Number(BigInt.asIntN(32, page.spa)) | offset
    expected.hi[n] = Number(page.spa >> 32n)
  }
  return { ...chip(memory, host.root, guest.gpa), trees, pasids, words, expected }
}

function hostTable(memory, spaPage) {
  const root = spaPage()
  const tables = new Map([['', root]])
  /** Maps a page through four levels. */
  const map = (gpa, spa) => {
    let page = root
    let path = ''
    for (let level = 4n; level > 1n; level--) {
      const index = (gpa >> (3n + 9n * level)) & 511n
      path += `/${index}`
      let next = tables.get(path)
      if (next === undefined) {
        next = spaPage()
        tables.set(path, next)
        store64(memory, page + index * 8n, (3n << 61n) | next | ((level - 1n) << 9n) | 1n)
      }
      page = next
    }
    store64(memory, page + ((gpa >> 12n) & 511n) * 8n, (3n << 61n) | spa | 1n)
  }
  return { root, map }
}

function chip(memory, hostRoot, gcr3Root) {
  const iommu = Iommu.create({ memory, features })
  const flags = {
    valid: true,
    translationValid: true,
    guestValid: true,
    readAllowed: true,
    writeAllowed: true,
  }
  const dte = encodeDte({ ...flags, mode: 4, hostRoot, gcr3Levels: 2, gcr3Root, domainId })
  dte.forEach((word, n) => store64(memory, deviceTable + BigInt(deviceId * 32 + n * 8), word))
  iommu.writeMmio(0x00, 8, deviceTable | 0x1ffn)
  iommu.writeMmio(0x08, 8, ring | (8n << 56n))
  iommu.writeMmio(0x18, 8, control)
  let tail = 0n
  /** INVALIDATE_IOMMU_PAGES, all of the domain. */
  const invalidate = () => {
    store64(memory, ring + tail, (3n << 60n) | (BigInt(domainId) << 32n))
    store64(memory, ring + tail + 8n, 0x7ffffffffffff003n)
    tail = (tail + 16n) % 4096n
    iommu.writeMmio(0x2008, 8, tail)
    iommu.step()
  }
  return { iommu, invalidate }
}

/** One pass over all PASIDs. Throws at the first answer that is wrong. */
function pass(machine, from, reads, flags) {
  const { iommu, trees, pasids, words, expected } = machine
  const result = iommu.result
  for (let n = 0; n < trees; n++) {
    const kind = iommu.translate(deviceId, pasids[n], words.lo[n], words.hi[n], flags)
    if (
      kind !== outcome.translated ||
      result[resultWord.spaLo] !== expected.lo[n] ||
      result[resultWord.spaHi] !== expected.hi[n] ||
      result[resultWord.source] !== from ||
      result[resultWord.reads] !== reads
    ) {
      throw new Error(`PASID ${pasids[n]}: outcome ${kind}, ${result}; expected ${reads} reads from ${from}`)
    }
  }
}

function walks(machine) {
  machine.invalidate()
  pass(machine, source.walk, readsPerWalk, 0)
}

const hits = (machine) => pass(machine, source.iotlb, 0, 0)
const fresh = (machine) => pass(machine, source.walk, readsPerWalk, request.fresh)

/** Nanoseconds per translation of one round. */
function time(work, machine) {
  const start = performance.now()
  let passes = 0
  do {
    work(machine)
    passes++
  } while (performance.now() - start < roundMilliseconds)
  return ((performance.now() - start) * 1e6) / (passes * machine.trees)
}

/** Nanoseconds of one load whose address is what the last one gave, over so many bytes. */
function dependentLoad(bytes) {
  const words = bytes >> 2
  const line = 16
  const lines = words / line
  const next = new Int32Array(words)
  // An odd step through a power of two meets every line.
  const step = (lines * 0.618) | 1
  for (let n = 0; n < lines; n++) next[n * line] = ((n + step + ((n * n) & 1)) & (lines - 1)) * line
  let at = 0
  const loads = 5_000_000
  const start = performance.now()
  for (let n = 0; n < loads; n++) at = next[at]
  const nanoseconds = ((performance.now() - start) * 1e6) / loads
  return at < 0 ? 0 : nanoseconds
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1]

async function heapGrowth(machine) {
  let collections = 0
  const observer = new PerformanceObserver((list) => (collections += list.getEntries().length))
  const run = (translations) => {
    for (let done = 0; done < translations; done += machine.trees * 10) {
      walks(machine)
      for (let n = 1; n < 10; n++) hits(machine)
    }
  }
  run(heapTranslations / 10)
  // Twice: buffers are freed one collection after their arrays.
  globalThis.gc()
  globalThis.gc()
  observer.observe({ entryTypes: ['gc'] })
  const before = process.memoryUsage()
  run(heapTranslations)
  const after = process.memoryUsage()
  // The collections are told of in a task of their own.
  await setTimeout(0)
  observer.disconnect()
  const bytes = after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers
  return { bytes, collections }
}

if (globalThis.gc === undefined) throw new Error('run with node --expose-gc')

const near = build(16)
const far = build(4096)
const cases = [
  { name: `cold nested walk, ${readsPerWalk} reads, tables in cache`, work: walks, machine: near },
  { name: `cold nested walk, ${readsPerWalk} reads, spread tables`, work: walks, machine: far },
  { name: `walk without IOTLB, ${readsPerWalk} reads, tables in cache`, work: fresh, machine: near },
  { name: 'IOTLB hit, 16 entries', work: hits, machine: near },
  { name: 'IOTLB hit, 4096 entries', work: hits, machine: far },
]
const times = cases.map(() => [])
for (let round = -warmUps; round < rounds; round++) {
  cases.forEach(({ work, machine }, n) => {
    if (work === hits) walks(machine)
    const nanoseconds = time(work, machine)
    if (round >= 0) times[n].push(nanoseconds)
  })
}
cases.forEach(({ name }, n) =>
  console.log(`${name.padEnd(52)} ${median(times[n]).toFixed(1).padStart(8)} ns`),
)
const { bytes, collections } = await heapGrowth(far)
const isSteady = bytes < heapLimitBytes
const grown = `${(bytes / 1024).toFixed(0)} KiB, ${collections} collections`
console.log(`memory over ${heapTranslations} translations: ${grown}${isSteady ? '' : ': TOO MUCH'}`)
for (const mebibytes of [0.25, 64]) {
  const load = median(Array.from({ length: 5 }, () => dependentLoad(mebibytes * 2 ** 20)))
  const bound = (load * readsPerWalk).toFixed(1).padStart(8)
  console.log(
    `${`${readsPerWalk} dependent loads in ${mebibytes} MiB, for comparison`.padEnd(52)} ${bound} ns`,
  )
}
process.exitCode = isSteady ? 0 : 1
