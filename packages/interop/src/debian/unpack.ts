/**
 * Debian packages laid out in a folder, as they would lie on a machine.
 *
 * @packageDocumentation
 */
import { existsSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { InteropError } from '../interop-error.js'
import { runProgram } from '../run-program.js'
import { makeFolder } from '../make-folder.js'
import { AptState } from './apt-state.js'
import { configuredMirror } from './mirror.js'

/** What to fetch, and where it goes. */
export interface DebianFetch {
  /** Folder that keeps what was fetched: nothing is fetched twice. */
  readonly cacheFolder: string
  /** Takes one line for each thing that takes time. */
  readonly report: (line: string) => void
}

/** A set of packages by the name of its folder. */
export interface PackageSet {
  readonly name: string
  /** Shown to the user. */
  readonly title: string
  readonly release: 'trixie' | 'trixie-backports'
  /** The names, found when the lists have been read. */
  readonly packages: (state: AptState) => Promise<readonly string[]>
  readonly dependenciesToo: boolean
}

const suites = ['trixie', 'trixie-backports']

/**
 * Fetches and unpacks a set unless that was done before.
 *
 * @returns the folder: `usr`, and whatever else the packages have
 * @throws InteropError where the mirror does not serve it or a tool is missing
 */
export async function unpacked(set: PackageSet, { cacheFolder, report }: DebianFetch): Promise<string> {
  const folder = join(cacheFolder, set.name)
  if (existsSync(folder)) return folder
  const mirror = configuredMirror()
  const state = await AptState.create(join(cacheFolder, 'apt'), mirror, suites)
  const packages = await set.packages(state)
  const files = set.dependenciesToo
    ? await state.withDependencies(set.release, packages)
    : await state.alone(set.release, packages)
  if (files.length === 0) throw new InteropError(`${mirror} does not serve ${set.title}: try another mirror`)
  const wanted = files.filter(({ name }) => !existsSync(join(state.archives, name)))
  const megabytes = wanted.reduce((sum, { bytes }) => sum + bytes, 0) / 1e6
  report(
    `${set.title}: fetching ${wanted.length} packages, ${megabytes.toFixed(0)} MB, from ${mirror} into ${cacheFolder}`,
  )
  await state.fetch(set.release, packages, set.dependenciesToo)
  // Complete or not there: a run that is cut off in the middle leaves nothing that looks whole.
  const unfinished = `${folder}.part`
  rmSync(unfinished, { recursive: true, force: true })
  makeFolder(unfinished)
  for (const { name } of files) {
    const cure = 'install dpkg, and see that the disk has room'
    await runProgram('dpkg-deb', ['-x', join(state.archives, name), unfinished], { cure })
  }
  rmSync(folder, { recursive: true, force: true })
  renameSync(unfinished, folder)
  return folder
}
