/**
 * Cuts a stream of bytes into messages, however the bytes come.
 *
 * @packageDocumentation
 */
import { headerBytes, mostMessageBytes } from './message.js'

/** A stream that cannot be read any further, or says what no client of ours would say. One sentence. */
export class BrokenStreamError extends Error {
  override readonly name = 'BrokenStreamError'
}

export interface Message {
  readonly type: number
  /** Valid until the next message is asked for. */
  readonly body: Buffer
}

/** Holds what has come and is not a whole message yet. */
export class MessageReader {
  private held: Buffer = Buffer.alloc(0)

  push(chunk: Buffer): void {
    this.held = this.held.length === 0 ? chunk : Buffer.concat([this.held, chunk])
  }

  /** Bytes of a message that is not whole. */
  get heldBytes(): number {
    return this.held.length
  }

  /**
   * The next message, if all of it has come.
   *
   * @throws BrokenStreamError if a header announces a length that no message has
   */
  next(): Message | undefined {
    const { held } = this
    if (held.length < headerBytes) return undefined
    const length = held.readUInt32LE(0)
    if (length < headerBytes || length > mostMessageBytes) {
      throw new BrokenStreamError(
        `a message of ${length} bytes was announced: it is ${headerBytes} to ${mostMessageBytes}`,
      )
    }
    if (held.length < length) return undefined
    this.held = held.subarray(length)
    return { type: held.readUInt16LE(4), body: held.subarray(headerBytes, length) }
  }
}
