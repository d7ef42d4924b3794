/**
 * A unix socket as a file: its name, who may use it, and one that a server has left behind.
 *
 * @packageDocumentation
 */
import { existsSync, lstatSync, unlinkSync } from 'node:fs'
import { connect } from 'node:net'
import type { Server } from 'node:net'
import { InteropError } from '../interop-error.js'

/** Linux unix(7): 108 bytes with the zero byte at the end. */
const longestPath = 107
/** Leaves read and write for the owner, and nothing for others. */
const ownerOnly = 0o177

/**
 * Listens at a path. A socket there that nobody listens at any more is replaced.
 *
 * @throws InteropError if the path is too long, taken, or cannot be written
 */
export async function listenOn(server: Server, path: string): Promise<void> {
  const bytes = Buffer.byteLength(path)
  if (bytes === 0 || bytes > longestPath) {
    throw new InteropError(
      `the socket's path has ${bytes} bytes, and may have 1 to ${longestPath}: choose another (${path})`,
    )
  }
  if (existsSync(path)) await removeStale(path)
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      reject(new InteropError(`no socket can be made at ${path} (${error.message}): choose another path`))
    })
    // The mask holds while the socket gets its name, which is before `listen` returns.
    const mask = process.umask(ownerOnly)
    try {
      server.listen(path, () => {
        resolve()
      })
    } finally {
      process.umask(mask)
    }
  })
}

async function removeStale(path: string): Promise<void> {
  if (!lstatSync(path).isSocket()) {
    throw new InteropError(`${path} is there already and is no socket: choose another path`)
  }
  if (await isListening(path)) {
    throw new InteropError(`another server listens at ${path} already: end that one, or choose another path`)
  }
  unlinkSync(path)
}

function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', () => {
      resolve(false)
    })
  })
}
