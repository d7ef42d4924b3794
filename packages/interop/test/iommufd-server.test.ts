/** The server as a program's side sees it: bytes over a unix socket, written here by hand from the wire format. */
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import fc from 'fast-check'
import { serveIommufd } from '../src/index.js'
import type { IommufdServer, RefusedCall } from '../src/index.js'
import { fakeIoctl, FakeKernel } from './fake-kernel.js'

const [hello, open, attach, ioctl, read, write, poll, mmap, munmap, barrier, procStatus] = [
  1, 2, 3, 16, 17, 18, 19, 20, 21, 22, 23,
] as const
const result = 48
const uid = process.getuid?.() ?? 0

/** Little-endian: numbers are u32, bigints u64, and bytes are themselves. */
const bytesOf = (...parts: readonly (number | bigint | Uint8Array)[]): Buffer =>
  Buffer.concat(
    parts.map((part) => {
      if (part instanceof Uint8Array) return part
      const bytes = Buffer.alloc(typeof part === 'bigint' ? 8 : 4)
      if (typeof part === 'bigint') bytes.writeBigUInt64LE(BigInt.asUintN(64, part))
      else bytes.writeUInt32LE(part >>> 0)
      return bytes
    }),
  )

const messageOf = (type: number, ...parts: readonly (number | bigint | Uint8Array)[]): Buffer => {
  const body = bytesOf(...parts)
  return Buffer.concat([bytesOf(8 + body.length, type), body])
}

/** One connection, and what has come over it. */
class Peer {
  private held = Buffer.alloc(0)
  private wake: () => void = () => undefined
  isEnded = false

  private constructor(readonly socket: Socket) {
    socket.on('data', (chunk: Buffer) => {
      this.held = Buffer.concat([this.held, chunk])
      this.wake()
    })
    for (const event of ['close', 'error'] as const) {
      socket.on(event, () => {
        this.isEnded = true
        this.wake()
      })
    }
  }

  static async connect(path: string): Promise<Peer> {
    const socket = connect(path)
    const peer = new Peer(socket)
    await new Promise((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    return peer
  }

  send(bytes: Uint8Array): void {
    this.socket.write(bytes)
  }

  /** The body of the next message, which is a result; `undefined` where the connection has ended. */
  async next(): Promise<Buffer | undefined> {
    for (;;) {
      if (this.held.length >= 8 && this.held.length >= this.held.readUInt32LE(0)) {
        const length = this.held.readUInt32LE(0)
        expect(this.held.readUInt16LE(4)).toBe(result)
        const body = this.held.subarray(8, length)
        this.held = this.held.subarray(length)
        return body
      }
      if (this.isEnded) return undefined
      await new Promise<void>((resolve) => (this.wake = resolve))
    }
  }

  async ask(bytes: Uint8Array): Promise<Buffer> {
    this.send(bytes)
    const body = await this.next()
    if (body === undefined) throw new Error('the server hung up')
    return body
  }

  async end(): Promise<void> {
    this.socket.destroy()
    while (!this.isEnded) await new Promise<void>((resolve) => (this.wake = resolve))
  }
}

/** A result's parts. */
function parsed(body: Buffer) {
  const [writes, files]: [{ address: bigint; bytes: Buffer }[], bigint[][]] = [[], []]
  let at = 24
  for (let left = body.readUInt32LE(12); left > 0; left--) {
    const length = body.readUInt32LE(at + 8)
    writes.push({ address: body.readBigUInt64LE(at), bytes: body.subarray(at + 16, at + 16 + length) })
    at += 16 + ((length + 7) & ~7)
  }
  for (let left = body.readUInt32LE(16); left > 0; left--, at += 24) {
    files.push([body.readBigUInt64LE(at), body.readBigUInt64LE(at + 8), BigInt(body.readUInt32LE(at + 16))])
  }
  const data = body.subarray(at)
  expect(data.length).toBe(body.readUInt32LE(20))
  return { ret: Number(body.readBigInt64LE(0)), errno: body.readInt32LE(8), writes, files, data }
}

const helloOf = (pid = process.pid, user = uid, version = 1): Buffer =>
  messageOf(hello, version, pid, user, 4096)

const wordsOf = (...words: readonly bigint[]): Buffer =>
  bytesOf(...Array.from({ length: 8 }, (_, index) => words[index] ?? 0n))

/** Where the argument is said to be: nothing of the test process is there. */
const argument = 0x10_0000n

let folder: string
let path: string
let kernel: FakeKernel
let server: IommufdServer
let reports: string[]
let refused: RefusedCall[]
let peers: Peer[]

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'iommufd-'))
  path = join(folder, 'socket')
  kernel = new FakeKernel()
  ;[reports, refused, peers] = [[], [], []]
  server = await serveIommufd({
    ...{ path, kernel },
    report: (line) => reports.push(line),
    onRefused: (call) => refused.push(call),
  })
})

