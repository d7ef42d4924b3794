/**
 * Folders that are there when they are needed.
 *
 * Made one by one: Node's own recursive way never ends where the system says of a parent that is there that it is not, as
 * `/proc` does.
 *
 * @packageDocumentation
 */
import { existsSync, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { InteropError } from './interop-error.js'

/**
 * Makes a folder, and those that it is in.
 *
 * @throws InteropError if that cannot be
 */
export function makeFolder(path: string): void {
  if (existsSync(path)) return
  const parent = dirname(path)
  if (parent !== path) makeFolder(parent)
  try {
    mkdirSync(path)
  } catch (error) {
    // Somebody else may have been faster.
    if (existsSync(path)) return
    const why = error instanceof Error ? error.message : String(error)
    throw new InteropError(`${path} cannot be made (${why}): name another folder, or make room for it`)
  }
}
