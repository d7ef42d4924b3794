/** The server as a VMM sees it: bytes over a unix socket, written here by hand from the protocol's tables. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import fc from 'fast-check'
import { InteropError, serveVfioUser, vfioRegion } from '../src/index.js'
import type { DmaRegion, VfioUserClient, VfioUserFunction, VfioUserServer } from '../src/index.js'

const command = {
  ...{ version: 1, dmaMap: 2, dmaUnmap: 3, getInfo: 4, getRegionInfo: 5, getIrqInfo: 7, setIrqs: 8 },
  ...{ regionRead: 9, regionWrite: 10, dmaRead: 11, dmaWrite: 12, reset: 13, deviceFeature: 16 },
} as const
const errno = { ENOENT: 2, EEXIST: 17, EINVAL: 22, EOPNOTSUPP: 95 } as const
const [reply, noReply, error] = [1, 0x10, 0x20]
const barBytes = 0x1000

/** A function that notes what it is asked; BAR 0 is memory, and a write to its last byte throws. */
class NotedFunction implements VfioUserFunction {
  readonly regions = [
    { index: vfioRegion.bar0, sizeBytes: barBytes, readable: true, writable: true },
    { index: vfioRegion.rom, sizeBytes: 0x100, readable: true, writable: false },
    { index: vfioRegion.config, sizeBytes: 256, readable: true, writable: true },
  ]
  readonly msiVectors = 1
  readonly bar = new Uint8Array(barBytes)
  readonly maps: DmaRegion[] = []
  readonly unmaps: string[] = []
  client: VfioUserClient | undefined
  resets = 0

  attached(client: VfioUserClient): void {
    this.client = client
  }
  detached(): void {
    this.client = undefined
  }
  readRegion(index: number, offset: number, into: Uint8Array): void {
    if (index === vfioRegion.bar0) into.set(this.bar.subarray(offset, offset + into.length))
    else into.fill(index)
  }
  writeRegion(_index: number, offset: number, from: Uint8Array): void {
    if (offset === barBytes - 1) throw new RangeError('not here')
    this.bar.set(from, offset)
  }
  mapDma(region: DmaRegion): void {
    this.maps.push(region)
  }
  unmapDma(address: bigint, sizeBytes: bigint): void {
    this.unmaps.push(`${address} ${sizeBytes}`)
  }
  unmapAllDma(): void {
    this.unmaps.push('all')
  }
  reset(): void {
    this.resets++
  }
}

interface Received {
  readonly id: number
  readonly command: number
  readonly flags: number
  readonly error: number
  readonly payload: Buffer
}

const u16 = (...values: number[]): Buffer => Buffer.from(Uint16Array.from(values).buffer)
const u32 = (...values: number[]): Buffer => Buffer.from(Uint32Array.from(values).buffer)
const u64 = (...values: bigint[]): Buffer => Buffer.from(BigUint64Array.from(values).buffer)
const bytes = (...parts: Buffer[]): Buffer => Buffer.concat(parts)

function message(id: number, number: number, payload: Buffer = Buffer.alloc(0), flags = 0): Buffer {
  return bytes(u16(id, number), u32(16 + payload.length, flags, 0), payload)
}

/** The other end of the socket. */
class Vmm {
  private received: Buffer = Buffer.alloc(0)
  private waiting: (() => void) | undefined
  private nextId = 1
  isClosed = false

