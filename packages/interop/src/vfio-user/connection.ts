/**
 * One VMM at a socket: its requests answered in order, our own writes sent between.
 *
 * Requests are taken only as fast as the peer takes their replies, so that one who never reads costs no more memory than
 * one reply.
 *
 * @packageDocumentation
 */
import type { Socket } from 'node:net'
import { writeStruct } from '@nestwalk/bits'
import type { VfioUserFunction } from './function.js'
import { BrokenStreamError, MessageReader } from './message-reader.js'
import { dmaAccessLayout, encodeReply, encodeRequest, mostTransferBytes, vfioCommand } from './message.js'
import type { Message } from './message.js'
import { VfioUserSession } from './session.js'

/** Writes of ours that may wait for their reply; a VMM that answers none gets no more. */
const mostUnanswered = 4096

/** See the file's comment. */
export class Connection {
  private readonly reader = new MessageReader()
  private readonly session: VfioUserSession
  /** Addresses of our writes by message number, until they are answered. */
  private readonly unanswered = new Map<number, bigint>()
  private nextId = 0
  private isFull = false
  private isOver = false

  constructor(
    private readonly socket: Socket,
    private readonly device: VfioUserFunction,
    private readonly report: (line: string) => void,
  ) {
    this.session = new VfioUserSession(device)
    socket.on('data', (chunk: Uint8Array) => {
      if (this.isOver) return
      this.reader.push(chunk)
      this.readOn()
    })
    socket.on('drain', () => {
      this.isFull = false
      socket.resume()
      this.readOn()
    })
    socket.on('error', (error) => {
      report(`the connection broke (${error.message})`)
    })
    device.attached({
      writeMemory: (address, bytes) => {
        this.writeMemory(address, bytes)
      },
    })
  }

  /** The socket is closed. */
  end(): void {
    if (!this.isOver && this.reader.heldBytes > 0) {
      this.report(`the client left in the middle of a message, ${this.reader.heldBytes} bytes into it`)
    }
    this.isOver = true
    this.session.end()
    this.device.detached()
  }

  private readOn(): void {
    try {
      while (!this.isFull && !this.isOver) {
        const message = this.reader.next()
        if (message === undefined) return
        this.take(message)
      }
    } catch (error) {
      if (!(error instanceof BrokenStreamError)) throw error
      this.hangUp(error.message)
    }
  }

  private take(message: Message): void {
    if (message.type === 'reply') {
      this.takeReply(message)
      return
    }
    const answer = this.session.answer(message)
    if (!message.isUnanswered) this.send(encodeReply(message, answer))
    if (typeof answer !== 'string') return
    this.report(`command ${message.command} of ${message.payload.length} bytes was answered with ${answer}`)
    if (!this.session.isOpen) this.hangUp('the session began with something else than a version of ours')
  }

  private takeReply({ id, error }: Message): void {
    const address = this.unanswered.get(id)
    if (address === undefined) {
      this.report(`a reply came to message ${id}, which waits for none`)
      return
    }
    this.unanswered.delete(id)
    if (error !== undefined) {
      this.report(`a write to 0x${address.toString(16)} was refused with error ${error}`)
    }
  }

  private writeMemory(address: bigint, bytes: Uint8Array): void {
    if (bytes.length > mostTransferBytes) {
      throw new RangeError(`${bytes.length} bytes are written at once: it is at most ${mostTransferBytes}`)
    }
    if (this.isOver || !this.session.isOpen) return
    if (this.unanswered.size >= mostUnanswered) {
      this.report(`a write to 0x${address.toString(16)} was dropped: ${mostUnanswered} wait for their reply`)
      return
    }
    const { byteLength } = dmaAccessLayout
    const payload = new Uint8Array(byteLength + bytes.length)
    writeStruct(dmaAccessLayout, { address, count: BigInt(bytes.length) }, payload)
    payload.set(bytes, byteLength)
    const id = this.freeId()
    this.unanswered.set(id, address)
    this.send(encodeRequest(id, vfioCommand.dmaWrite, payload))
  }

  /** There is one: far fewer writes than numbers wait. */
  private freeId(): number {
    while (this.unanswered.has(this.nextId)) this.nextId = (this.nextId + 1) & 0xffff
    const id = this.nextId
    this.nextId = (id + 1) & 0xffff
    return id
  }

  private send(bytes: Uint8Array): void {
    if (this.socket.write(bytes)) return
    this.isFull = true
    this.socket.pause()
  }

  /** Ends the connection once what was sent is out. */
  private hangUp(why: string): void {
    this.isOver = true
    this.report(`the connection was ended: ${why}`)
    this.socket.destroySoon()
  }
}
