/**
 * What the guest boots into: our program, and the modules that it loads.
 *
 * @packageDocumentation
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { InteropError } from '../interop-error.js'
import { runProgram } from '../run-program.js'
import { makeFolder } from '../make-folder.js'
import { cpioOf, folder, program, regularFile } from './cpio.js'
import type { Kernel } from './kernel.js'
import { modulesWithNeeds } from './modules.js'

/** The guest's program, in C: beside `dist` of this package, and beside `src`, whose files lie a folder deeper. */
const guestProgram = ['../guest/init.c', '../../guest/init.c']
  .map((path) => fileURLToPath(new URL(path, import.meta.url)))
  .find((path) => existsSync(path))

/** Modules of VFIO, and the words that each is loaded with. */
const wanted = new Map([
  ['vfio', ''],
  // Interrupts are not remapped in this guest, which has one user.
  ['vfio_iommu_type1', 'allow_unsafe_interrupts=1'],
  ['vfio_pci', ''],
])

/** @throws InteropError if there is no C compiler, or the kernel lacks a module */
export async function initramfsFor(kernel: Kernel, workFolder: string): Promise<Buffer> {
  if (guestProgram === undefined) {
    throw new InteropError('guest/init.c of @nestwalk/interop is missing: install the package anew')
  }
  makeFolder(workFolder)
  const init = join(workFolder, 'init')
  const cure = 'install a C compiler and its static C library (gcc, libc6-dev)'
  await runProgram('cc', ['-O2', '-static', '-o', init, guestProgram], { cure })
  const modules = await modulesWithNeeds(kernel.modules, [...wanted.keys()])
  const list = modules.map(({ name }) => `/m/${name}.ko ${wanted.get(name) ?? ''}`.trim())
  return cpioOf([
    { name: 'm', content: new Uint8Array(0), mode: folder },
    ...modules.map(({ name, content }) => ({ name: `m/${name}.ko`, content, mode: regularFile })),
    { name: 'modules', content: Buffer.from(`${list.join('\n')}\n`), mode: regularFile },
    { name: 'init', content: readFileSync(init), mode: program },
  ])
}
