/**
 * Serves `/dev/iommu` to programs over a unix socket.
 *
 * @packageDocumentation
 */
import { createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import type { OpenableKernel } from '@nestwalk/iommufd'
import { listenOn } from '../vfio-user/socket-file.js'
import type { RefusedCall } from './client.js'
import { Connection } from './connection.js'
import { RequestServer } from './request-server.js'

export interface IommufdServer {
  /** Ends all connections, as if the programs had left, and serves no more. */
  close(): Promise<void>
}

export interface IommufdServerOptions {
  /** Path of the socket; at most 107 bytes. Only the user who made it may connect. */
  readonly path: string
  readonly kernel: OpenableKernel
  /** Takes one sentence about whatever went wrong. */
  readonly report: (line: string) => void
  /** Is told of each call that is refused, and by which rule. */
  readonly onRefused?: (call: RefusedCall) => void
}

/** @throws InteropError if there cannot be a socket at the path */
export async function serveIommufd(options: IommufdServerOptions): Promise<IommufdServer> {
  const { path, kernel, report } = options
  const requests = new RequestServer({ kernel, report, refused: options.onRefused ?? (() => undefined) })
  const sockets = new Set<Socket>()
  const later = afterStreamEnds()
  const uid = process.getuid?.() ?? 0
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    new Connection({ socket, requests, uid, report, later })
  })
  await listenOn(server, path)
  return {
    close: async () => {
      const ended = closed(server)
      for (const socket of sockets) socket.destroy()
      await ended
      requests.files.closeAll()
      requests.processes.close()
    },
  }
}

/**
 * Puts work off to the end of the round in which the system told of readable sockets. A program that closed a file before
 * it made a request finds the file closed: the end of that stream was told of in the same round, or earlier.
 */
function afterStreamEnds(): (work: () => void) => void {
  let waiting: (() => void)[] = []
  return (work) => {
    waiting.push(work)
    if (waiting.length > 1) return
    setImmediate(() => {
      const now = waiting
      waiting = []
      for (const each of now) each()
    })
  }
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => {
      resolve()
    })
  })
}
