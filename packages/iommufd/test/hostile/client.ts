/** A program that calls anything with anything: every field of every structure, on any of its files. */
import { ioctls } from '../../src/abi/ioctl-table.js'
import type { Ioctl } from '../../src/abi/ioctl.js'
import type { Context } from '../../src/context.js'
import { IommuFile } from '../../src/file/iommu-file.js'
import type { Kernel } from '../../src/file/kernel.js'
import { VfioDeviceFile } from '../../src/file/vfio-device-file.js'
import type { IommufdObject, ObjectId } from '../../src/object/object.js'
import type { FileResult, OpenFile } from '../../src/open-file.js'
import type { Region } from '../../src/backend.js'
import { errnoNumbers } from '../../src/outcome.js'
import { rules } from '../../src/rules/rules.js'
import type { CallName, Rule } from '../../src/rules/rule.js'
import type { SimulatedHost } from '../../src/simulated-process.js'
import { SimulatedProcess } from '../../src/simulated-process.js'
import type { Random } from './random.js'

const last64 = (1n << 64n) - 1n
const page = 4096n

/** Where structures are laid. */
const argumentAddress = 0x5000_0000n
/** Memory that is mapped, read and written; the last page can only be read. */
const bufferAddress = 0x6000_0000n
const bufferPages = 64
const hugeAddress = 0x4000_0000n

/** Types that somebody knows. */
const types = [0, 1, 2, 3, 4, 0xdead, 0xdeadbeef, 0xbeefbeef, 0xfeedbeef, 0xdadbeef]

/** A guest's device table entry with a table, or words of all kinds of requests: few bits are set. */
function guestEntry(random: Random): Uint8Array {
  const words = new BigUint64Array(512)
  words.set([0x64c0_0000_0000_0003n, BigInt(random.below(4)), 0n, 0n])
  for (let at = 4; at < words.length; at++)
    words[at] = BigInt(random.below(5)) | (BigInt(random.below(3)) << 32n)
  return new Uint8Array(words.buffer)
}

const vfioCommands = [0x3b64, 0x3b65, 0x3b66, 0x3b70, 0x3b71, 0x3b72, 0x3b75, 0x3b76, 0x3b77, 0x3b78]

export interface Tally {
  /** How often each call ended how: `ioas_map EINVAL`. */
  readonly outcomes: Map<string, number>
  /** Refusals whose rule is not in the catalogue, or not for that call. */
  readonly unexplained: Set<string>
  longestMs: number
  longest: string
}

export class HostileClient {
  private readonly process: SimulatedProcess<OpenFile>
  private readonly descriptors: number[] = []
  private readonly regions: { readonly file: OpenFile; readonly region: Region }[] = []

  /** Whether the structure at hand comes with driver data. */
  private givesData = false

  constructor(
    private readonly kernel: Kernel,
    private readonly random: Random,
    host: SimulatedHost,
    private readonly testCall: Ioctl | undefined,
    private readonly tally: Tally,
  ) {
    const capabilities = { ipcLock: random.chance(0.5), sysResource: random.chance(0.5), rawIo: false }
    this.process = SimulatedProcess.create<OpenFile>(host, { capabilities, uid: random.below(2) })
    const { memory } = this.process
    memory.map(2 * 4096, { address: argumentAddress })
    memory.map(bufferPages * 4096, { address: bufferAddress })
    memory.map(4096, { address: bufferAddress + BigInt(bufferPages) * page, writeable: false })
    memory.map(2 << 20, { address: hugeAddress, huge: true })
    memory.write(bufferAddress, guestEntry(random))
    this.process.open(host.createFile(16 * 4096))
    this.keep(kernel.openIommu())
  }

  /** One call of any kind. */
  act(): void {
    const before = performance.now()
    const what = this.call()
    const ms = performance.now() - before
    if (ms <= this.tally.longestMs) return
    this.tally.longestMs = ms
    this.tally.longest = what
  }

  /** The program dies: its files are closed, its memory goes. */
  die(): void {
    for (const { file, region } of this.regions) file.munmap(region)
    for (const descriptor of this.descriptors) (this.process.file(descriptor) as OpenFile).close()
    this.process.kill()
  }

