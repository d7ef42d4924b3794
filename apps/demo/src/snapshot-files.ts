/**
 * Snapshots on disk: `snap-NAME.json` describes one, `snap-NAME.pages.gz` beside it holds its pages.
 *
 * @packageDocumentation
 */
import { readdir, readFile } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { readSnapshot, RecordingError } from '@nestwalk/hardware'
import type { Snapshot } from '@nestwalk/hardware'

/** Where one snapshot lies. */
export interface SnapshotFile {
  /** The folder that it lies in, below the one searched, with `/` between names. */
  readonly caseName: string
  /** NAME of `snap-NAME.json`. */
  readonly name: string
  /** Path of `snap-NAME.json`. */
  readonly path: string
}

/** A file that cannot be read or is damaged. The message is one sentence that begins with the file's path. */
export class DamagedFileError extends Error {
  override readonly name = 'DamagedFileError'

  constructor(path: string, problem: string, cause?: unknown) {
    super(`${path} ${problem}`, { cause })
  }
}

const descriptionName = /^snap-(.+)\.json$/

/**
 * Finds every snapshot below a folder, in the order of their paths: the same on every machine.
 *
 * @throws DamagedFileError for a folder that cannot be read
 */
export async function findSnapshots(directory: string): Promise<SnapshotFile[]> {
  const found: SnapshotFile[] = []
  await search(directory, '', found)
  const key = ({ caseName, name }: SnapshotFile): string => `${caseName}/${name}`
  return found.sort((a, b) => (key(a) < key(b) ? -1 : 1))
}

async function search(folder: string, caseName: string, found: SnapshotFile[]): Promise<void> {
  for (const entry of await orDamaged(folder, () => readdir(folder, { withFileTypes: true }))) {
    const path = join(folder, entry.name)
    const name = descriptionName.exec(entry.name)?.[1]
    if (entry.isDirectory()) {
      await search(path, caseName === '' ? entry.name : `${caseName}/${entry.name}`, found)
    } else if (name !== undefined) {
      found.push({ caseName: caseName === '' ? basename(resolve(folder)) : caseName, name, path })
    }
  }
}

/** @throws DamagedFileError naming the file and what is wrong with it */
export async function readSnapshotFile({ path }: SnapshotFile): Promise<Snapshot> {
  const text = await orDamaged(path, () => readFile(path, 'utf8'))
  const pagesPath = path.replace(/\.json$/, '.pages.gz')
  const packed = await orDamaged(pagesPath, () => readFile(pagesPath))
  const json = parse(path, text)
  const pageBytes = unpack(pagesPath, packed)
  try {
    return readSnapshot(json, pageBytes)
  } catch (error) {
    if (error instanceof RecordingError) throw new DamagedFileError(`${path}:`, error.message, error)
    throw error
  }
}

function parse(path: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new DamagedFileError(path, 'is not JSON: it was cut short or edited, so copy it again', error)
  }
}

/** @throws DamagedFileError for what is no whole gzip file */
export function unpack(path: string, packed: Uint8Array): Uint8Array {
  try {
    return gunzipSync(packed)
  } catch (error) {
    throw new DamagedFileError(
      path,
      'is not a whole gzip file: it was cut short or edited, so copy it again',
      error,
    )
  }
}

const problems = new Map([
  ['ENOENT', 'is missing, but the snapshot cannot do without it: put it there'],
  ['EACCES', 'may not be read by you: change its permissions'],
  ['EISDIR', 'is a folder, where a file belongs: give it another name'],
])

/** @throws DamagedFileError for what `read` throws */
export async function orDamaged<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'no reason given'
    throw new DamagedFileError(
      path,
      problems.get(code) ?? `cannot be read (${code}): check the file and the disk`,
      error,
    )
  }
}
