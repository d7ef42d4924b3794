/**
 * The socket that QEMU connects to for qtest.
 *
 * @packageDocumentation
 */
import { createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { InteropError } from '../interop-error.js'

/** Listens on a unix socket for one peer. */
export class QtestSocket {
  private constructor(
    private readonly server: Server,
    private readonly timeoutSeconds: number,
  ) {}

  /** @throws InteropError if the socket cannot be made */
  static async listen(path: string, timeoutSeconds: number): Promise<QtestSocket> {
    const server = createServer({ pauseOnConnect: true })
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => {
        reject(
          new InteropError(
            `${path} cannot be listened on (${error.message}): set TMPDIR to a folder with a short name`,
          ),
        )
      })
      server.listen(path, resolve)
    })
    return new QtestSocket(server, timeoutSeconds)
  }

  /**
   * The peer, when it has come. Nobody else may come.
   *
   * @param ended - settles if the peer will never come: the wait is over then, with its error
   * @throws InteropError if nobody comes in time
   */
  async accept(ended: Promise<never>): Promise<Socket> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      const why = `QEMU did not connect to the qtest socket in ${this.timeoutSeconds} s`
      timer = setTimeout(() => {
        reject(new InteropError(`${why}: see that it runs on this machine`))
      }, this.timeoutSeconds * 1000)
    })
    const come = new Promise<Socket>((resolve) => this.server.once('connection', resolve))
    try {
      const socket = await Promise.race([come, late, ended])
      socket.resume()
      return socket
    } finally {
      clearTimeout(timer)
      this.server.close()
    }
  }

  close(): void {
    this.server.close()
  }
}
