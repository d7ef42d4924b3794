/**
 * The qtest protocol: a peer that carries out accesses to a machine's ports, registers and memory for us.
 *
 * QEMU docs, devel/testing/qtest: one line of text a command, one line back, `OK` and what was asked, or `FAIL` or `ERR`
 * and why. Commands may be sent before the answers to others have come. Lines that begin with `IRQ` come at any time and
 * answer nothing.
 *
 * @packageDocumentation
 */
import type { Duplex } from 'node:stream'
import { InteropError } from '../interop-error.js'

/** The answers that are waited for. */
interface Exchange {
  readonly lines: readonly string[]
  readonly answers: string[]
  readonly resolve: (answers: readonly string[]) => void
  readonly reject: (error: InteropError) => void
}

/** See the file's comment. */
export class QtestLink {
  private exchange: Exchange | undefined
  private timer: NodeJS.Timeout | undefined
  private partial = ''
  private trouble: InteropError | undefined

  /** @param timeoutSeconds - how long the peer may be silent while answers are due */
  constructor(
    private readonly peer: Duplex,
    private readonly timeoutSeconds: number,
  ) {
    peer.setEncoding('utf8')
    peer.on('data', (text: string) => {
      this.receive(text)
    })
    peer.on('close', () => {
      this.fail('QEMU closed the qtest connection')
    })
    peer.on('error', (error) => {
      this.fail(`the qtest connection broke (${error.message})`)
    })
  }

  /**
   * Sends commands all at once, and waits for the answer to each. One exchange at a time.
   *
   * @returns what stands behind `OK` of each answer; for most commands nothing
   * @throws InteropError if the peer refuses one, says what is no answer, is silent, or has gone; the link is unusable then
   */
  async send(lines: readonly string[]): Promise<readonly string[]> {
    if (this.trouble !== undefined) throw this.trouble
    if (this.exchange !== undefined) throw new Error('an exchange is under way')
    if (lines.length === 0) return []
    return await new Promise((resolve, reject) => {
      this.exchange = { lines, answers: [], resolve, reject }
      this.expectSoon()
      this.peer.write(`${lines.join('\n')}\n`)
    })
  }

  close(): void {
    this.fail('the qtest connection was closed')
  }

  private receive(text: string): void {
    const lines = (this.partial + text).split('\n')
    this.partial = lines.pop() ?? ''
    for (const line of lines) {
      if (!line.startsWith('IRQ')) this.take(line.replace(/\r$/, ''))
    }
  }

  private take(line: string): void {
    const { exchange } = this
    if (exchange === undefined) {
      this.fail(`QEMU sent ${quoted(line)} unasked`)
      return
    }
    if (line !== 'OK' && !line.startsWith('OK ')) {
      const asked = exchange.lines[exchange.answers.length] ?? ''
      this.fail(`QEMU answered ${quoted(line)} to ${quoted(asked)}`)
      return
    }
    exchange.answers.push(line.slice(3))
    if (exchange.answers.length < exchange.lines.length) return
    this.settle()
    exchange.resolve(exchange.answers)
  }

  private expectSoon(): void {
    clearTimeout(this.timer)
    this.timer = setTimeout(() => {
      const { exchange } = this
      const given = exchange?.answers.length ?? 0
      this.fail(`QEMU gave ${given} of ${exchange?.lines.length ?? 0} answers in ${this.timeoutSeconds} s`)
    }, this.timeoutSeconds * 1000)
  }

  private settle(): void {
    clearTimeout(this.timer)
    this.exchange = undefined
  }

  private fail(why: string): void {
    this.trouble ??= new InteropError(`${why}: run it again, or try another QEMU with --qemu`)
    const { exchange } = this
    this.settle()
    this.peer.destroy()
    exchange?.reject(this.trouble)
  }
}

const shownMax = 60

const quoted = (line: string): string =>
  `'${line.length > shownMax ? `${line.slice(0, shownMax)}...` : line}'`