  private constructor(readonly socket: Socket) {
    socket.on('data', (chunk: Buffer) => {
      this.received = Buffer.concat([this.received, chunk])
      this.waiting?.()
    })
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.isClosed = true
      this.waiting?.()
    })
  }

  static async connect(path: string): Promise<Vmm> {
    const socket = connect(path)
    const vmm = new Vmm(socket)
    await new Promise((resolve) => socket.once('connect', resolve))
    return vmm
  }

  /** Connects and agrees on version 0.1. */
  static async begin(path: string): Promise<Vmm> {
    const vmm = await Vmm.connect(path)
    await vmm.ask(command.version, proposal())
    return vmm
  }

  /** The next message; undefined if the connection is gone. */
  async next(): Promise<Received | undefined> {
    for (;;) {
      if (this.received.length >= 16) {
        const size = this.received.readUInt32LE(4)
        if (this.received.length >= size) {
          const whole = this.received.subarray(0, size)
          this.received = this.received.subarray(size)
          return {
            ...{ id: whole.readUInt16LE(0), command: whole.readUInt16LE(2), flags: whole.readUInt32LE(8) },
            ...{ error: whole.readUInt32LE(12), payload: Buffer.from(whole.subarray(16)) },
          }
        }
      }
      if (this.isClosed) return undefined
      await new Promise<void>((resolve) => (this.waiting = resolve))
    }
  }

  /** Sends a request and takes its reply. */
  async ask(number: number, payload?: Buffer): Promise<Received> {
    const id = this.nextId++
    this.socket.write(message(id, number, payload))
    const answer = await this.next()
    if (answer === undefined) throw new Error('the server hung up')
    expect(answer.id).toBe(id)
    expect(answer.command).toBe(number)
    return answer
  }

  /** Asks, and takes the errno: 0 for none. An error comes with nothing but the header. */
  async errnoOf(number: number, payload?: Buffer): Promise<number> {
    const answer = await this.ask(number, payload)
    if ((answer.flags & error) === 0) return 0
    expect(answer.flags).toBe(reply | error)
    expect(answer.payload.length).toBe(0)
    return answer.error
  }

  async closed(): Promise<void> {
    while ((await this.next()) !== undefined);
  }
}

const allCapabilities = {
  ...{ max_msg_fds: 8, max_data_xfer_size: 1048576, pgsizes: 4096, max_dma_maps: 65535 },
  ...{ write_multiple: true, twin_socket: { supported: true } },
}
const proposal = (capabilities: object = allCapabilities, major = 0, minor = 1): Buffer =>
  bytes(u16(major, minor), Buffer.from(`${JSON.stringify({ capabilities })}\0`))

const access = (region: number, offset: bigint, count: number): Buffer =>
  bytes(u64(offset), u32(region, count))
const dmaMap = (address: bigint, size: bigint, { flags = 3, offset = 0n } = {}): Buffer =>
  bytes(u32(32, flags), u64(offset, address, size))
const dmaUnmap = (address: bigint, size: bigint, flags = 0): Buffer =>
  bytes(u32(24, flags), u64(address, size))
const irqs = (index: number, start: number, count: number): Buffer => u32(20, 0x21, index, start, count)

let folder: string
let path: string
let device: NotedFunction
let server: VfioUserServer
let reports: string[]

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'nw-vu-'))
  path = join(folder, 's')
  device = new NotedFunction()
  reports = []
  server = await serveVfioUser({ path, device, report: (line) => reports.push(line) })
})
afterEach(async () => {
  await server.close()
  rmSync(folder, { recursive: true })
})

