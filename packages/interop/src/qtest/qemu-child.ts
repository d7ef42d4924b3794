/**
 * A QEMU that we drive, and its end, whatever happens.
 *
 * @packageDocumentation
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { InteropError } from '../interop-error.js'
import type { QemuBinary } from '../qemu/qemu-binary.js'

/** Lines of its words that are kept. */
const keptLines = 4
const graceMilliseconds = 500

/** See the file's comment. */
export class QemuChild {
  /** Rejects when QEMU ends before {@link end} was called. */
  readonly ended: Promise<never>
  private readonly child: ChildProcess
  private readonly gone: Promise<void>
  private isWanted = true
  private readonly said: string[] = []
  private readonly kill = (): void => void this.child.kill('SIGKILL')

  constructor(qemu: QemuBinary, args: readonly string[]) {
    // The kernel ends it with us, even if we are killed; the handler below is for our own ends, which come sooner.
    const lifecycle = ['-run-with', 'exit-with-parent=on']
    this.child = spawn(qemu.program, [...qemu.leadingArgs, ...lifecycle, ...args], {
      env: { ...process.env, ...qemu.env },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    process.once('exit', this.kill)
    if (this.child.stderr !== null) {
      createInterface({ input: this.child.stderr }).on('line', (line) => {
        this.said.push(line)
        if (this.said.length > keptLines) this.said.shift()
      })
    }
    this.gone = new Promise((resolve) => {
      this.child.once('close', () => {
        resolve()
      })
      this.child.once('error', () => {
        resolve()
      })
    })
    this.ended = new Promise<never>((_, reject) => {
      this.child.once('error', (error) => {
        reject(
          new InteropError(`QEMU cannot be started (${error.message}): see that ${qemu.program} runs here`),
        )
      })
      this.child.once('close', (code, signal) => {
        if (this.isWanted) reject(this.died(String(code ?? signal)))
      })
    })
    // Whoever waits for something of QEMU also waits for this; nobody has to.
    this.ended.catch(() => undefined)
  }

  /**
   * What comes of something that QEMU is waited for. If it fails because QEMU ended, that is the error.
   *
   * @throws InteropError if QEMU ends, or what `awaited` throws
   */
  async orItsEnd<Result>(awaited: Promise<Result>): Promise<Result> {
    try {
      return await Promise.race([awaited, this.ended])
    } catch (error) {
      // A connection breaks a moment before its owner is seen to be gone.
      await Promise.race([this.ended, new Promise((resolve) => setTimeout(resolve, graceMilliseconds))])
      throw error
    }
  }

  /** Ends it, and waits until it is gone. */
  async end(): Promise<void> {
    this.isWanted = false
    this.kill()
    await this.gone
    process.removeListener('exit', this.kill)
  }

  private died(code: string): InteropError {
    const words = this.said.length === 0 ? '' : ` (${this.said.join('; ')})`
    return new InteropError(`QEMU ended with ${code}${words}: see that it runs on this machine`)
  }
}