  private call(): string {
    const { random } = this
    const kind = random.below(100)
    if (kind < 88) return this.ioctl()
    const file = this.anyFile()
    switch (kind) {
      case 88:
      case 89:
        return this.count('read', file.read(this.process, this.smallCount(), this.offset()))
      case 90:
      case 91: {
        const count = this.smallCount()
        const bytes = new Uint8Array(Number(count)).map(() => random.below(4))
        return this.count('write', file.write(this.process, bytes, count, this.offset()))
      }
      case 92:
        file.poll(0xffff)
        return 'poll'
      case 93:
        return this.mmap(file)
      case 94: {
        const [mapped] = this.regions.splice(random.below(this.regions.length + 1), 1)
        mapped?.file.munmap(mapped.region)
        return 'munmap'
      }
      case 95:
        return this.random.chance(0.3) ? this.close() : this.open()
      default:
        return this.open()
    }
  }

  private ioctl(): string {
    const { random } = this
    if (random.chance(0.1)) return this.vfio()
    const all = this.testCall === undefined ? ioctls : [...ioctls, this.testCall, this.testCall]
    const ioctl = random.pick(all)
    const bytes = this.structure(ioctl)
    if (!this.process.memory.write(argumentAddress, bytes)) throw new Error('no room for the structure')
    const cmd = random.chance(0.02) ? random.below(0x10000) : 0x3b00 + ioctl.number
    const argument = random.chance(0.02) ? this.address() : argumentAddress
    const result = this.anyFile().ioctl({ cmd, argument, process: this.process })
    return this.count(cmd === 0x3b00 + ioctl.number ? ioctl.name : 'ioctl', result)
  }

  /** The calls of VFIO, whose structures are 16 to 32 bytes of sizes, flags and addresses. */
  private vfio(): string {
    const { random } = this
    if (random.chance(0.6)) return this.vfioDevice()
    const bytes = new Uint8Array(64)
    const view = new DataView(bytes.buffer)
    view.setUint32(0, random.pick([8, 12, 16, 24, 32, 64, 0, 0xffff_ffff]), true)
    view.setUint32(4, random.below(5), true)
    if (random.chance(0.5)) {
      for (let at = 8; at < 32; at += 8) view.setBigUint64(at, this.wide(), true)
    } else for (let at = 8; at < 24; at += 4) view.setUint32(at, this.narrow(), true)
    this.process.memory.write(argumentAddress, bytes)
    const cmd = random.pick(vfioCommands)
    const argument = random.chance(0.3) ? BigInt(random.below(12)) : argumentAddress
    return this.count('vfio', this.anyFile().ioctl({ cmd, argument, process: this.process }))
  }

  /** A device is bound, attached, or detached, as its driver would. */
  private vfioDevice(): string {
    const { random } = this
    const cmd = random.pick([0x3b76, 0x3b77, 0x3b77, 0x3b78])
    const view = new DataView(new ArrayBuffer(24))
    view.setUint32(0, cmd === 0x3b78 ? 12 : 16, true)
    view.setUint32(4, cmd === 0x3b76 || random.chance(0.8) ? 0 : 1, true)
    view.setUint32(
      8,
      cmd === 0x3b76 ? (this.descriptors[0] ?? 0) : this.idOf('ioas', 'paging-hwpt', 'nested-hwpt'),
      true,
    )
    view.setUint32(12, random.below(4), true)
    this.process.memory.write(argumentAddress, new Uint8Array(view.buffer))
    const devices = this.descriptors.filter((each) => this.process.file(each) instanceof VfioDeviceFile)
    const file = devices.length === 0 ? this.anyFile() : (this.process.file(random.pick(devices)) as OpenFile)
    return this.count('vfio', file.ioctl({ cmd, argument: argumentAddress, process: this.process }))
  }

  private structure({ name: call, struct, min }: Ioctl): Uint8Array {
    const { random } = this
    this.givesData = random.chance(0.4)
    const bytes = new Uint8Array(struct.byteLength + 16)
    const view = new DataView(bytes.buffer)
    for (const [name, { offset, byteLength }] of Object.entries(struct.fields)) {
      if (byteLength === 8) view.setBigUint64(offset, this.wide(), true)
      else if (byteLength === 4) view.setUint32(offset, this.field(call, name), true)
      else if (byteLength === 2)
        view.setUint16(offset, name === 'op' ? random.below(3) : this.field(call, name) & 0xffff, true)
      else if (byteLength > 8) this.scatter(view, offset, byteLength)
    }
    const size = random.chance(0.95)
      ? struct.byteLength
      : random.pick([0, min - 1, min, struct.byteLength + 4, struct.byteLength + 16, 0x10_0001, 0xffff_ffff])
    view.setUint32(0, size, true)
    if (random.chance(0.02)) view.setUint32(struct.byteLength, 1, true)
    return bytes
  }

