import { Duplex } from 'node:stream'
import { afterEach, expect, test } from 'vitest'
import { InteropError, QtestLink } from '../src/index.js'

/** The peer's end of a connection, in the test's hands. */
class FakePeer extends Duplex {
  /** What was sent to it. */
  received = ''

  override _read(): void {
    // What it says is pushed by the test.
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.received += chunk.toString()
    done()
  }

  says(text: string): void {
    this.push(text)
  }
}

const peers: FakePeer[] = []

function connect(timeoutSeconds = 10): { peer: FakePeer; link: QtestLink } {
  const peer = new FakePeer()
  peers.push(peer)
  return { peer, link: new QtestLink(peer, timeoutSeconds) }
}

afterEach(() => {
  for (const peer of peers.splice(0)) peer.destroy()
})

/** What a promise is rejected with. */
async function trouble(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise
    return undefined
  } catch (error) {
    return error
  }
}

test('commands go out together, and the answers come back in order', async () => {
  const { peer, link } = connect()
  const answers = link.send(['readq 0x10', 'writeq 0x10 0x1', 'inb 0x70'])
  peer.says('OK 0x0000000000000005\nOK\nOK 0x00ff\n')
  expect(await answers).toEqual(['0x0000000000000005', '', '0x00ff'])
  expect(peer.received).toBe('readq 0x10\nwriteq 0x10 0x1\ninb 0x70\n')
})

test('lines that come in pieces, and with carriage returns, are put together', async () => {
  const { peer, link } = connect()
  const answers = link.send(['readl 0x0', 'readl 0x4'])
  for (const piece of ['O', 'K 0x1', '2\r', '\nOK', ' 0x34\n']) {
    peer.says(piece)
    await new Promise((resolve) => setImmediate(resolve))
  }
  expect(await answers).toEqual(['0x12', '0x34'])
})

test('interrupt lines answer nothing, wherever they come', async () => {
  const { peer, link } = connect()
  peer.says('IRQ raise 10\n')
  const answers = link.send(['clock_step 100', 'inb 0x70'])
  peer.says('IRQ lower 10\nOK 100\nIRQ raise 3\nOK 0x0\nIRQ lower 3\n')
  expect(await answers).toEqual(['100', '0x0'])
})

test('one exchange follows another', async () => {
  const { peer, link } = connect()
  const first = link.send(['inb 0x70'])
  peer.says('OK 0x1\n')
  expect(await first).toEqual(['0x1'])
  const second = link.send(['inb 0x70'])
  peer.says('OK 0x2\n')
  expect(await second).toEqual(['0x2'])
})

test('nothing to send is answered at once, and nothing is sent', async () => {
  const { peer, link } = connect()
  expect(await link.send([])).toEqual([])
  expect(peer.received).toBe('')
})

test.each(['FAIL Unknown command', 'ERR no such address', 'OKAY', ''])(
  'an answer of %j is trouble, and says to which command',
  async (answer) => {
    const { peer, link } = connect()
    const answers = trouble(link.send(['inb 0x70', 'frobnicate']))
    peer.says(`OK 0x0\n${answer}\n`)
    const error = await answers
    expect(error).toBeInstanceOf(InteropError)
    expect(String(error)).toContain(`QEMU answered '${answer}' to 'frobnicate'`)
  },
)

test('an answer that nobody asked for is trouble', async () => {
  const { peer, link } = connect()
  peer.says('OK 0x0\n')
  await new Promise((resolve) => setImmediate(resolve))
  expect(String(await trouble(link.send(['inb 0x70'])))).toContain("QEMU sent 'OK 0x0' unasked")
})

test('a peer that falls silent is given up after the timeout, with what it did answer', async () => {
  const { peer, link } = connect(0.05)
  const answers = trouble(link.send(['inb 0x70', 'inb 0x71']))
  peer.says('OK 0x0\n')
  const error = await answers
  expect(error).toBeInstanceOf(InteropError)
  expect(String(error)).toContain('QEMU gave 1 of 2 answers in 0.05 s')
  expect(peer.destroyed).toBe(true)
})

test('a peer that dies in the middle ends the exchange', async () => {
  const { peer, link } = connect()
  const answers = trouble(link.send(['inb 0x70']))
  peer.says('OK 0')
  peer.destroy()
  expect(String(await answers)).toContain('QEMU closed the qtest connection')
})

test('a connection that breaks says why', async () => {
  const { peer, link } = connect()
  const answers = trouble(link.send(['inb 0x70']))
  peer.destroy(new Error('read ECONNRESET'))
  expect(String(await answers)).toContain('the qtest connection broke (read ECONNRESET)')
})

test('after trouble the link stays unusable, with the same words', async () => {
  const { peer, link } = connect()
  const answers = trouble(link.send(['nonsense']))
  peer.says('FAIL Unknown command\n')
  const first = await answers
  expect(await trouble(link.send(['inb 0x70']))).toBe(first)
})

test('two exchanges at once are a mistake of the caller', async () => {
  const { peer, link } = connect()
  const first = link.send(['inb 0x70'])
  expect(await trouble(link.send(['inb 0x71']))).not.toBeInstanceOf(InteropError)
  peer.says('OK 0x0\n')
  expect(await first).toEqual(['0x0'])
})