describe('a session', () => {
  it('begins with a version: the same major, at most our minor, and what of ours the client named', async () => {
    const vmm = await Vmm.connect(path)
    const { flags, payload } = await vmm.ask(command.version, proposal(allCapabilities, 0, 3))
    expect(flags).toBe(reply)
    expect([payload.readUInt16LE(0), payload.readUInt16LE(2)]).toEqual([0, 1])
    expect(payload.at(-1)).toBe(0)
    expect(JSON.parse(payload.subarray(4, -1).toString())).toEqual({
      capabilities: { max_msg_fds: 8, max_data_xfer_size: 1048576, pgsizes: 4096 },
    })
  })

  it('begins without any text too, and with an older minor version', async () => {
    const vmm = await Vmm.connect(path)
    const { payload } = await vmm.ask(command.version, u16(0, 0))
    expect(payload.readUInt16LE(2)).toBe(0)
    expect(JSON.parse(payload.subarray(4, -1).toString())).toEqual({ capabilities: {} })
  })

  it.each([
    ['another major version', proposal({}, 1), errno.EOPNOTSUPP],
    ['a text that is no JSON', bytes(u16(0, 1), Buffer.from('{"capa\0')), errno.EINVAL],
    ['a text without an end', bytes(u16(0, 1), Buffer.from('{}')), errno.EINVAL],
    ['a text that is a number', bytes(u16(0, 1), Buffer.from('7\0')), errno.EINVAL],
    ['capabilities that are a word', bytes(u16(0, 1), Buffer.from('{"capabilities":"x"}\0')), errno.EINVAL],
    ['bytes that are no text', bytes(u16(0, 1), Buffer.from([0xff, 0xfe, 0])), errno.EINVAL],
    ['three bytes', Buffer.alloc(3), errno.EINVAL],
  ])('is refused and ended for %s', async (_, payload, code) => {
    const vmm = await Vmm.connect(path)
    expect(await vmm.errnoOf(command.version, payload)).toBe(code)
    await vmm.closed()
    expect(reports.some((line) => line.includes('the connection was ended'))).toBe(true)
  })

  it('is ended if anything else comes first', async () => {
    const vmm = await Vmm.connect(path)
    expect(await vmm.errnoOf(command.getInfo, u32(16, 0, 0, 0))).toBe(errno.EINVAL)
    await vmm.closed()
  })

  it('has one version only', async () => {
    const vmm = await Vmm.begin(path)
    expect(await vmm.errnoOf(command.version, proposal())).toBe(errno.EINVAL)
    expect(await vmm.errnoOf(command.reset)).toBe(0)
  })

  it('is one at a time; when it ends the next may come, the memory is taken back and the state stays', async () => {
    const first = await Vmm.begin(path)
    await first.ask(command.regionWrite, bytes(access(0, 8n, 4), u32(0x11223344)))
    const second = await Vmm.connect(path)
    await second.closed()
    expect(reports).toEqual([`${path}: a second client came while the first was there, and was sent away`])
    first.socket.destroy()
    await first.closed()
    await expect.poll(() => device.client).toBe(undefined)
    expect(device.unmaps).toEqual(['all'])
    const third = await Vmm.begin(path)
    const { payload } = await third.ask(command.regionRead, access(0, 8n, 4))
    expect(payload.readUInt32LE(16)).toBe(0x11223344)
  })
})

describe('a function', () => {
  it('is a PCI device with a reset, nine regions and five kinds of interrupt', async () => {
    const vmm = await Vmm.begin(path)
    const { payload } = await vmm.ask(command.getInfo, u32(16, 0, 0, 0))
    expect(payload).toEqual(u32(16, 3, 9, 5))
  })

  it('tells of its regions, those too that it does not have', async () => {
    const vmm = await Vmm.begin(path)
    const info = async (index: number): Promise<Buffer> =>
      (await vmm.ask(command.getRegionInfo, bytes(u32(32, 0, index, 0), u64(0n, 0n)))).payload
    expect(await info(0)).toEqual(bytes(u32(32, 3, 0, 0), u64(0x1000n, 0n)))
    expect(await info(1)).toEqual(bytes(u32(32, 0, 1, 0), u64(0n, 0n)))
    expect(await info(6)).toEqual(bytes(u32(32, 1, 6, 0), u64(0x100n, 0n)))
    expect(await info(7)).toEqual(bytes(u32(32, 3, 7, 0), u64(0x100n, 0n)))
    const beyond = bytes(u32(32, 0, 9, 0), u64(0n, 0n))
    expect(await vmm.errnoOf(command.getRegionInfo, beyond)).toBe(errno.EINVAL)
  })

  it('has one MSI vector and no other interrupt', async () => {
    const vmm = await Vmm.begin(path)
    const counts: number[] = []
    for (const index of [0, 1, 2, 3, 4]) {
      const { payload } = await vmm.ask(command.getIrqInfo, u32(16, 0, index, 0))
      expect([payload.readUInt32LE(0), payload.readUInt32LE(8)]).toEqual([16, index])
      counts.push(payload.readUInt32LE(12))
    }
    expect(counts).toEqual([0, 1, 0, 0, 0])
    expect(await vmm.errnoOf(command.getIrqInfo, u32(16, 0, 5, 0))).toBe(errno.EINVAL)
  })

  it.each([
    ['its one MSI', irqs(1, 0, 1), 0],
    ['none of them', irqs(0, 0, 0), 0],
    ['two MSIs', irqs(1, 0, 2), errno.EINVAL],
    ['the second MSI', irqs(1, 1, 1), errno.EINVAL],
    ['INTx', irqs(0, 0, 1), errno.EINVAL],
    ['a kind there is not', irqs(5, 0, 0), errno.EINVAL],
    ['half of the structure', u32(20, 0x21), errno.EINVAL],
  ])('takes how interrupts are to come, for %s', async (_, payload, code) => {
    const vmm = await Vmm.begin(path)
    expect(await vmm.errnoOf(command.setIrqs, payload)).toBe(code)
  })

  it('is reset on demand', async () => {
    const vmm = await Vmm.begin(path)
    expect(await vmm.errnoOf(command.reset)).toBe(0)
    expect(device.resets).toBe(1)
  })
})

