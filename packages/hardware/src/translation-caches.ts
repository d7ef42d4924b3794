/**
 * The caches of translations, and what each invalidation reaches in them.
 *
 * AMD 48882 rev 3.10, caches and invalidation. What silicon has is not published: which caches there are, and what their
 * entries hold, is a choice. Invalidation is read strictly: what the manual does not say is dropped stays.
 *
 * @packageDocumentation
 */
import { createIotlb, withoutPasid } from './cache/iotlb.js'
import type { CacheGeometry, Iotlb } from './cache/iotlb.js'
import type { Words } from './memory/words.js'
import type { SwitchChoices } from './switches.js'

/** What the caches of a chip are like. */
export interface MicroArchitecture {
  /** Shape of the IOTLB. Default: hashed, which forgets nothing. */
  readonly iotlb: CacheGeometry
  /**
   * What a nested translation is kept as: one entry from GVA to SPA, one from GVA to GPA beside one from GPA to SPA, or
   * all three. Default: combined.
   */
  readonly nestedEntries: 'combined' | 'split' | 'both'
  /** Combined entries remember the GPAs that they came by. Default: no. */
  readonly remembersGpas: boolean
  /** Cache of directory entries, host and guest; null, the default: none. */
  readonly pageWalkCache: CacheGeometry | null
  /** Cache of guest CR3s by (DomainID, PASID); null, the default: none. */
  readonly gcr3Cache: CacheGeometry | null
  /** Absent pages are kept too, as emulated IOMMUs do: the capability's NpCache. Default: no. */
  readonly cachesAbsent: boolean
  /** Entries of the interrupt-table cache. Default 65536. */
  readonly interruptEntries: number
  /** When invalidations take effect: as they are fetched, or only when a COMPLETION_WAIT needs it. Default: as fetched. */
  readonly invalidations: 'as-fetched' | 'at-completion-wait'
}

export const defaultMicroArchitecture: MicroArchitecture = {
  iotlb: { kind: 'hashed' },
  nestedEntries: 'combined',
  remembersGpas: false,
  pageWalkCache: null,
  gcr3Cache: null,
  cachesAbsent: false,
  interruptEntries: 1 << 16,
  invalidations: 'as-fetched',
}

interface Caches {
  readonly iotlb: Iotlb
  readonly guestToGpa: Iotlb | null
  readonly directories: Iotlb | null
  readonly guestRoots: Iotlb | null
}

/** See the file's comment. */
export class TranslationCaches {
  /** Translations to SPAs: of the host table alone, and combined ones. */
  readonly iotlb: Iotlb
  /** Translations from GVAs to GPAs; null where nested entries are combined only. */
  readonly guestToGpa: Iotlb | null
  /** Table pages that directory entries lead to; guest ones are GPAs. */
  readonly directories: Iotlb | null
  /** Guest CR3s, GPAs, filed under address 0. */
  readonly guestRoots: Iotlb | null

  private constructor(
    caches: Caches,
    readonly design: MicroArchitecture,
    private readonly choices: SwitchChoices,
  ) {
    this.iotlb = caches.iotlb
    this.guestToGpa = caches.guestToGpa
    this.directories = caches.directories
    this.guestRoots = caches.guestRoots
  }

  static create(words: Words, design: MicroArchitecture, choices: SwitchChoices): TranslationCaches {
    const { iotlb, remembersGpas, pageWalkCache, gcr3Cache, nestedEntries } = design
    const caches = {
      iotlb: createIotlb(words, iotlb, { remembersGpas }),
      guestToGpa: nestedEntries === 'combined' ? null : createIotlb(words, iotlb),
      directories: pageWalkCache === null ? null : createIotlb(words, pageWalkCache, { remembersGpas }),
      guestRoots: gcr3Cache === null ? null : createIotlb(words, gcr3Cache, { remembersGpas }),
    }
    return new TranslationCaches(caches, design, choices)
  }

  forkOnto(words: Words): TranslationCaches {
    const caches = {
      iotlb: this.iotlb.forkOnto(words),
      guestToGpa: this.guestToGpa?.forkOnto(words) ?? null,
      directories: this.directories?.forkOnto(words) ?? null,
      guestRoots: this.guestRoots?.forkOnto(words) ?? null,
    }
    return new TranslationCaches(caches, this.design, this.choices)
  }

  /** INVALIDATE_IOMMU_ALL. */
  invalidateAll(): void {
    this.iotlb.invalidateAll()
    this.guestToGpa?.invalidateAll()
    this.directories?.invalidateAll()
    this.guestRoots?.invalidateAll()
  }

  /**
   * INVALIDATE_IOMMU_PAGES with GN=0: a range of GPAs, and all nested translations that may depend on it.
   *
   * @param sizeLog2 - 12 to 64
   * @param directories - PDE=1
   */
  invalidateHost(domainId: number, lo: number, hi: number, sizeLog2: number, directories: boolean): void {
    if (sizeLog2 >= 64) {
      this.iotlb.invalidateDomain(domainId)
      this.guestToGpa?.invalidateDomain(domainId)
    } else {
      this.iotlb.invalidateRange(domainId, withoutPasid, lo, hi, sizeLog2)
      this.invalidateNested(domainId, lo, hi, sizeLog2)
    }
    if (!directories) return
    this.directories?.invalidateRange(domainId, withoutPasid, lo, hi, sizeLog2)
    this.directories?.invalidateGuest(domainId)
    this.guestRoots?.invalidateDomain(domainId)
  }

  /**
   * INVALIDATE_IOMMU_PAGES with GN=1: a range of GVAs of one PASID.
   *
   * @param sizeLog2 - 12 to 64
   * @param directories - PDE=1
   */
  invalidateGuest(
    domainId: number,
    pasid: number,
    lo: number,
    hi: number,
    sizeLog2: number,
    directories: boolean,
  ): void {
    this.iotlb.invalidateRange(domainId, pasid, lo, hi, sizeLog2)
    // Apart, so that the usual command is compiled in one piece.
    if (directories || this.guestToGpa !== null) {
      this.invalidateGuestBeside(domainId, pasid, lo, hi, sizeLog2, directories)
    }
  }

  /** The same in the caches beside the IOTLB. */
  private invalidateGuestBeside(
    domainId: number,
    pasid: number,
    lo: number,
    hi: number,
    sizeLog2: number,
    directories: boolean,
  ): void {
    this.guestToGpa?.invalidateRange(domainId, pasid, lo, hi, sizeLog2)
    if (!directories) return
    if (this.choices.directoriesOfOtherPasids === 'flushed') {
      this.directories?.invalidateGuest(domainId)
      this.guestRoots?.invalidateDomain(domainId)
    } else {
      this.directories?.invalidatePasid(domainId, pasid)
      this.guestRoots?.invalidatePasid(domainId, pasid)
    }
  }

  /** Which guest addresses lead to a range of GPAs cannot be told, unless entries remember how they came about. */
  private invalidateNested(domainId: number, lo: number, hi: number, sizeLog2: number): void {
    if (this.choices.hostFlushOfNested === 'by-remembered-gpa') {
      // Entries from GVA to GPA hold nothing of the host's.
      this.iotlb.invalidateRemembered(domainId, lo, hi, sizeLog2)
      return
    }
    this.iotlb.invalidateGuest(domainId)
    this.guestToGpa?.invalidateGuest(domainId)
  }
}
