/**
 * Debian's Linux kernels, unmodified.
 *
 * @packageDocumentation
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { unpacked } from '../debian/unpack.js'
import type { DebianFetch } from '../debian/unpack.js'
import { InteropError } from '../interop-error.js'

/** Kernels that can be asked for: trixie's, and the one in its backports. */
export const kernelChoices = ['7', '6.12'] as const
export type KernelChoice = (typeof kernelChoices)[number]

export interface Kernel {
  /** As `uname -r` says. */
  readonly version: string
  readonly vmlinuz: string
  /** Folder with the modules: `kernel/...`. */
  readonly modules: string
}

/** @throws InteropError if it cannot be had */
export async function fetchKernel(choice: KernelChoice, fetch: DebianFetch): Promise<Kernel> {
  const release = choice === '7' ? 'trixie-backports' : 'trixie'
  const folder = await unpacked(
    {
      name: `linux-${choice}`,
      title: `Linux ${choice}`,
      release,
      packages: async (state) => {
        const direct = await state.dependencies(release, 'linux-image-amd64')
        const image = direct.find((name) => name.startsWith('linux-image-'))
        if (image === undefined) return []
        // From 7.x on the image is split, and itself empty.
        const parts = await state.dependencies(release, image)
        return [image, ...parts.filter((name) => /^linux-(binary|modules)-/.test(name))]
      },
      dependenciesToo: false,
    },
    fetch,
  )
  return kernelIn(folder)
}

/** The kernel in a folder of unpacked packages. */
function kernelIn(folder: string): Kernel {
  const all = join(folder, 'usr', 'lib', 'modules')
  const [version] = readdirSync(all)
  if (version === undefined) throw new InteropError(`${all} has no kernel: remove ${folder} and run again`)
  const modules = join(all, version)
  const places = [join(modules, 'vmlinuz'), join(folder, 'boot', `vmlinuz-${version}`)]
  const vmlinuz = places.find((path) => existsSync(path))
  if (vmlinuz === undefined) {
    throw new InteropError(`${folder} has no kernel image: remove that folder and run again`)
  }
  return { version, vmlinuz, modules }
}
