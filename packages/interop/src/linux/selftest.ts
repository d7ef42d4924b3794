/**
 * The kernel's own tests of iommufd, `tools/testing/selftests/iommu`, unmodified, from Debian's source package.
 *
 * Nothing of it enters this repository or a package of ours: it is fetched and built on the machine that runs it.
 *
 * @packageDocumentation
 */
import { cpSync, existsSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { unpacked } from '../debian/unpack.js'
import type { DebianFetch } from '../debian/unpack.js'
import { InteropError } from '../interop-error.js'
import { makeFolder } from '../make-folder.js'
import { runProgram } from '../run-program.js'

/** Programs of the suite, as they are called there. */
export const selftestNames = ['iommufd', 'iommufd_fail_nth'] as const

export interface Selftests {
  /** Of the kernel that they are of: `7.3.4`. */
  readonly version: string
  /** Path of each program. */
  readonly programs: Readonly<Record<(typeof selftestNames)[number], string>>
}

const release = 'trixie-backports'
const suite = 'tools/testing/selftests/iommu'
/** What the suite consists of in the kernel's source, and where that says its version. */
const members = [
  suite,
  'tools/testing/selftests/kselftest.h',
  'tools/testing/selftests/kselftest_harness.h',
  'drivers/iommu/iommufd/iommufd_test.h',
  'Makefile',
]

/** @throws InteropError if they cannot be had or built */
export async function fetchSelftests(fetch: DebianFetch): Promise<Selftests> {
  const folder = join(fetch.cacheFolder, 'iommufd-selftest-7')
  if (!existsSync(folder)) {
    const packages = await unpacked(packageSet, fetch)
    // Complete or not there.
    const unfinished = `${folder}.part`
    rmSync(unfinished, { recursive: true, force: true })
    makeFolder(unfinished)
    fetch.report('building the kernel’s tests of iommufd')
    await build(packages, unfinished)
    keepHeaders(packages, unfinished)
    renameSync(unfinished, folder)
    // The sources of a whole kernel, packed.
    rmSync(packages, { recursive: true })
  }
  const programOf = (name: string): string => join(folder, suite, name)
  return {
    version: versionOf(readFileSync(join(folder, 'Makefile'), 'utf8')),
    programs: { iommufd: programOf('iommufd'), iommufd_fail_nth: programOf('iommufd_fail_nth') },
  }
}

const packageSet = {
  name: 'linux-source-7',
  title: 'the source of Linux 7',
  release,
  packages: async (state) => {
    const direct = await state.dependencies(release, 'linux-source')
    const source = direct.find((name) => name.startsWith('linux-source-'))
    return source === undefined ? [] : [source, 'linux-libc-dev', 'libcap-dev']
  },
  dependenciesToo: false,
} as const satisfies Parameters<typeof unpacked>[0]

async function build(packages: string, into: string): Promise<void> {
  const sources = join(packages, 'usr', 'src')
  const archive = readdirSync(sources).find((name) => /^linux-source-.*\.tar\.xz$/.test(name))
  if (archive === undefined) throw new InteropError(`${sources} has no source of Linux: remove ${packages}`)
  const top = archive.replace(/\.tar\.xz$/, '')
  await runProgram(
    'tar',
    [
      ...['-xJf', join(sources, archive), '-C', into, '--strip-components=1'],
      ...members.map((member) => `${top}/${member}`),
    ],
    { cure: 'install tar and xz-utils, and see that the disk has room' },
  )
  const headers = join(packages, 'usr', 'include')
  const libraries = join(packages, 'usr', 'lib', 'x86_64-linux-gnu')
  for (const name of selftestNames) {
    const args = [
      ...['-O2', '-w', '-D_GNU_SOURCE=', '-I..', '-isystem', headers],
      ...['-isystem', join(headers, 'x86_64-linux-gnu'), `${name}.c`, '-o', name],
      join(libraries, 'libcap.a'),
    ]
    const cure = 'install a C compiler (on Debian: apt install gcc libc6-dev)'
    await runProgram('cc', args, { cwd: join(into, suite), cure })
  }
}

/** The kernel's headers for programs, by which our structures are checked where the machine has none. */
function keepHeaders(packages: string, into: string): void {
  const headers = join(packages, 'usr', 'include')
  for (const name of ['linux', 'asm-generic', join('x86_64-linux-gnu', 'asm')]) {
    cpSync(join(headers, name), join(into, 'include', basename(name)), { recursive: true })
  }
}

/** What the first lines of the kernel's Makefile say. */
function versionOf(makefile: string): string {
  const part = (name: string): string => new RegExp(`^${name} = (\\d+)$`, 'm').exec(makefile)?.[1] ?? '?'
  return ['VERSION', 'PATCHLEVEL', 'SUBLEVEL'].map(part).join('.')
}