afterEach(async () => {
  await Promise.all(peers.map((peer) => peer.end()))
  await server.close()
  rmSync(folder, { recursive: true })
})

async function peerOf(): Promise<Peer> {
  const peer = await Peer.connect(path)
  peers.push(peer)
  return peer
}

async function control(): Promise<Peer> {
  const peer = await peerOf()
  peer.send(helloOf())
  return peer
}

/** A connection that stands for a file, and the file's handle. */
async function openFile(kind = 1n): Promise<{ peer: Peer; handle: bigint; errno: number }> {
  const peer = await peerOf()
  const body = await peer.ask(messageOf(open, kind, 2, process.pid))
  expect(body.length).toBe(16)
  return { peer, handle: body.readBigUInt64LE(8), errno: body.readInt32LE(0) }
}

const ioctlOf = (handle: bigint, cmd: number, bytes: Uint8Array, at = argument, caps = 0n): Buffer =>
  messageOf(ioctl, handle, cmd, process.pid, at, caps, bytes.length, 0, bytes)

async function call(peer: Peer, handle: bigint, cmd: number, ...words: readonly bigint[]) {
  return parsed(await peer.ask(ioctlOf(handle, cmd, wordsOf(...words))))
}

/** An address of this process, by what the line of its mapping says. */
function ownAddress(line: RegExp): bigint {
  const found = readFileSync('/proc/self/maps', 'latin1')
    .split('\n')
    .find((each) => line.test(each))
  return BigInt(`0x${/^[0-9a-f]+/.exec(found ?? '')?.[0] ?? '0'}`)
}

describe('the socket', () => {
  it('may be used by its owner only', () => {
    expect(statSync(path).mode & 0o777).toBe(0o600)
  })

  it.each([
    ['another user', helloOf(process.pid, uid + 1), 'is not served'],
    ['a process of another user', helloOf(uid === 0 ? 0x7fff_fff0 : 1), 'is not served'],
    ['another version', helloOf(process.pid, uid, 2), 'version 2'],
    ['a short HELLO', messageOf(hello, 1), 'another length'],
    ['a request before HELLO', messageOf(barrier), 'began with a message of type 22'],
    ['an unknown type', messageOf(99), 'type 99'],
    ['a length below the header', bytesOf(7, 1), 'a message of 7 bytes'],
    ['a length beyond all messages', bytesOf(0xffff_ffff, 1), 'a message of 4294967295 bytes'],
  ])('is closed to %s', async (_name, bytes, says) => {
    const peer = await peerOf()
    peer.send(bytes)
    expect(await peer.next()).toBeUndefined()
    expect(reports.join()).toContain(says)
  })
})

describe('an open file', () => {
  it('is opened by its connection, and closed with the last of them', async () => {
    const { peer, handle, errno } = await openFile()
    expect({ errno, open: kernel.openFiles }).toEqual({ errno: 0, open: 1 })
    const second = await peerOf()
    const attached = await second.ask(messageOf(attach, handle, 0, process.pid))
    expect(attached.readBigUInt64LE(8)).toBe(handle)
    await peer.end()
    const caller = await control()
    expect(parsed(await caller.ask(messageOf(poll, handle, 4, 0))).ret).toBe(4)
    await second.end()
    expect(parsed(await caller.ask(messageOf(poll, handle, 4, 0))).errno).toBe(9)
    expect(kernel.openFiles).toBe(0)
  })

  it.each([
    ['a VFIO container', 2n, 0],
    ['a fail-nth file', 3n, 0],
    ['a VFIO device that is there', 4n | (7n << 32n), 0],
    ['a VFIO device that is not', 4n | (8n << 32n), 19],
    ['a kind that is not known', 5n, 19],
  ])('may be %s', async (_name, kind, errno) => {
    expect((await openFile(kind)).errno).toBe(errno)
  })

  it('cannot be attached to under a handle that there is not', async () => {
    const peer = await peerOf()
    const body = await peer.ask(messageOf(attach, 77n, 0, process.pid))
    expect(body.readInt32LE(0)).toBe(9)
  })

  it('is closed when its connection goes on to talk', async () => {
    const { peer } = await openFile()
    peer.send(messageOf(barrier))
    expect(await peer.next()).toBeUndefined()
    expect(kernel.openFiles).toBe(0)
  })
})