describe('a region', () => {
  it('is read and written at an offset', async () => {
    const vmm = await Vmm.begin(path)
    const written = await vmm.ask(command.regionWrite, bytes(access(0, 0x10n, 8), u64(0x123456789abcdefn)))
    expect(written.payload).toEqual(access(0, 0x10n, 8))
    expect(device.bar.subarray(0x10, 0x18)).toEqual(new Uint8Array(u64(0x123456789abcdefn)))
    const read = await vmm.ask(command.regionRead, access(0, 0x12n, 2))
    expect(read.payload).toEqual(bytes(access(0, 0x12n, 2), Buffer.from([0xab, 0x89])))
  })

  it('is written without a reply if none is wanted, before what comes after it', async () => {
    const vmm = await Vmm.begin(path)
    vmm.socket.write(message(70, command.regionWrite, bytes(access(0, 0n, 4), u32(5)), noReply))
    vmm.socket.write(message(71, command.regionWrite, access(9, 0n, 4), noReply))
    const { payload } = await vmm.ask(command.regionRead, access(0, 0n, 4))
    expect(payload.readUInt32LE(16)).toBe(5)
  })

  const whole = Buffer.alloc(4)
  it.each([
    ['a read beyond the end', command.regionRead, access(0, 0xffdn, 4)],
    ['a read of the whole address space', command.regionRead, access(0, 0n, 0xffffffff)],
    ['a read at the end of all offsets', command.regionRead, access(0, 0xfffffffffffffffen, 4)],
    ['a read of nothing', command.regionRead, access(0, 0n, 0)],
    ['a read of a region that it does not have', command.regionRead, access(1, 0n, 4)],
    ['a read of a region that there is not', command.regionRead, access(9, 0n, 4)],
    ['half of the structure', command.regionRead, u64(0n)],
    ['a write to a region that is only read', command.regionWrite, bytes(access(6, 0n, 4), whole)],
    ['a write with fewer bytes than it says', command.regionWrite, bytes(access(0, 0n, 8), whole)],
    ['a write with more bytes than it says', command.regionWrite, bytes(access(0, 0n, 2), whole)],
    [
      'a write that the function will not have',
      command.regionWrite,
      bytes(access(0, 0xfffn, 1), whole.subarray(3)),
    ],
  ])('refuses %s, and changes nothing', async (_, number, payload) => {
    const vmm = await Vmm.begin(path)
    const before = device.bar.slice()
    expect(await vmm.errnoOf(number, payload)).toBe(errno.EINVAL)
    expect(device.bar).toEqual(before)
    expect(await vmm.errnoOf(command.reset)).toBe(0)
  })
})

