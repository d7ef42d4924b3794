/**
 * Where what was fetched or built is kept.
 *
 * @packageDocumentation
 */
import { homedir } from 'node:os'
import { join } from 'node:path'

/** `NESTWALK_CACHE`, or a folder among the user's caches. */
export const cacheFolder = (): string =>
  process.env['NESTWALK_CACHE'] ??
  join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'nestwalk')