describe('an ioctl', () => {
  it('is refused where its result cannot be written', async () => {
    const { handle } = await openFile()
    const { ret, errno, writes } = await call(await control(), handle, fakeIoctl.sum, 40n, 2n)
    expect({ ret, errno }).toEqual({ ret: -1, errno: 14 })
    expect(writes).toEqual([])
  })

  it('reads and writes memory where it lies', async () => {
    const { handle } = await openFile()
    const caller = await control()
    const stack = ownAddress(/\[stack\]/)
    const { errno, writes } = parsed(
      await caller.ask(ioctlOf(handle, fakeIoctl.sum, wordsOf(40n, 2n), stack)),
    )
    expect(errno).toBe(0)
    expect(writes.map(({ address }) => address)).toEqual([stack])
    expect(writes[0]?.bytes.readBigUInt64LE(16)).toBe(42n)
    const elf = ownAddress(/node/)
    const copied = await caller.ask(ioctlOf(handle, fakeIoctl.copy, wordsOf(elf, stack + 0x1000n, 4n), stack))
    expect(parsed(copied).writes[0]?.bytes.toString('latin1')).toBe('\u007fELF')
  })

  it.each([
    ['read where nothing is', 0x1000n, () => ownAddress(/\[stack\]/)],
    ['read at the end of all addresses', (1n << 64n) - 8n, () => ownAddress(/\[stack\]/)],
    ['written where it may only be read', 0n, () => ownAddress(/ r--p .*node/)],
  ])('is refused for memory that is %s', async (_name, from, to) => {
    const { handle } = await openFile()
    const stack = ownAddress(/\[stack\]/)
    const words = wordsOf(from === 0n ? stack : from, to(), 16n)
    const { errno } = parsed(await (await control()).ask(ioctlOf(handle, fakeIoctl.copy, words, stack)))
    expect(errno).toBe(14)
  })

  it('knows who calls', async () => {
    const { handle } = await openFile()
    const stack = ownAddress(/\[stack\]/)
    const capabilities = (1n << 14n) | (1n << 24n)
    const { writes } = parsed(
      await (await control()).ask(ioctlOf(handle, fakeIoctl.who, wordsOf(), stack, capabilities)),
    )
    const [user, rights, limit] = [0, 8, 16].map((at) => writes[0]?.bytes.readBigUInt64LE(at))
    const line = /^Max locked memory\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1]
    expect(user).toBe(BigInt(uid))
    expect(rights).toBe(3n)
    expect(limit).toBe(line === 'unlimited' ? (1n << 64n) - 1n : BigInt(line ?? '0'))
  })

  it('opens files, which are closed if nobody comes for them', async () => {
    const { handle } = await openFile()
    const caller = await control()
    const stack = ownAddress(/\[stack\]/)
    const opened = parsed(await caller.ask(ioctlOf(handle, fakeIoctl.openAt, wordsOf(0x1234n), stack)))
    expect(opened.files).toEqual([[expect.anything(), 0x1234n, 1n]])
    expect(kernel.openFiles).toBe(2)
    expect(parsed(await caller.ask(messageOf(barrier))).ret).toBe(0)
    expect(kernel.openFiles).toBe(1)
  })

  it('tells its own files, shared memory and others apart', async () => {
    const { handle } = await openFile()
    const caller = await control()
    const stack = ownAddress(/\[stack\]/)
    const list = bytesOf(55, 1, handle)
    const kindOf = async (descriptor: bigint) => {
      const words = wordsOf(descriptor)
      const body = await caller.ask(
        messageOf(
          ...([
            ioctl,
            handle,
            fakeIoctl.fileKind,
            process.pid,
            stack,
            0n,
            words.length,
            1,
            list,
            words,
          ] as const),
        ),
      )
      return parsed(body).writes[0]?.bytes.readBigUInt64LE(8)
    }
    expect(await kindOf(55n)).toBe(1n)
    expect(await kindOf(9999n)).toBe(0n)
    expect(
      await kindOf(BigInt((peers[0]?.socket as unknown as { _handle: { fd: number } })._handle.fd)),
    ).toBe(3n)
  })

  it('writes also when it is refused, and says by which rule', async () => {
    const { handle } = await openFile()
    const stack = ownAddress(/\[stack\]/)
    const { ret, errno, writes } = parsed(
      await (await control()).ask(ioctlOf(handle, fakeIoctl.refuse, wordsOf(), stack)),
    )
    expect({ ret, errno }).toEqual({ ret: -1, errno: 52 })
    expect(writes[0]?.bytes.readBigUInt64LE(0)).toBe(1n)
    expect(refused).toEqual([
      { pid: process.pid, call: 'ioctl 0xf', errno: 'EBADE', rule: 'a-rule', why: 'because' },
    ])
  })

  it('costs no more than itself where the kernel makes a mistake', async () => {
    const { handle } = await openFile()
    const caller = await control()
    const stack = ownAddress(/\[stack\]/)
    expect(parsed(await caller.ask(ioctlOf(handle, fakeIoctl.fail, wordsOf(), stack))).errno).toBe(5)
    expect(reports.join()).toContain('a mistake')
    expect(parsed(await caller.ask(messageOf(barrier))).ret).toBe(0)
  })

  it('that announces more than it brings ends its connection only', async () => {
    const { handle } = await openFile()
    const [bad, good] = [await control(), await control()]
    bad.send(messageOf(ioctl, handle, fakeIoctl.sum, process.pid, argument, 0n, 64, 1))
    expect(await bad.next()).toBeUndefined()
    expect(parsed(await good.ask(messageOf(barrier))).ret).toBe(0)
  })
})