describe("the guest's memory", () => {
  it('is told of with its place in a file and its rights, and taken back as it was given', async () => {
    const vmm = await Vmm.begin(path)
    expect(await vmm.errnoOf(command.dmaMap, dmaMap(0x100000n, 0x2000n, { flags: 1, offset: 0x5000n }))).toBe(
      0,
    )
    expect(device.maps).toEqual([
      { address: 0x100000n, sizeBytes: 0x2000n, fileOffset: 0x5000n, readable: true, writable: false },
    ])
    const { payload } = await vmm.ask(command.dmaUnmap, dmaUnmap(0x100000n, 0x2000n))
    expect(payload).toEqual(dmaUnmap(0x100000n, 0x2000n))
    expect(device.unmaps).toEqual([`1048576 8192`])
  })

  it('is taken back as a whole', async () => {
    const vmm = await Vmm.begin(path)
    await vmm.ask(command.dmaMap, dmaMap(0n, 0x1000n))
    await vmm.ask(command.dmaMap, dmaMap(0x1000n, 0x1000n))
    expect(await vmm.errnoOf(command.dmaUnmap, dmaUnmap(0n, 0n, 2))).toBe(0)
    expect(device.unmaps).toEqual(['all'])
    expect(await vmm.errnoOf(command.dmaMap, dmaMap(0n, 0x2000n))).toBe(0)
  })

  it.each([
    ['the same again', 0x2000n, 0x2000n],
    ['its last byte', 0x3fffn, 1n],
    ['its first byte from below', 0x1000n, 0x1001n],
    ['all of it and more', 0n, 0x10000n],
    ['a part of it', 0x2800n, 0x100n],
  ])('does not overlap: %s', async (_, address, size) => {
    const vmm = await Vmm.begin(path)
    await vmm.ask(command.dmaMap, dmaMap(0x2000n, 0x2000n))
    expect(await vmm.errnoOf(command.dmaMap, dmaMap(address, size))).toBe(errno.EEXIST)
    expect(device.maps.length).toBe(1)
    expect(await vmm.errnoOf(command.dmaMap, dmaMap(0x1000n, 0x1000n))).toBe(0)
    expect(await vmm.errnoOf(command.dmaMap, dmaMap(0x4000n, 0x1000n))).toBe(0)
  })

  it.each([
    ['no size', dmaMap(0n, 0n)],
    ['an end beyond the address space', dmaMap(0xfffffffffffff000n, 0x1001n)],
    ['flags that there are not', dmaMap(0n, 0x1000n, { flags: 0x13 })],
    ['half of the structure', u32(32, 3, 0, 0)],
  ])('cannot have %s', async (_, payload) => {
    const vmm = await Vmm.begin(path)
    expect(await vmm.errnoOf(command.dmaMap, payload)).toBe(errno.EINVAL)
    expect(device.maps).toEqual([])
  })

  it('reaches to the end of the address space', async () => {
    const vmm = await Vmm.begin(path)
    expect(await vmm.errnoOf(command.dmaMap, dmaMap(0xfffffffffffff000n, 0x1000n))).toBe(0)
  })

  it.each([
    ['elsewhere', dmaUnmap(0x5000n, 0x1000n), errno.ENOENT],
    ['in part', dmaUnmap(0x2000n, 0x1000n), errno.ENOENT],
    ['with flags that there are not', dmaUnmap(0x2000n, 0x2000n, 1), errno.EINVAL],
    ['as a whole, and named as well', dmaUnmap(0x2000n, 0x2000n, 2), errno.EINVAL],
    ['in half a structure', u32(24, 0), errno.EINVAL],
  ])('is not taken back %s', async (_, payload, code) => {
    const vmm = await Vmm.begin(path)
    await vmm.ask(command.dmaMap, dmaMap(0x2000n, 0x2000n))
    expect(await vmm.errnoOf(command.dmaUnmap, payload)).toBe(code)
    expect(device.unmaps).toEqual([])
    expect(await vmm.errnoOf(command.dmaUnmap, dmaUnmap(0x2000n, 0x2000n))).toBe(0)
  })

  it('is written by the function with a message of its own, and a reply is taken', async () => {
    const vmm = await Vmm.begin(path)
    device.client?.writeMemory(0xfee00000n, u32(0x4021))
    const asked = await vmm.next()
    expect(asked).toMatchObject({ command: command.dmaWrite, flags: 0 })
    expect(asked?.payload).toEqual(bytes(u64(0xfee00000n, 4n), u32(0x4021)))
    vmm.socket.write(message(asked?.id ?? 0, command.dmaWrite, u64(0xfee00000n, 4n), reply))
    expect(await vmm.errnoOf(command.reset)).toBe(0)
    expect(reports).toEqual([])
  })

  it('is not written before there is a version, nor after the end', async () => {
    const vmm = await Vmm.connect(path)
    await expect.poll(() => device.client).not.toBe(undefined)
    const { client } = device
    client?.writeMemory(0n, u32(1))
    await vmm.ask(command.version, proposal())
    vmm.socket.destroy()
    await expect.poll(() => device.client).toBe(undefined)
    client?.writeMemory(0n, u32(1))
    expect(reports).toEqual([])
  })

  it('is told in a report if it refuses a write, or if a reply answers nothing', async () => {
    const vmm = await Vmm.begin(path)
    device.client?.writeMemory(0xabc000n, u32(1))
    const { id = 0 } = (await vmm.next()) ?? {}
    vmm.socket.write(bytes(u16(id, command.dmaWrite), u32(16, reply | error, errno.EINVAL)))
    vmm.socket.write(message(id, command.dmaWrite, undefined, reply))
    await vmm.ask(command.reset)
    expect(reports).toEqual([
      `${path}: a write to 0xabc000 was refused with error 22`,
      `${path}: a reply came to message ${id}, which waits for none`,
    ])
  })

  it('gets no more writes than can wait for their reply', async () => {
    const vmm = await Vmm.begin(path)
    for (let n = 0; n < 5000; n++) device.client?.writeMemory(0n, u32(n))
    await vmm.ask(command.reset).catch(() => undefined)
    expect(reports.length).toBe(5000 - 4096)
    expect(reports[0]).toContain('was dropped: 4096 wait for their reply')
  })

  it('takes at most 1 MiB at once', async () => {
    await Vmm.begin(path)
    expect(() => device.client?.writeMemory(0n, new Uint8Array(0x100001))).toThrow(RangeError)
  })
})

