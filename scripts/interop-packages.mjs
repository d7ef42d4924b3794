/** What the runs with real software need: fetched if it can be had. */
import { homedir } from 'node:os'
import { join } from 'node:path'
import { root } from './workspace.mjs'

/** Why QEMU or a kernel cannot be had here; undefined if all can. Fetches them, and prints the versions. */
export async function unavailable({ kernels }) {
  const { fetchKernel, fetchQemu, InteropError } = await import(
    join(root, 'packages', 'interop', 'dist', 'index.js')
  )
  const home = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache')
  const cacheFolder = process.env.NESTWALK_CACHE ?? join(home, 'nestwalk')
  const fetch = { cacheFolder, report: (line) => console.log(line) }
  try {
    console.log(`QEMU ${(await fetchQemu(fetch)).version}`)
    for (const kernel of kernels) console.log(`Linux ${(await fetchKernel(kernel, fetch)).version}`)
    return undefined
  } catch (error) {
    if (error instanceof InteropError) return error.message
    throw error
  }
}
