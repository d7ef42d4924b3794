/**
 * The numbers of commands, and of what becomes of them: an enum each, since bundlers put its values in place.
 *
 * AMD 48882 rev 3.10, commands.
 *
 * @packageDocumentation
 */

/** Opcodes, bits 63:60 of a command. */
export const enum CommandOpcode {
  none = 0,
  completionWait = 1,
  invalidateDevtabEntry = 2,
  invalidateIommuPages = 3,
  invalidateIotlbPages = 4,
  invalidateInterruptTable = 5,
  prefetchIommuPages = 6,
  completePprRequest = 7,
  invalidateIommuAll = 8,
  insertGuestEvent = 9,
  resetVmmio = 10,
}

/** What became of a command. */
export const enum CommandOutcome {
  done = 0,
  illegal = 1,
  /** A store found no memory, or was not allowed; the address stands in `Commands.failedLo`. */
  failed = 2,
  /** It waits for a device: nothing has changed, try again. */
  waits = 3,
  /** A guest's command named an ID that has no mapping; the host's log tells of it. */
  unmapped = 4,
}