describe('bad input', () => {
  it('an unknown command gets an errno, and the session goes on', async () => {
    const vmm = await Vmm.begin(path)
    for (const number of [0, 6, 11, command.deviceFeature, 99, 0xffff]) {
      expect(await vmm.errnoOf(number, Buffer.alloc(20))).toBe(errno.EOPNOTSUPP)
    }
    expect(await vmm.errnoOf(command.reset)).toBe(0)
  })

  it('a type of message that there is not gets an errno', async () => {
    const vmm = await Vmm.begin(path)
    vmm.socket.write(message(9, command.reset, undefined, 2))
    expect(await vmm.next()).toMatchObject({ flags: reply | error, error: errno.EINVAL })
    expect(device.resets).toBe(0)
  })

  it.each([
    ['less than its header', 15],
    ['nothing', 0],
    ['more than any message', 16 + 16 + (1 << 20) + 1],
    ['four gigabytes', 0xffffffff],
  ])('a message that says it has %s ends the connection, and the next client is served', async (_, size) => {
    const vmm = await Vmm.begin(path)
    vmm.socket.write(bytes(u16(1, command.reset), u32(size, 0, 0)))
    await vmm.closed()
    expect(reports).toEqual([
      `${path}: the connection was ended: a message of ${size} bytes was announced: it is 16 to 1048608`,
    ])
    await expect.poll(() => device.client).toBe(undefined)
    expect(await (await Vmm.begin(path)).errnoOf(command.reset)).toBe(0)
  })

  it('half a message is told of when the client leaves', async () => {
    const vmm = await Vmm.begin(path)
    vmm.socket.end(message(1, command.regionWrite, bytes(access(0, 0n, 8), u64(1n))).subarray(0, 30))
    await vmm.closed()
    await expect
      .poll(() => reports)
      .toEqual([`${path}: the client left in the middle of a message, 30 bytes into it`])
    expect(device.bar[0]).toBe(0)
  })

  it('messages may come byte by byte, or many at once', async () => {
    const vmm = await Vmm.begin(path)
    for (const byte of message(40, command.regionWrite, bytes(access(0, 0n, 4), u32(0xabcd)))) {
      vmm.socket.write(Buffer.from([byte]))
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect((await vmm.next())?.id).toBe(40)
    const many = Array.from({ length: 1000 }, (_, n) => message(n, command.regionRead, access(0, 0n, 4)))
    vmm.socket.write(Buffer.concat(many))
    for (let n = 0; n < 1000; n++) {
      const answer = await vmm.next()
      expect([answer?.id, answer?.payload.readUInt32LE(16)]).toEqual([n, 0xabcd])
    }
  })

  it('a client that does not read its replies is not read either', async () => {
    const vmm = await Vmm.begin(path)
    vmm.socket.pause()
    let reads = 0
    device.readRegion = () => reads++
    const question = message(1, command.regionRead, access(0, 0n, 0x1000))
    const count = 20_000
    vmm.socket.write(Buffer.concat(Array.from({ length: count }, () => question)))
    await expect.poll(() => reads, { timeout: 20_000 }).toBeGreaterThan(0)
    let before = -1
    while (before !== reads) {
      before = reads
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
    expect(reads).toBeLessThan(count / 10)
    vmm.socket.resume()
    for (let n = 0; n < count; n++) await vmm.next()
    expect(reads).toBe(count)
  })

  it('whatever bytes come, the server lives and the next client is served', async () => {
    const garbage = fc.oneof(
      fc.uint8Array({ maxLength: 100 }).map((each) => Buffer.from(each)),
      fc
        .tuple(fc.nat(20), fc.uint8Array({ maxLength: 48 }), fc.nat(0x3f))
        .map(([number, payload, flags]) => message(1, number, Buffer.from(payload), flags)),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(garbage, { maxLength: 8 }), fc.boolean(), async (parts, isAgreed) => {
        await expect.poll(() => device.client).toBe(undefined)
        const vmm = isAgreed ? await Vmm.begin(path) : await Vmm.connect(path)
        vmm.socket.end(Buffer.concat(parts))
        vmm.socket.resume()
        await vmm.closed()
        await expect.poll(() => device.client).toBe(undefined)
        const next = await Vmm.begin(path)
        expect(await next.errnoOf(command.reset)).toBe(0)
        next.socket.destroy()
        await next.closed()
      }),
      { numRuns: 60 },
    )
  })
})

describe('the socket', () => {
  it('is its owner’s alone, and goes with the server', async () => {
    expect(statSync(path).mode & 0o777).toBe(0o600)
    await server.close()
    expect(existsSync(path)).toBe(false)
    server = await serveVfioUser({ path, device, report: () => undefined })
  })

  const attempt = (at: string): Promise<VfioUserServer> =>
    serveVfioUser({ path: at, device: new NotedFunction(), report: () => undefined })

  it('is refused with the cure where there cannot be one', async () => {
    await expect(attempt(join(folder, 'x'.repeat(110)))).rejects.toThrow(
      /path has \d+ bytes, and may have 1 to 107: choose another/,
    )
    await expect(attempt('')).rejects.toThrow(InteropError)
    await expect(attempt(join(folder, 'no', 'such'))).rejects.toThrow(/no socket can be made at .*: choose/)
    await expect(attempt(path)).rejects.toThrow(/another server listens at .* already/)
    writeFileSync(join(folder, 'file'), 'mine')
    await expect(attempt(join(folder, 'file'))).rejects.toThrow(/is there already and is no socket/)
  })

  it('replaces one that a dead server has left behind', async () => {
    const left = join(folder, 'left')
    const program = `require('net').createServer().listen(${JSON.stringify(left)}, () => process.kill(process.pid, 9))`
    spawnSync(process.execPath, ['-e', program])
    expect(statSync(left).isSocket()).toBe(true)
    const again = await attempt(left)
    expect(await (await Vmm.begin(left)).errnoOf(command.reset)).toBe(0)
    await again.close()
  })
})