  /** The union of the test command: numbers of both widths. */
  private scatter(view: DataView, offset: number, byteLength: number): void {
    for (let at = offset; at < offset + byteLength; at += 8) {
      if (this.random.chance(0.5)) view.setBigUint64(at, this.wide(), true)
      else {
        view.setUint32(at, this.narrow(), true)
        view.setUint32(at + 4, this.narrow(), true)
      }
    }
  }

  /** Mostly what a sensible program would say, so that calls get somewhere. */
  private field(call: CallName, name: string): number {
    const { random } = this
    if (random.chance(0.03)) return random.next()
    switch (name) {
      case 'reserved':
      case 'unchecked':
        return random.chance(0.99) ? 0 : 1
      case 'flags':
        return this.flags(call)
      case 'op':
        return random.chance(0.4) ? random.pick([2, 12, 5, 7, 18]) : random.below(25)
      case 'type':
      case 'dataType':
        if (call === 'hwpt_alloc' && !this.givesData) return 0
        return random.chance(0.85) ? random.pick(this.usualTypes(call)) : random.pick(types)
      case 'dataLen':
        return this.givesData ? random.pick([4, 8, 24, 24, 32, 32]) : 0
      case 'entryLen':
        return random.pick([8, 12, 16])
      case 'fd':
        return random.below(8)
      case 'ptId':
        return this.idOf('ioas', 'paging-hwpt', 'viommu')
      case 'ioasId':
      case 'dstIoasId':
      case 'srcIoasId':
      case 'objectId':
        return this.idOf('ioas')
      case 'devId':
        return this.idOf('device')
      case 'hwptId':
        return call === 'hwpt_invalidate' ? this.idOf('nested-hwpt', 'viommu') : this.idOf('paging-hwpt')
      case 'viommuId':
        return this.idOf('viommu')
      case 'faultId':
        return this.idOf('fault')
      case 'optionId':
      case 'index':
        return random.below(3)
      case 'veventqDepth':
        return random.below(6)
      case 'entryNum':
      case 'numIovas':
        return random.below(5)
      case 'id':
        return call === 'destroy'
          ? random.below(40)
          : this.idOf('ioas', 'selftest', 'selftest', 'device', 'paging-hwpt', 'nested-hwpt')
      default:
        return this.narrow()
    }
  }

  private flags(call: CallName): number {
    const { random } = this
    switch (call) {
      case 'ioas_map':
      case 'ioas_map_file':
      case 'ioas_copy':
        return random.pick([7, 7, 6, 5, 3, 1])
      case 'hwpt_alloc':
        return random.pick([0, 0, 1, 1, 1, 2, 3, 4, 8, 8, 12, 16])
      default:
        return random.chance(0.85) ? 0 : random.below(5)
    }
  }

  private usualTypes(call: CallName): readonly number[] {
    const isMock = this.testCall !== undefined
    switch (call) {
      case 'hwpt_alloc':
        return isMock ? [0xdead] : [3]
      case 'veventq_alloc':
        return isMock ? [0xbeefbeef] : [3]
      default:
        return isMock ? [0xdeadbeef] : [3, 4]
    }
  }

  /** A 32-bit number: of an object, a descriptor, a small count, a type. */
  private narrow(): number {
    const { random } = this
    switch (random.below(6)) {
      case 0:
        return random.pick(types)
      case 1:
        return random.pick([4, 8, 12, 16, 24, 32, 40, 0xffff_ffff])
      case 2:
        return this.idOf('ioas', 'device', 'selftest', 'paging-hwpt', 'nested-hwpt')
      default:
        return random.below(12)
    }
  }

  /** Number of an object of a kind, of some context; or any small number. */
  private idOf(...kinds: readonly IommufdObject['kind'][]): ObjectId {
    const { random } = this
    if (random.chance(0.12)) return random.below(16)
    const context = this.ownContext()
    if (context === undefined) return random.below(4)
    const kind = random.pick(kinds)
    const ids: ObjectId[] = []
    for (const [id] of context.objects.all(kind)) {
      ids.push(id)
      if (ids.length === 8) break
    }
    return ids.length === 0 ? random.below(16) : random.pick(ids)
  }

  /** The context of the first file. */
  private ownContext(): Context | undefined {
    const file = this.process.file(this.descriptors[0] ?? 0)
    return file instanceof IommuFile ? file.shared.context : undefined
  }

