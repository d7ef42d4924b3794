/**
 * One connection: it stands for an open file, or carries the calls of a process. Its first message says which.
 *
 * @packageDocumentation
 */
import type { Socket } from 'node:net'
import { readStruct } from '@nestwalk/bits'
import type { Client } from './client.js'
import { helloLayout, openLayout, protocolVersion, requestType } from './message.js'
import type { Message } from './message-reader.js'
import { BrokenStreamError, MessageReader } from './message-reader.js'
import type { RequestServer } from './request-server.js'
import { encodeOpened } from './result.js'

/** What a connection needs of the server. */
export interface ConnectionParts {
  readonly socket: Socket
  readonly requests: RequestServer
  /** User who may connect. */
  readonly uid: number
  readonly report: (line: string) => void
  /** Runs something after every end of a stream that is known of by now has been dealt with. */
  readonly later: (work: () => void) => void
}

type Role =
  | { readonly kind: 'new' }
  | { readonly kind: 'file'; readonly handle: bigint }
  | { readonly kind: 'control'; readonly client: Client }
  | { readonly kind: 'over' }

/** See the file's comment. */
export class Connection {
  private readonly reader = new MessageReader()
  private role: Role = { kind: 'new' }
  private isFull = false
  private isWaiting = false

  constructor(private readonly parts: ConnectionParts) {
    const { socket, report } = parts
    socket.on('data', (chunk: Buffer) => {
      this.reader.push(chunk)
      this.serveLater()
    })
    socket.on('drain', () => {
      this.isFull = false
      socket.resume()
      this.serveLater()
    })
    socket.on('error', (error) => {
      report(`a connection broke (${error.message})`)
    })
    socket.on('end', () => {
      this.left()
    })
    socket.on('close', () => {
      this.left()
    })
  }

  /** The other end is gone. */
  private left(): void {
    const { heldBytes } = this.reader
    if (this.role.kind !== 'over' && heldBytes > 0 && !this.isWaiting) {
      this.parts.report(`a program left in the middle of a message, ${heldBytes} bytes into it`)
    }
    this.end()
  }

  /** The file has no more users, or the process has ended. */
  private end(): void {
    const { role } = this
    const { requests } = this.parts
    this.role = { kind: 'over' }
    if (role.kind === 'file') requests.files.detach(role.handle)
    if (role.kind === 'control') requests.clientLeft(role.client)
  }

  private serveLater(): void {
    if (this.isWaiting) return
    this.isWaiting = true
    this.parts.later(this.serveNow)
  }

  private readonly serveNow = (): void => {
    this.isWaiting = false
    try {
      while (!this.isFull && this.role.kind !== 'over') {
        const message = this.reader.next()
        if (message === undefined) return
        this.serve(message)
      }
    } catch (error) {
      if (!(error instanceof BrokenStreamError)) throw error
      this.hangUp(error.message)
    }
  }

  private serve(message: Message): void {
    const { role } = this
    if (role.kind === 'control') this.send(this.parts.requests.serve(role.client, message))
    else if (role.kind === 'new') this.begin(message)
    else throw new BrokenStreamError('an open file’s connection carries no more than its first message')
  }

  private begin({ type, body }: Message): void {
    switch (type) {
      case requestType.hello:
        this.role = { kind: 'control', client: this.clientOf(body) }
        return
      case requestType.open:
      case requestType.attach:
        this.stand(type, body)
        return
      default:
        throw new BrokenStreamError(`a connection began with a message of type ${type}`)
    }
  }

  private clientOf(body: Buffer): Client {
    if (body.length !== helloLayout.byteLength) throw new BrokenStreamError('HELLO has another length')
    const { version, pid, uid } = readStruct(helloLayout, body)
    if (version !== protocolVersion) throw new BrokenStreamError(`version ${version} is not spoken here`)
    if (uid !== this.parts.uid) throw new BrokenStreamError(`user ${uid} is not served`)
    this.checkOwner(pid)
    const { processes } = this.parts.requests
    processes.moment++
    const memory = processes.memoryOf(pid)
    if (memory === undefined) {
      throw new BrokenStreamError(
        `the memory of process ${pid} cannot be looked at: see /proc/sys/kernel/yama/ptrace_scope`,
      )
    }
    return { pid, uid, memory, unattached: [], mappings: new Set() }
  }

  private stand(type: number, body: Buffer): void {
    if (body.length !== openLayout.byteLength) throw new BrokenStreamError('OPEN has another length')
    const { what, pid } = readStruct(openLayout, body)
    this.checkOwner(pid)
    const { requests } = this.parts
    const handle = type === requestType.open ? requests.open(what) : what
    if (typeof handle === 'bigint' && requests.files.attach(handle)) {
      this.role = { kind: 'file', handle }
      this.send(encodeOpened({ handle }))
    } else {
      this.send(encodeOpened({ errno: typeof handle === 'bigint' ? 'EBADF' : handle }))
      this.parts.socket.end()
    }
  }

  private checkOwner(pid: number): void {
    const owner = this.parts.requests.processes.ownerOf(pid)
    if (owner === this.parts.uid) return
    const whose = owner === undefined ? 'is not there' : `belongs to user ${owner}`
    throw new BrokenStreamError(`process ${pid} ${whose}, and is not served`)
  }

  private send(bytes: Buffer): void {
    const { socket } = this.parts
    if (socket.write(bytes)) return
    this.isFull = true
    socket.pause()
  }

  private hangUp(why: string): void {
    this.parts.report(`a connection was ended: ${why}`)
    this.end()
    this.parts.socket.destroySoon()
  }
}
