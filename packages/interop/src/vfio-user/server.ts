/**
 * Serves one PCI function on a unix socket, to one VMM after the other.
 *
 * @packageDocumentation
 */
import { createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { Connection } from './connection.js'
import type { VfioUserFunction } from './function.js'
import { listenOn } from './socket-file.js'

export interface VfioUserServer {
  /** Ends the session there is, and serves no more. */
  close(): Promise<void>
}

export interface VfioUserServerOptions {
  /** Path of the socket; at most 107 bytes. Only the user who made it may connect. */
  readonly path: string
  readonly device: VfioUserFunction
  /** Takes one sentence about whatever a peer did wrong. */
  readonly report: (line: string) => void
}

/** @throws InteropError if there cannot be a socket at the path */
export async function serveVfioUser(options: VfioUserServerOptions): Promise<VfioUserServer> {
  const { path, device, report } = options
  let current: { readonly socket: Socket; readonly connection: Connection } | undefined
  const say = (line: string): void => {
    report(`${path}: ${line}`)
  }
  const server = createServer((socket) => {
    if (current !== undefined) {
      say('a second client came while the first was there, and was sent away')
      socket.destroy()
      return
    }
    const connection = new Connection(socket, device, say)
    current = { socket, connection }
    socket.on('close', () => {
      current = undefined
      connection.end()
    })
  })
  await listenOn(server, path)
  return {
    close: async () => {
      current?.socket.destroy()
      await closed(server)
    },
  }
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => {
      resolve()
    })
  })
}
