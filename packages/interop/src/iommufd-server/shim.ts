/**
 * The library that is loaded into a program and sends its calls to the server, compiled on this machine.
 *
 * @packageDocumentation
 */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { InteropError } from '../interop-error.js'
import { makeFolder } from '../make-folder.js'
import { runProgram } from '../run-program.js'

/** Its source, which is published: beside `dist` of this package, and beside `src`, whose files lie a folder deeper. */
const source = ['../shim/iommufd-shim.c', '../../shim/iommufd-shim.c']
  .map((path) => fileURLToPath(new URL(path, import.meta.url)))
  .find((path) => existsSync(path))

const flags = ['-O2', '-shared', '-fPIC', '-fvisibility=hidden']

/**
 * Compiles the library with `cc`, unless that was done before.
 *
 * @param cacheFolder - folder that keeps it
 * @returns its path
 * @throws InteropError if there is no C compiler
 */
export async function buildShim(cacheFolder: string): Promise<string> {
  if (source === undefined) {
    throw new InteropError('shim/iommufd-shim.c of @nestwalk/interop is missing: install the package anew')
  }
  const digest = createHash('sha256').update(readFileSync(source)).update(flags.join(' ')).digest('hex')
  const library = join(cacheFolder, `iommufd-shim-${digest.slice(0, 16)}.so`)
  if (existsSync(library)) return library
  makeFolder(cacheFolder)
  // Complete or not there, also when two build it at once.
  const unfinished = `${library}.${process.pid}`
  const cure = 'install a C compiler (on Debian: apt install gcc libc6-dev)'
  await runProgram('cc', [...flags, '-o', unfinished, source, '-ldl'], { cure })
  renameSync(unfinished, library)
  return library
}

export interface ShimOptions {
  readonly library: string
  readonly socket: string
  /** Capabilities that the program is taken to have besides its own: bit n is capability n. */
  readonly grantCapabilities?: bigint | undefined
  /** Gives plain memory where the machine has no huge pages. */
  readonly plainForHugePages?: boolean | undefined
  /** Shows the program an interface for fault injection. */
  readonly failNth?: boolean | undefined
}

/** The variables with which a program is started. */
export function shimEnvironment(
  { library, socket, grantCapabilities, plainForHugePages, failNth }: ShimOptions,
  inherited: NodeJS.ProcessEnv,
): NodeJS.ProcessEnv {
  const others = inherited['LD_PRELOAD']
  return {
    ...inherited,
    LD_PRELOAD: others === undefined || others === '' ? library : `${library}:${others}`,
    IOMMUFD_SHIM_SOCKET: socket,
    ...(grantCapabilities !== undefined && { IOMMUFD_SHIM_GRANT_CAPS: grantCapabilities.toString(16) }),
    ...(plainForHugePages === true && { IOMMUFD_SHIM_HUGETLB: '1' }),
    ...(failNth === true && { IOMMUFD_SHIM_FAIL_NTH: '1' }),
  }
}
