/**
 * What a walk reads and stores, for those who watch: tests, visualisers, the demo.
 *
 * @packageDocumentation
 */

/** Which table an access belongs to. */
export type TableKind = 'device-table' | 'host-table' | 'gcr3-table' | 'guest-table' | 'interrupt-table'

/** Told of each 64-bit table access (a DTE's 256 bits count as one), by SPA, as int32 words. */
export interface WalkTrace {
  read(kind: TableKind, lo: number, hi: number): void
  store(kind: TableKind, lo: number, hi: number): void
}
