/**
 * The recordings of this package as files.
 *
 * @packageDocumentation
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'

/** The description of a snapshot as a test may change it. */
export interface Description {
  memBytes: unknown
  pages: string[]
  regs: Record<string, unknown>
  features?: unknown
  queries: Record<string, unknown>[]
}

/** A snapshot not yet read. */
export interface RawSnapshot {
  readonly name: string
  readonly json: Description
  readonly pageBytes: Uint8Array
}

const root = fileURLToPath(new URL('../corpus/', import.meta.url))

export const readReadme = (corpus: string): string => readFileSync(join(root, corpus, 'README.md'), 'utf8')

/** Folders of a corpus. */
export const casesOf = (corpus: string): string[] =>
  readdirSync(join(root, corpus), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
    .sort()

/** All snapshots of a case, such as `synthetic/nested`. */
export const rawSnapshots = (folder: string): RawSnapshot[] =>
  readdirSync(join(root, folder))
    .filter((name) => /^snap-.*\.json$/.test(name))
    .sort()
    .map((name) => rawSnapshot(`${folder}/${name.slice('snap-'.length, -'.json'.length)}`))

/** One snapshot by its name, such as `synthetic/nested/s00`. */
export function rawSnapshot(name: string): RawSnapshot {
  const path = join(root, name.replace(/([^/]+)$/, 'snap-$1'))
  return {
    name,
    json: JSON.parse(readFileSync(`${path}.json`, 'utf8')) as Description,
    pageBytes: gunzipSync(readFileSync(`${path}.pages.gz`)),
  }
}
