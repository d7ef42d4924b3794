/**
 * QEMU 11.1 from Debian's backports: the first there that speaks vfio-user and qtest.
 *
 * @packageDocumentation
 */
import { join } from 'node:path'
import { unpacked } from '../debian/unpack.js'
import type { DebianFetch } from '../debian/unpack.js'
import { InteropError } from '../interop-error.js'
import { runProgram } from '../run-program.js'
import type { QemuBinary } from './qemu-binary.js'

const oldest = [11, 1] as const

/** @throws InteropError if it cannot be had or does not run here */
export async function fetchQemu(fetch: DebianFetch): Promise<QemuBinary> {
  const folder = await unpacked(
    {
      name: 'qemu',
      title: 'QEMU',
      release: 'trixie-backports',
      packages: () => Promise.resolve(['qemu-system-x86']),
      dependenciesToo: true,
    },
    fetch,
  )
  const at = (...parts: string[]): string => join(folder, 'usr', ...parts)
  const libraries = at('lib', 'x86_64-linux-gnu')
  // Its own C library and loader: the machine's may be older.
  const leadingArgs = ['--library-path', libraries, at('bin', 'qemu-system-x86_64')]
  const firmware = ['-L', at('share', 'qemu'), '-L', at('share', 'seabios')]
  const program = at('lib64', 'ld-linux-x86-64.so.2')
  const version = await versionOf(program, leadingArgs)
  return {
    program,
    leadingArgs: [...leadingArgs, ...firmware],
    env: { QEMU_MODULE_DIR: join(libraries, 'qemu') },
    version,
  }
}

/** A QEMU of the user's own. @throws InteropError if it does not run or is too old */
export async function ownQemu(program: string): Promise<QemuBinary> {
  return { program, leadingArgs: [], env: {}, version: await versionOf(program, []) }
}

async function versionOf(program: string, leadingArgs: readonly string[]): Promise<string> {
  const cure = 'QEMU for x86-64 has to run on this machine'
  const said = (await runProgram(program, [...leadingArgs, '--version'], { cure })).toString()
  const version = /version (\d+\.\d+\.\d+)/.exec(said)?.[1] ?? 'unknown'
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (!(major > oldest[0] || (major === oldest[0] && minor >= oldest[1]))) {
    throw new InteropError(
      `QEMU ${version} is too old: ${oldest.join('.')} is the first with what is needed here; ` +
        'leave --qemu out to have it fetched',
    )
  }
  return version
}
