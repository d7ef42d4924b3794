/**
 * Kernel modules and what they need, found without depmod.
 *
 * A module says in its `.modinfo` section, in texts that end in a zero byte, which others go in before it.
 *
 * @packageDocumentation
 */
import { readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { InteropError } from '../interop-error.js'
import { runProgram } from '../run-program.js'

export interface KernelModule {
  /** As in `depends`: underscores for hyphens. */
  readonly name: string
  /** The ELF file, unpacked. */
  readonly content: Buffer
}

/**
 * The modules named and all that they need, in the order in which they go in.
 *
 * @param folder - `/lib/modules/VERSION` of a kernel
 * @throws InteropError if one is not there
 */
export async function modulesWithNeeds(folder: string, names: readonly string[]): Promise<KernelModule[]> {
  const files = moduleFiles(folder)
  const found = new Map<string, KernelModule>()
  const add = async (name: string): Promise<void> => {
    if (found.has(name)) return
    const file = files.get(name)
    if (file === undefined) {
      throw new InteropError(`the kernel in ${folder} has no module ${name}: choose another kernel`)
    }
    const content = await contentOf(file)
    for (const needed of needsOf(content)) await add(needed)
    found.set(name, { name, content })
  }
  for (const name of names) await add(name)
  return [...found.values()]
}

/** The names after `depends=` in a module. */
export function needsOf(module: Buffer): string[] {
  const at = module.indexOf('\0depends=')
  if (at < 0) return []
  const start = at + '\0depends='.length
  const text = module.subarray(start, module.indexOf(0, start)).toString('latin1')
  return text === '' ? [] : text.split(',').map(normal)
}

function moduleFiles(folder: string): Map<string, string> {
  const all = readdirSync(join(folder, 'kernel'), { recursive: true, encoding: 'utf8' })
  const modules = all.filter((path) => /\.ko(\.xz)?$/.test(path))
  return new Map(modules.map((path) => [normal(basename(path)), join(folder, 'kernel', path)]))
}

const normal = (name: string): string => name.replace(/\.ko(\.xz)?$/, '').replaceAll('-', '_')

async function contentOf(file: string): Promise<Buffer> {
  const [program, args] = file.endsWith('.xz') ? ['xz', ['-dc', file]] : ['cat', [file]]
  return await runProgram(program, args, { cure: 'install xz-utils' })
}
