/** Random programs of binary calls, mostly about objects that there are. */
import fc from 'fast-check'
import type { Context, FileResult, ObjectId, ObjectKind, Region } from '../../src/index.js'
import { aperture } from '../mock-program.js'
import type { Called } from '../mock-program.js'
import { AbiProgram, out32, page, words } from './program.js'

/** What is done, and three numbers that say to what. */
export type RandomStep = readonly [name: string, a: number, b: number, c: number]

interface Open {
  readonly fd: number
  /** The object that the descriptor holds; `undefined`: none. */
  readonly object: ObjectId | undefined
}

/** See the file's comment. */
export class RandomProgram {
  readonly program = new AbiProgram()
  private readonly buffer = this.program.buffer(16)
  private readonly readOnly = this.program.buffer(1, { writeable: false })
  private readonly opened: Open[] = []
  private readonly accesses: number[] = []
  private readonly offered: bigint[] = []
  private readonly mapped: { readonly region: Region; readonly viommu: ObjectId }[] = []

  get context(): Context {
    const [context] = this.program.kernel.iommufd.contexts
    return context!
  }

  /** Everything that matters for the future. */
  state = (): unknown => [this.program.kernel.iommufd.snapshot(), this.program.backend.snapshot()]

  /** Descriptors and mappings by the object that they hold. */
  get held(): Map<ObjectId, number> {
    const held = new Map<ObjectId, number>()
    const all = [...this.opened.map(({ object }) => object), ...this.mapped.map(({ viommu }) => viommu)]
    for (const id of all) if (id !== undefined) held.set(id, (held.get(id) ?? 0) + 1)
    return held
  }

  /** Does a step: its errno, or nothing. */
  run([name, a, b, c]: RandomStep): string | undefined {
    return this.steps[name]!(a, b, c)
  }

  /** Closes every descriptor, that of `/dev/iommu` first, and unmaps what is mapped. */
  close(): void {
    const file = this.program.file(this.program.iommu)
    this.program.close(this.program.iommu)
    for (const { region } of this.mapped) file.munmap(region)
    for (const { fd } of this.opened) this.program.close(fd)
    for (const fd of this.accesses) this.program.close(fd)
  }

  private readonly steps: Readonly<Record<string, (a: number, b: number, c: number) => string | undefined>> =
    {
      ioas: () => this.program.call(0x81, 12, {}).errno,
      destroy: (a) => this.program.destroy(this.any(a)),
      device: (a, b) =>
        this.program.test(12, this.pick(a, 'ioas', 'paging-hwpt', 'nested-hwpt'), { 28: [0, 1, 4][b % 3]! })
          .errno,
      replace: (a, b) => this.program.test(10, this.pick(a, 'selftest'), { 16: this.table(b) }).errno,
      pasidAttach: (a, b, c) => this.pasid(18, a, c, b),
      pasidReplace: (a, b, c) => this.pasid(19, a, c, b),
      pasidDetach: (a, _b, c) => this.program.test(20, this.pick(a, 'selftest'), { 16: 1 + (c % 2) }).errno,
      map: (a, b, c) =>
        this.program.map(
          this.pick(a, 'ioas'),
          this.slot(b),
          c % 5 === 0 ? this.readOnly : this.buffer,
          BigInt(1 + (c % 4)) * page,
          c % 7 === 0 ? 5 : 7,
        ).errno,
      unmap: (a, b, c) =>
        this.program.unmap(this.pick(a, 'ioas'), this.slot(b), BigInt(1 + (c % 8)) * page).errno,
      copy: (a, b, c) =>
        this.program.copy(
          [this.pick(a, 'ioas'), this.slot(b)],
          [this.pick(c, 'ioas'), this.slot(b + c)],
          page,
        ).errno,
      hwpt: (a, b, c) => {
        const flags = [0, 1, 2, 4, 8, 5, 3, 8, 12][c % 9]!
        return this.program.alloc(this.pick(a, 'device'), this.pick(b, 'ioas'), {
          flags,
          fault: this.pick(c, 'fault'),
        }).errno
      },
      nested: (a, b, c) => {
        const flags = [0, 4, 8, 0, 1][c % 5]!
        const on = this.pick(b, 'viommu', 'paging-hwpt')
        const fault = this.pick(c, 'fault')
        return this.program.alloc(this.pick(a, 'device'), on, { flags, fault, data: [c] }).errno
      },
      viommu: (a, b, c) => {
        const data = c % 2 === 0 ? {} : { data: [1, 0, 0, 0, 0, 0] }
        const made = this.program.viommu(this.pick(a, 'device'), this.pick(b, 'paging-hwpt'), data)
        if (made.errno === undefined && c % 2 !== 0)
          this.offered.push(BigInt(words(this.program.read(this.program.room, 12))[2]!))
        return made.errno
      },
      vdevice: (a, b, c) =>
        this.program.vdevice(this.pick(a, 'viommu'), this.pick(b, 'device'), BigInt(c % 3)).errno,
      veventq: (a, b) => {
        const made = this.program.veventq(this.pick(a, 'viommu'), 2, 0xbeef_beef + (b % 2))
        return this.open(made, 24, made.u32(20))
      },
      fault: () => {
        const made = this.program.call(0x8e, 16, {})
        return this.open(made, 12, made.u32(8))
      },
      hwQueue: (a, b, c) => this.program.hwQueue(this.pick(a, 'viommu'), b % 2, this.slot(c), page).errno,
      access: (a, b) => {
        const made = this.program.test(5, this.pick(a, 'ioas'), { 20: b % 2 })
        if (made.errno === undefined) this.accesses.push(made.u32(16))
        return made.errno
      },
      accessReplace: (a, b) =>
        this.onAccess(b, (fd) => this.program.test(11, fd, { 16: this.pick(a, 'ioas') }).errno),
      pin: (a, b) => this.onAccess(a, (fd) => this.program.test(7, fd, { 24: this.slot(b), 32: page }).errno),
      closeAccess: (a) =>
        this.onAccess(a, (fd) => {
          this.program.close(fd)
          this.accesses.splice(this.accesses.indexOf(fd), 1)
          return undefined
        }),
      closeQueue: (a) => {
        const [open] = this.opened.splice(a % Math.max(1, this.opened.length), 1)
        if (open !== undefined) this.program.close(open.fd)
        return undefined
      },
      mmap: (a) => {
        const offset = this.offered[a % Math.max(1, this.offered.length)] ?? 0n
        const { errno, region } = this.program.mmap(8192n, offset) as FileResult & { region?: Region }
        if (region !== undefined) this.mapped.push({ region, viommu: this.context.regions.ownerOf(region)! })
        return errno
      },
      munmap: (a) => {
        const [mapping] = this.mapped.splice(a % Math.max(1, this.mapped.length), 1)
        if (mapping !== undefined) this.program.file(this.program.iommu).munmap(mapping.region)
        return undefined
      },
      faultOf: (a, b) => this.program.fault(this.pick(a, 'device'), b, { pasid: b % 3 }).errno,
      eventOf: (a) => this.program.event(this.pick(a, 'device')).errno,
    }

