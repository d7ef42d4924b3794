/**
 * The maps of a guest: from the DeviceIDs and DomainIDs that it uses to the host's.
 *
 * Rests on AMD's posted kernel series for the hardware vIOMMU, not on shipped software. Entries lie in private memory
 * and are written through the control registers. The series reads the host's DeviceID back from bits 39:24 of a device
 * map entry; that a domain map entry has the host's DomainID there too, and the valid bit, are the model's own.
 *
 * @packageDocumentation
 */
import type { SparseMemory } from '../memory/sparse-memory.js'
import type { BufferAccess } from './buffer-access.js'
import { errorSource, walkCause } from './host-events.js'
import type { HostEvents } from './host-events.js'
import { mapKind } from './map-cache.js'
import type { MapCache } from './map-cache.js'
import { privateArea } from './private-space.js'

const entryValid = 1
const idShift = 24

/** By kind: where the map is, and log2 of the bytes of an entry. */
const maps = [
  { area: privateArea.deviceMap, entryLog2: 4 },
  { area: privateArea.domainMap, entryLog2: 3 },
] as const

const pageBytes = 4096
/** There is no host's ID, and the host's log tells of it. */
const unmapped = -1

type Kind = (typeof mapKind)[keyof typeof mapKind]

/** See the file's comment. */
export class GuestMaps {
  constructor(
    private readonly memory: SparseMemory,
    private readonly access: BufferAccess,
    private readonly cache: MapCache,
    private readonly events: HostEvents,
  ) {}

  /** Writes an entry, to memory and to the cache. What private memory does not take is lost, and the host's log tells. */
  write(kind: Kind, guestId: number, index: number, hostId: number, isValid: boolean): void {
    const { area, entryLog2 } = maps[kind]
    const { access, cache, memory } = this
    if (!access.toPrivate(area, guestId, index << entryLog2, true, walkCause.pointer)) return
    const lo = isValid ? (hostId << idShift) | entryValid : 0
    const hi = isValid ? hostId >>> (32 - idShift) : 0
    if (!memory.store64(access.lo, access.hi, lo, hi)) {
      this.events.hardwareError(guestId, errorSource.maps, access.askedLo, access.askedHi)
      return
    }
    if (kind === mapKind.device) memory.store64(access.lo + 8, access.hi, 0, 0)
    if (isValid) cache.keep(kind, guestId, index, hostId)
    else cache.drop(kind, guestId, index)
  }

  /** The host's ID, or -1 if there is none: the host's log then tells of it. */
  hostIdOf(kind: Kind, guestId: number, index: number): number {
    const cached = this.cache.find(kind, guestId, index)
    if (cached >= 0) return cached
    const { area, entryLog2 } = maps[kind]
    const { access } = this
    if (!access.toPrivate(area, guestId, index << entryLog2, false, walkCause.pointer)) return unmapped
    const word = this.memory.wordOf(access.lo, access.hi)
    const hostId = word < 0 ? unmapped : this.entryAt(word)
    if (hostId < 0) this.events.hardwareError(guestId, errorSource.maps, access.askedLo, access.askedHi)
    else this.cache.keep(kind, guestId, index, hostId)
    return hostId
  }

  /** The lowest of a guest's DomainIDs that is mapped to the host's; 0 if none is. */
  guestDomainOf(guestId: number, hostDomainId: number): number {
    let found = 0
    this.scan(mapKind.domain, guestId, (index, hostId) => {
      if (hostId === hostDomainId) found = index
      return hostId === hostDomainId
    })
    return found
  }

  /** The host's IDs that a guest's are mapped to, ascending; undefined if the map cannot be read, as the host's log tells. */
  hostIdsOf(kind: Kind, guestId: number): number[] | undefined {
    const isMapped = new Uint8Array(1 << 16)
    const isRead = this.scan(kind, guestId, (_index, hostId) => {
      isMapped[hostId] = 1
      return false
    })
    if (!isRead) return undefined
    const found: number[] = []
    isMapped.forEach((mark, hostId) => {
      if (mark === 1) found.push(hostId)
    })
    return found
  }

  /**
   * Goes through the mapped IDs of a guest, as {@link hostIdOf} would find them; the cache is left as it is.
   *
   * @param visit - true to stop
   * @returns false if the map cannot be read
   */
  private scan(kind: Kind, guestId: number, visit: (index: number, hostId: number) => boolean): boolean {
    const { area, entryLog2 } = maps[kind]
    const perPage = pageBytes >> entryLog2
    for (let first = 0; first < 1 << 16; first += perPage) {
      if (!this.access.toPrivate(area, guestId, first << entryLog2, false, walkCause.pointer)) return false
      const page = this.memory.wordOf(this.access.lo, this.access.hi)
      if (page < 0) {
        this.events.hardwareError(guestId, errorSource.maps, this.access.askedLo, this.access.askedHi)
        return false
      }
      for (let n = 0; n < perPage; n++) {
        const cached = this.cache.find(kind, guestId, first + n)
        const hostId = cached >= 0 ? cached : this.entryAt(page + (n << (entryLog2 - 2)))
        if (hostId >= 0 && visit(first + n, hostId)) return true
      }
    }
    return true
  }

  private entryAt(word: number): number {
    const pool = this.memory.words.array
    const lo = Number(pool[word])
    return (lo & entryValid) === 0 ? unmapped : (lo >>> idShift) | ((Number(pool[word + 1]) & 0xff) << 8)
  }
}
