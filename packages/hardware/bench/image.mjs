/**
 * The machine that is measured: a chip, and tables for nested walks of 39 reads, in a window of physical addresses.
 *
 * Every table lies in a page of its own, the pages in no order, and every page of the guest has a host table of its
 * own: a walk meets no line of another walk, its upper levels apart. All stores are noted, so that the native yardstick
 * gets the very same memory.
 */
import { encodeDte, Iommu, nestingFeatures, SparseMemory, store64 } from '../dist/index.js'

/** (GCR3 levels + guest levels) times (host levels + 1), and the host levels of the page itself. */
export const readsPerWalk = (3 + 4) * (4 + 1) + 4

export const firstDeviceId = 0x600
/** Devices that share the tables, each in a domain of its own. */
export const deviceCount = 64
/** Entries of the command ring. */
export const ringEntries = 4096

const pageBytes = 4096n
const base = 0x100_0000n
const deviceTablePages = 16n
const deviceTable = base
const ring = base + deviceTablePages * pageBytes
const ringLengthCode = BigInt(Math.log2(ringEntries))
const tables = ring + BigInt(ringEntries) * 16n
/** The pages that are translated to: nothing reads them. */
const data = 0x10_0000_0000n
const offset = 0xabcn

/** A part that knows GCR3 tables of three levels: GLXSup=10b. */
const features = { ...nestingFeatures, efr: (nestingFeatures.efr & ~(3n << 14n)) | (2n << 14n) }
/** IommuEn, CmdBufEn, GTEn, no updates of guest A and D, GCR3TRPMode. */
const control = (1n << 0n) | (1n << 12n) | (1n << 16n) | (1n << 48n) | (1n << 54n) | (1n << 58n)

/** Words of a request in a machine's list: PASID, address, expected answer; one after the other, as in `native/walk.c`. */
export const requestWords = 5

/** The domain of the device that is `n` after the first. */
export const domainOf = (n) => n + 1

/**
 * A chip whose devices have `trees` PASIDs, each with guest tables of its own.
 *
 * @param options - more options of the chip
 */
export function buildMachine(trees, options = {}) {
  const memory = SparseMemory.create(2 ** 38)
  const stores = []
  const write = (address, value) => {
    store64(memory, address, value)
    stores.push(address, value)
  }
  // Each tree has one GCR3 table and four guest tables, with as many host tables, and one more host table for the page.
  const pages = 2 ** Math.ceil(Math.log2(trees * 11 + 64))
  let taken = 0
  const tablePage = () => tables + BigInt(Math.imul(taken++, 0x9e3779b1) & (pages - 1)) * pageBytes
  const host = hostTable(write, tablePage)
  const guest = guestTables(write, tablePage, host.map)
  const requests = Array.from({ length: trees }, (_, n) => guest.add(n))
  for (let n = 0; n < deviceCount; n++) writeDevice(write, n, host.root, guest.root)
  const windowBytes = Number(tables - base) + pages * Number(pageBytes)
  if (Math.max(...requests.map(({ spa }) => Number(spa))) >= memory.sizeBytes)
    throw new Error('memory is too small')
  const iommu = Iommu.create({ memory, features, ...options })
  iommu.writeMmio(0x00, 8, deviceTable | (deviceTablePages - 1n))
  iommu.writeMmio(0x08, 8, ring | (ringLengthCode << 56n))
  iommu.writeMmio(0x18, 8, control)
  return {
    iommu,
    trees,
    requests: Int32Array.from(
      requests.flatMap(({ pasid, gva, spa }) => [pasid, low(gva), high(gva), low(spa), high(spa)]),
    ),
    commands: commandRing(memory, iommu),
    windowBase: Number(base),
    image: () => exportImage(stores, windowBytes, requests, iommu),
    checksum: requests.reduce((sum, { spa }) => sum + spa, 0n),
  }
}

const low = (value) => Number(BigInt.asIntN(32, value))
const high = (value) => Number(BigInt.asIntN(32, value >> 32n))

function hostTable(write, tablePage) {
  const root = tablePage()
  const known = new Map()
  /** Maps a page through four levels. */
  const map = (gpa, spa) => {
    let page = root
    for (let level = 4n; level > 1n; level--) {
      const shift = 3n + 9n * level
      const key = `${level}/${gpa >> shift}`
      let next = known.get(key)
      if (next === undefined) {
        next = tablePage()
        known.set(key, next)
        write(page + ((gpa >> shift) & 511n) * 8n, (3n << 61n) | next | ((level - 1n) << 9n) | 1n)
      }
      page = next
    }
    write(page + ((gpa >> 12n) & 511n) * 8n, (3n << 61n) | spa | 1n)
  }
  return { root, map }
}

