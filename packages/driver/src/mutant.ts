/**
 * Mistakes of a driver that are known from history, for a checker to catch. A driver makes none of them unless asked to.
 *
 * @packageDocumentation
 */

/** Each mistake in one line, by the scenario that shows it. */
export const mutants = {
  S26: 'the DomainIDs in the device table of a kernel that crashed are handed out anew',
  S21: 'dirty marks are cleared, but what may write without marking again stays cached',
  S31: 'an unmap flushes directory entries, but not the range of its pages (before commit b48ca9206138)',
} as const

export type Mutant = keyof typeof mutants
