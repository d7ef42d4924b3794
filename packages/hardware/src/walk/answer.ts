/**
 * The words in which a request is put and answered on the fast path.
 *
 * The enums are for code on that path: bundlers put their values in place, which they do not do for fields of objects.
 * Everybody else uses the same numbers by the objects.
 *
 * @packageDocumentation
 */

/** The names of an enum with their values as numbers. */
type Numbers<Enum> = { readonly [Name in keyof Enum]: number }

/** Attributes of a request, ORed together; a read by a user-privilege device is 0. */
export const enum RequestFlag {
  write = 1,
  /** Execute requested. Counts with a PASID only. */
  execute = 2,
  /** Supervisor privilege. Counts with a PASID only. */
  supervisor = 4,
  /** Look, and change nothing: no cache is asked or filled, no bit set in a table, no event written. */
  fresh = 8,
  /** With `write`: a write that waits for an answer, such as an atomic operation. */
  nonPosted = 16,
  /** PCI Express AT=01: the device asks for the translation. `write` says whether it wants to write. */
  translationRequest = 32,
  /** AT=10: the address is one that the IOMMU translated before. */
  translated = 64,
  /** Fill the caches, and tell nobody: a prefetch. */
  prefetch = 128,
}

export const request: Numbers<typeof RequestFlag> = {
  write: RequestFlag.write,
  execute: RequestFlag.execute,
  supervisor: RequestFlag.supervisor,
  fresh: RequestFlag.fresh,
  nonPosted: RequestFlag.nonPosted,
  translationRequest: RequestFlag.translationRequest,
  translated: RequestFlag.translated,
  prefetch: RequestFlag.prefetch,
}

/** What became of a request. */
export const enum Outcome {
  translated = 0,
  forwarded = 1,
  faulted = 2,
  /** An interrupt message: what becomes of it is the business of interrupt remapping. */
  interrupt = 3,
}

export const outcome: Numbers<typeof Outcome> = {
  translated: Outcome.translated,
  forwarded: Outcome.forwarded,
  faulted: Outcome.faulted,
  interrupt: Outcome.interrupt,
}

/** Where the address came from. */
export const enum Source {
  none = 0,
  walk = 1,
  iotlb = 2,
  identity = 3,
  exclusion = 4,
}

export const source: Numbers<typeof Source> = {
  none: Source.none,
  walk: Source.walk,
  iotlb: Source.iotlb,
  identity: Source.identity,
  exclusion: Source.exclusion,
}

/** Words of {@link Translator.result}. */
export const enum ResultWord {
  /** The address to use: an SPA, or the request's own address when forwarded. */
  spaLo = 0,
  spaHi = 1,
  sizeLog2 = 2,
  rights = 3,
  source = 4,
  /** Four words: the event of a fault. */
  event = 5,
  /** 1 if the event reached the log. */
  logged = 9,
  /** The tag: DomainID, and PASID or -1. */
  domainId = 10,
  pasid = 11,
  /** DeviceID whose request filled the IOTLB entry that answered. */
  filler = 12,
  /** 64-bit table entries read for this answer, the device table entry apart. */
  reads = 13,
  /** GPA that the guest tables gave, when they were walked; after a fault in the host table, the GPA that met it. */
  gpaLo = 14,
  gpaHi = 15,
  /** Of a translation for ATS: bits 59 and 60 of the host's leaf, U and FC. */
  leafBits = 16,
  /** The fault number of a fault; see `fault.ts`. */
  fault = 17,
}

export const resultWord: Numbers<typeof ResultWord> = {
  spaLo: ResultWord.spaLo,
  spaHi: ResultWord.spaHi,
  sizeLog2: ResultWord.sizeLog2,
  rights: ResultWord.rights,
  source: ResultWord.source,
  event: ResultWord.event,
  logged: ResultWord.logged,
  domainId: ResultWord.domainId,
  pasid: ResultWord.pasid,
  filler: ResultWord.filler,
  reads: ResultWord.reads,
  gpaLo: ResultWord.gpaLo,
  gpaHi: ResultWord.gpaHi,
  leafBits: ResultWord.leafBits,
  fault: ResultWord.fault,
}

export const resultWords = 18

/** Stands for PASID 0 of a request that brought none. */
export const untaggedGuest = -2