  /** A 64-bit number: an address here or there, a length, or what lies at the edges. */
  private wide(): bigint {
    const { random } = this
    switch (random.below(8)) {
      case 0:
        return this.address()
      case 1:
        return BigInt(random.below(5)) * page
      case 2:
        return random.pick([
          0n,
          1n,
          2048n,
          4096n,
          0x20_0000n,
          1n << 32n,
          1n << 47n,
          1n << 63n,
          last64,
          last64 - page + 1n,
        ])
      case 3:
        return BigInt(random.below(1 << 16))
      case 4:
        return random.bits(64)
      case 5:
        return BigInt(random.pick(types))
      default:
        return (
          0x100_0000n +
          BigInt(random.below(64)) * page +
          (random.chance(0.1) ? BigInt(random.below(4096)) : 0n)
        )
    }
  }

  private address(): bigint {
    const { random } = this
    switch (random.below(6)) {
      case 0:
        return random.pick([0n, 1n, last64, last64 - 8n, 0x1000n])
      case 2:
      case 3:
        return bufferAddress
      case 1:
        return hugeAddress + BigInt(random.below(512)) * page
      default:
        return (
          bufferAddress +
          BigInt(random.below(bufferPages + 2)) * page +
          (random.chance(0.2) ? BigInt(random.below(4096)) : 0n)
        )
    }
  }

  private smallCount(): bigint {
    return BigInt(this.random.pick([0, 7, 8, 12, 16, 24, 39, 40, 80, 400, 4096]))
  }

  private offset(): bigint {
    return this.random.chance(0.9) ? -1n : BigInt(this.random.below(100))
  }

  private anyFile(): OpenFile {
    const { random } = this
    // The first file is /dev/iommu: most calls are for it.
    const descriptor = random.chance(0.85) ? this.descriptors[0] : random.pick(this.descriptors)
    return this.process.file(descriptor ?? 0) as OpenFile
  }

  private mmap(file: OpenFile): string {
    const { random } = this
    const flags = random.chance(0.9) ? 1 : 2
    const protection = random.chance(0.9) ? 3 : 7
    const length = BigInt(random.pick([0, 4096, 8192, 100]))
    const done = file.mmap({ length, protection, flags, offset: BigInt(random.below(4)) * page })
    if (done.region !== undefined) this.regions.push({ file, region: done.region })
    return this.count('mmap', done)
  }

  private open(): string {
    const { random } = this
    if (this.descriptors.length > 24) return this.close()
    const file = random.chance(0.5)
      ? this.kernel.openVfioDevice(random.below(5))
      : random.chance(0.3)
        ? this.kernel.openVfioContainer()
        : this.kernel.openIommu()
    if (file !== undefined) this.keep(file)
    return 'open'
  }

  private close(): string {
    const { random } = this
    if (this.descriptors.length <= 1) return 'close'
    const [descriptor = 0] = this.descriptors.splice(1 + random.below(this.descriptors.length - 1), 1)
    const file = this.process.file(descriptor) as OpenFile
    if (this.regions.some((mapped) => mapped.file === file)) {
      // Mapped memory keeps its file open.
      this.descriptors.push(descriptor)
      return 'close'
    }
    this.process.close(descriptor)
    file.close()
    return 'close'
  }

  private keep(file: OpenFile): void {
    this.descriptors.push(this.process.open(file))
  }

  private count(what: string, result: FileResult): string {
    for (const { file } of result.newFiles ?? []) {
      if (this.descriptors.length < 24) this.keep(file)
      else file.close()
    }
    const name = `${what} ${result.errno ?? 'done'}`
    const { outcomes, unexplained } = this.tally
    outcomes.set(name, (outcomes.get(name) ?? 0) + 1)
    if (result.errno !== undefined && !(result.errno in errnoNumbers))
      unexplained.add(`${name}: no such errno`)
    if (result.errno !== undefined) this.explain(what, result, unexplained)
    return name
  }

  /** Whatever is refused is refused by a rule that is known for the call. */
  private explain(what: string, { rule = '', errno }: FileResult, unexplained: Set<string>): void {
    const known = (rules as Readonly<Record<string, Rule>>)[rule]
    if (known === undefined)
      unexplained.add(`${what}: ${errno ?? ''} by ${rule}, which is not in the catalogue`)
    else if (known.errno !== errno)
      unexplained.add(`${what}: ${errno ?? ''} by ${rule}, which gives ${known.errno}`)
    else if (
      what !== 'vfio' &&
      what !== 'ioctl' &&
      !known.calls.some((call) => call === what || call === 'ioctl' || call.endsWith(`_${what}`))
    )
      unexplained.add(`${what}: ${rule} is not known for it`)
  }
}
