/**
 * Rights as bits of one word, at the places where host table entries and the DTE keep IR and IW in their high words:
 * accumulating rights over a walk is an AND.
 *
 * @packageDocumentation
 */

/** IR: the device may read. Bit 61 of an entry. */
export const mayRead = 0x20000000
/** IW: the device may write. Bit 62 of an entry. */
export const mayWrite = 0x40000000
/** The guest tables let code be fetched: no NX on the way. */
export const mayExecute = 0x10000000
/** The guest tables let user-privilege requests through: U/S at every level. */
export const userMay = 0x08000000
/** A write through this translation leaves no dirty bit to be set. Only in cached translations. */
export const dirtyKept = 0x04000000

/** There is no page: the cache of an emulated IOMMU keeps that too. Only in cached translations. */
export const knownAbsent = 0x02000000

/** U and FC of the host's leaf, kept for ATS: four bits below their places in the entry. Only in cached translations. */
export const leafBitsKept = 0x01800000
export const leafBitsShift = 4

/** Every right that tables can grant. */
export const allRights = mayRead | mayWrite | mayExecute | userMay