describe('other calls', () => {
  it('read with an offset or without', async () => {
    const { handle } = await openFile()
    const caller = await control()
    const plain = parsed(await caller.ask(messageOf(read, handle, 3n, -1n)))
    expect(plain).toMatchObject({ ret: 3, data: Buffer.from([0xff, 0xff, 0xff]) })
    expect(parsed(await caller.ask(messageOf(read, handle, 2n, 40n))).data).toEqual(Buffer.from([40, 40]))
  })

  it('write what could be read of the buffer', async () => {
    const { handle } = await openFile()
    const written = await (await control()).ask(messageOf(write, handle, -1n, 5n, Uint8Array.of(1, 2)))
    expect(parsed(written).ret).toBe(2)
    expect(kernel.calls).toEqual(['write 1,2 of 5 at -1'])
  })

  it('poll', async () => {
    const { handle } = await openFile()
    expect(parsed(await (await control()).ask(messageOf(poll, handle, 5, 0))).ret).toBe(4)
  })

  it('count what a process has pinned, in KiB', async () => {
    const caller = await control()
    await openFile()
    const { data } = parsed(await caller.ask(messageOf(procStatus, process.pid, 0)))
    expect([data.readBigInt64LE(0), data.readBigInt64LE(8)]).toEqual([4n, 8n])
    const other = parsed(await caller.ask(messageOf(procStatus, 0x7fff_fff0, 0)))
    expect(other.data.readBigInt64LE(0)).toBe(0n)
  })

  it('arm a failure, and read what is left', async () => {
    const { handle } = await openFile(3n)
    const caller = await control()
    expect(parsed(await caller.ask(messageOf(write, handle, 0n, 2n, Buffer.from('12')))).ret).toBe(2)
    expect([...kernel.armed.values()]).toEqual([12])
    expect(parsed(await caller.ask(messageOf(read, handle, 100n, 0n))).data.toString()).toBe('12\n')
    expect(parsed(await caller.ask(messageOf(write, handle, 0n, 1n, Buffer.from('x')))).errno).toBe(22)
  })

  it.each([ioctl, read, write, poll, mmap])(
    'of type %i say EBADF for a handle that there is not',
    async (type) => {
      const body = { [ioctl]: [0, process.pid, 0n, 0n, 0, 0], [mmap]: [4096n, 3, 1, 0n] }[type as number] ?? [
        0n,
        0n,
      ]
      expect(parsed(await (await control()).ask(messageOf(type, 99n, ...body))).errno).toBe(9)
    },
  )
})