function guestTables(write, tablePage, map) {
  let taken = 0
  let translated = 0n
  /** A page of the guest, 2 MiB from its neighbours: it has a host table of its own, and no set place in it. */
  const guestPage = (spa) => {
    taken++
    const gpa = (BigInt(taken) << 21n) | (BigInt(Math.imul(taken, 0x2545f491) >>> 23) << 12n)
    map(gpa, spa)
    return { gpa, spa, below: new Map() }
  }
  const top = guestPage(tablePage())
  const next = (page, index, flags, newSpa) => {
    let below = page.below.get(index)
    if (below === undefined) {
      below = guestPage(newSpa())
      page.below.set(index, below)
      write(page.spa + index * 8n, below.gpa | flags)
    }
    return below
  }
  /** PASID, address and expected answer of a tree, the `n`th. */
  const add = (n) => {
    // An odd factor: all PASIDs differ, and they lead to as many GCR3 tables as there can be.
    const pasid = (n * 0x201 + 1) & 0xfffff
    // From 2^40 on: below it is the HyperTransport hole.
    const page =
      (BigInt(2 + (n % 125)) << 39n) |
      (BigInt(n % 511) << 30n) |
      (BigInt(n % 509) << 21n) |
      (BigInt(n % 503) << 12n)
    let at = top
    for (const shift of [18, 9, 0]) at = next(at, BigInt((pasid >> shift) & 511), 1n, tablePage)
    for (const shift of [39n, 30n, 21n]) at = next(at, (page >> shift) & 511n, 0x67n, tablePage)
    at = next(at, (page >> 12n) & 511n, 0x67n, () => data + translated++ * pageBytes)
    return { pasid, gva: page | offset, spa: at.spa | offset }
  }
  return { root: top.gpa, add }
}

function writeDevice(write, n, hostRoot, gcr3Root) {
  const dte = encodeDte({
    valid: true,
    translationValid: true,
    guestValid: true,
    readAllowed: true,
    writeAllowed: true,
    mode: 4,
    hostRoot,
    gcr3Levels: 2,
    gcr3Root,
    domainId: domainOf(n),
  })
  dte.forEach((word, i) => write(deviceTable + BigInt((firstDeviceId + n) * 32 + i * 8), word))
}

/** The producer's end of the command ring. Commands are put as int32 words: what the chip does is timed, not BigInts. */
function commandRing(memory, iommu) {
  let tail = 0
  const put = (w0, w1, w2, w3) => {
    const at = Number(ring) + tail
    memory.store64(at, 0, w0, w1)
    memory.store64(at + 8, 0, w2, w3)
    tail = (tail + 16) % (ringEntries * 16)
  }
  return {
    /** INVALIDATE_IOMMU_PAGES, all of a domain. */
    putDomain: (domainId) => put(0, 0x30000000 | domainId, 0xfffff003 | 0, 0x7fffffff),
    /** INVALIDATE_IOMMU_PAGES, one page of a PASID. */
    putPage: (domainId, pasid, lo, hi) => put(pasid, 0x30000000 | domainId, (lo & 0xfffff000) | 4, hi),
    /** Tells the chip of the commands. */
    ring: () => iommu.writeMmio(0x2008, 8, BigInt(tail)),
    invalidateDomain(domainId) {
      this.putDomain(domainId)
      this.ring()
      iommu.step()
    },
  }
}

/** The image as `native/walk.c` reads it: a header of 16 words, the requests, pairs of address and 64-bit word. */
function exportImage(stores, windowBytes, requests, iommu) {
  const known = iommu.features
  const header = new BigUint64Array(16)
  header.set([base, BigInt(windowBytes), BigInt(firstDeviceId), BigInt(readsPerWalk)])
  header.set([deviceTable, deviceTablePages * 128n, control], 4)
  header.set([known.hostLevels, known.guestLevels, known.gcr3Levels].map(BigInt), 7)
  header.set([known.noExecute, known.userPages].map(BigInt), 10)
  header.set([iommu.readMmio(0x20, 8), BigInt(known.hyperTransportIgnored), BigInt(requests.length)], 12)
  const asked = requests.flatMap(({ pasid, gva, spa }) => [BigInt(pasid), gva, spa])
  return BigUint64Array.from([...header, ...asked, ...stores])
}
