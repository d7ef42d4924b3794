/**
 * Cuts a stream of bytes into messages, however the bytes come.
 *
 * @packageDocumentation
 */
import { decodeMessage, headerBytes, mostMessageBytes, sizeOf } from './message.js'
import type { Message } from './message.js'

/** A stream that cannot be read any further: nobody knows where its next message begins. One sentence. */
export class BrokenStreamError extends Error {
  override readonly name = 'BrokenStreamError'
}

/** Holds at most one message and the chunk in which it ended. */
export class MessageReader {
  private chunks: Uint8Array[] = []
  private held = 0

  /** Bytes of a message that is not whole yet, or has not been asked for. */
  get heldBytes(): number {
    return this.held
  }

  push(chunk: Uint8Array): void {
    this.chunks.push(chunk)
    this.held += chunk.length
  }

  /**
   * The next message, if all of it has come.
   *
   * @throws BrokenStreamError if a header announces a size that no message has
   */
  next(): Message | undefined {
    if (this.held < headerBytes) return undefined
    const size = sizeOf(this.front(headerBytes))
    if (size < headerBytes || size > mostMessageBytes) {
      throw new BrokenStreamError(
        `a message of ${size} bytes was announced: it is ${headerBytes} to ${mostMessageBytes}`,
      )
    }
    if (this.held < size) return undefined
    const all = this.front(size)
    this.chunks = all.length > size ? [all.subarray(size)] : []
    this.held -= size
    // A copy: the caller may keep it, and the chunk is much larger.
    return decodeMessage(all.slice(0, size))
  }

  /** The first chunk, joined with those after it until it has so many bytes. */
  private front(bytes: number): Uint8Array {
    const [first] = this.chunks
    if (first !== undefined && first.length >= bytes) return first
    const all = Buffer.concat(this.chunks)
    this.chunks = [all]
    return all
  }
}
