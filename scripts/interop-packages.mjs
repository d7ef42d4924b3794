/** What the runs with real software need: fetched if it can be had. */
import { homedir } from 'node:os'
import { join } from 'node:path'
import { root } from './workspace.mjs'

/** Why QEMU or a kernel cannot be had here; undefined if all can. Fetches them, and prints the versions. */
export async function unavailable({ kernels }) {
  const { why } = await fetched(async ({ fetchKernel, fetchQemu }, fetch) => {
    console.log(`QEMU ${(await fetchQemu(fetch)).version}`)
    for (const kernel of kernels) console.log(`Linux ${(await fetchKernel(kernel, fetch)).version}`)
  })
  return why
}

/** The kernel's tests of iommufd, fetched and built, or why they cannot be had here. */
export async function selftests() {
  return await fetched(({ fetchSelftests }, fetch) => fetchSelftests(fetch))
}

async function fetched(get) {
  const interop = await import(join(root, 'packages', 'interop', 'dist', 'index.js'))
  const home = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache')
  const cacheFolder = process.env.NESTWALK_CACHE ?? join(home, 'nestwalk')
  try {
    return { value: await get(interop, { cacheFolder, report: (line) => console.log(line) }) }
  } catch (error) {
    if (error instanceof interop.InteropError) return { why: error.message }
    throw error
  }
}