  /** The n-th object of some kinds; now and then any number. */
  private pick(n: number, ...kinds: readonly ObjectKind[]): ObjectId {
    if (n % 13 === 12) return n % 17
    const fitting = this.context.objects.entries().filter(([, { kind }]) => kinds.includes(kind))
    return fitting[n % Math.max(1, fitting.length)]?.[0] ?? 0
  }

  private any(n: number): ObjectId {
    const all = this.context.objects.entries()
    return all[n % Math.max(1, all.length)]?.[0] ?? 0
  }

  /** What a device can be attached to; every other time one that PASIDs can be attached beside. */
  private table(n: number): ObjectId {
    if (n % 2 === 0) return this.pick(n, 'ioas', 'paging-hwpt', 'nested-hwpt')
    const all = this.context.objects.entries()
    const fitting = all.filter(([, object]) => 'allowsPasid' in object && object.allowsPasid)
    return fitting[n % Math.max(1, fitting.length)]?.[0] ?? 0
  }

  private slot = (n: number): bigint => (n % 11 === 10 ? 0x1000n : aperture + BigInt(n % 5) * 4n * page)

  private pasid(op: number, stdev: number, pasid: number, to: number): string | undefined {
    const answer = out32(
      this.program.test(op, this.pick(stdev, 'selftest'), { 16: 1 + (pasid % 2), 20: this.table(to) }),
      20,
    )
    return typeof answer === 'string' ? answer : undefined
  }

  private open(made: Called, fdAt: number, object: ObjectId): string | undefined {
    if (made.errno === undefined) this.opened.push({ fd: made.u32(fdAt), object })
    return made.errno
  }

  private onAccess(n: number, act: (fd: number) => string | undefined): string | undefined {
    const fd = this.accesses[n % Math.max(1, this.accesses.length)]
    return fd === undefined ? undefined : act(fd)
  }
}

/** A VM with nesting: what most steps are about. */
export const beginning: readonly RandomStep[] = [
  ['ioas', 0, 0, 0],
  ['device', 0, 2, 0],
  ['hwpt', 0, 0, 1],
  ['viommu', 0, 1, 1],
  ['vdevice', 0, 0, 1],
  ['fault', 0, 0, 0],
  ['nested', 0, 2, 1],
  // For PASIDs, as is the next one, which the device is put on.
  ['nested', 0, 2, 2],
  ['hwpt', 0, 0, 7],
  ['replace', 0, 1, 0],
  ['veventq', 0, 0, 0],
  ['map', 0, 0, 1],
]

const names: readonly (readonly [name: string, weight: number])[] = [
  ...(['ioas', 'faultOf', 'eventOf', 'fault', 'veventq', 'hwQueue', 'closeQueue', 'munmap'] as const).map(
    (name) => [name, 1] as const,
  ),
  ...(['device', 'access', 'accessReplace', 'pin', 'closeAccess', 'mmap', 'viommu', 'vdevice'] as const).map(
    (name) => [name, 2] as const,
  ),
  ...(['copy', 'unmap', 'pasidAttach', 'pasidReplace', 'pasidDetach'] as const).map(
    (name) => [name, 2] as const,
  ),
  ...(['destroy', 'replace', 'map', 'hwpt', 'nested'] as const).map((name) => [name, 4] as const),
]

const number = fc.nat({ max: 220 })

export const randomSteps: fc.Arbitrary<RandomStep[]> = fc.array(
  fc.tuple(
    fc.oneof(...names.map(([name, weight]) => ({ weight, arbitrary: fc.constant(name) }))),
    number,
    number,
    number,
  ),
  { minLength: 20, maxLength: 60, size: 'max' },
)