describe('a mapped region', () => {
  it('is shared through a file that has no name, until it is unmapped', async () => {
    const { handle } = await openFile()
    const caller = await control()
    const refusedOne = parsed(await caller.ask(messageOf(mmap, handle, 4096n, 3, 1, 0x1000n)))
    expect(refusedOne.errno).toBe(6)
    const { ret, data } = parsed(await caller.ask(messageOf(mmap, handle, 8192n, 3, 1, 0x1000n)))
    const file = data.toString()
    expect(readFileSync(file)[0]).toBe(0x5a)
    const stack = ownAddress(/\[stack\]/)
    await caller.ask(ioctlOf(handle, fakeIoctl.region, wordsOf(0n, 0x77n), stack))
    expect(readFileSync(file)[0]).toBe(0x77)
    expect(kernel.mapped).toBe(1)
    expect(parsed(await caller.ask(messageOf(munmap, BigInt(ret)))).ret).toBe(0)
    expect(kernel.mapped).toBe(0)
    expect(parsed(await caller.ask(messageOf(munmap, BigInt(ret)))).errno).toBe(22)
  })

  it('keeps its file open, and is unmapped when the process ends', async () => {
    const { peer, handle } = await openFile()
    const caller = await control()
    await caller.ask(messageOf(mmap, handle, 8192n, 3, 1, 0x1000n))
    await peer.end()
    await caller.ask(messageOf(barrier))
    expect([kernel.mapped, kernel.openFiles]).toEqual([1, 1])
    await caller.end()
    await (await control()).ask(messageOf(barrier))
    expect([kernel.mapped, kernel.openFiles]).toEqual([0, 0])
  })
})

describe('the order of things', () => {
  it('a file that is closed before a barrier is closed when it is answered', async () => {
    const caller = await control()
    for (let round = 0; round < 200; round++) {
      const { peer } = await openFile()
      peer.socket.destroy()
      await caller.ask(messageOf(barrier))
      expect(kernel.openFiles).toBe(0)
    }
  })

  it('a program that dies in the middle of a call leaves the others alone', async () => {
    const { handle } = await openFile()
    const [dying, living] = [await control(), await control()]
    const stack = ownAddress(/\[stack\]/)
    dying.send(ioctlOf(handle, fakeIoctl.openAt, wordsOf(0n), stack))
    dying.send(ioctlOf(handle, fakeIoctl.sum, wordsOf(), stack).subarray(0, 20))
    dying.socket.destroySoon()
    await dying.end()
    await living.ask(messageOf(barrier))
    await living.ask(messageOf(barrier))
    expect(kernel.openFiles).toBe(1)
  })

  it('a message may come in any pieces, and messages together', async () => {
    const { handle } = await openFile()
    const stack = ownAddress(/\[stack\]/)
    const all = Buffer.concat([
      helloOf(),
      ioctlOf(handle, fakeIoctl.sum, wordsOf(1n, 2n), stack),
      ioctlOf(handle, fakeIoctl.sum, wordsOf(3n, 4n), stack),
    ])
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 60 }), { maxLength: 8 }), async (sizes) => {
        const peer = await peerOf()
        let at = 0
        for (const size of sizes) {
          peer.send(all.subarray(at, at + size))
          at += size
          await new Promise((resolve) => setImmediate(resolve))
        }
        peer.send(all.subarray(at))
        const sums = []
        for (let answer = 0; answer < 2; answer++) {
          const body = await peer.next()
          sums.push(body && parsed(body).writes[0]?.bytes.readBigUInt64LE(16))
        }
        expect(sums).toEqual([3n, 7n])
      }),
      { numRuns: 30 },
    )
  })

  it('no bytes whatever end the server', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: 1, maxLength: 200 }),
        fc.boolean(),
        async (bytes, isGreeted) => {
          const peer = isGreeted ? await control() : await peerOf()
          peer.send(bytes)
          peer.socket.end()
          while (!peer.isEnded) await peer.next()
        },
      ),
      { numRuns: 100 },
    )
    expect(reports.join()).not.toContain('a mistake in nestwalk')
    expect(parsed(await (await control()).ask(messageOf(barrier))).ret).toBe(0)
  })
})
