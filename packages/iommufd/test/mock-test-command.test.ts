import { beforeEach, describe, expect, it } from 'vitest'
import { aperture, MockProgram, ok, readable } from './mock-program.js'

const page = 4096n

let program: MockProgram
let ioas: number

beforeEach(() => {
  program = new MockProgram()
  ioas = program.ioas()
})

describe('IOMMU_TEST_CMD', () => {
  it('has 72 bytes, and is known from 68 on', () => {
    expect(program.call(0xa0, 68, { 4: 9, 16: 4096 }).errno).toBeUndefined()
    expect(program.call(0xa0, 67, { 4: 9, 16: 4096 }).errno).toBe('EINVAL')
    expect(program.test(99, 0).errno).toBe('EOPNOTSUPP')
    expect(program.test(0, 0).errno).toBe('EOPNOTSUPP')
  })

  it('takes any memory limit from 12 bytes on', () => {
    expect(program.test(9, 0, { 16: 12 }).errno).toBeUndefined()
    expect(program.test(9, 0, { 16: 11 }).errno).toBe('EINVAL')
  })
})

describe('ADD_RESERVED', () => {
  it('keeps addresses from being mapped', () => {
    expect(program.test(1, ioas, { 16: 0x10000n, 24: 0x1000n }).errno).toBeUndefined()
    expect(program.map(ioas, 0x10000n, program.buffer(1), page).errno).toBe('EINVAL')
  })

  it('refuses no length, a wrap, another object, and what is mapped', () => {
    ok(program.map(ioas, 0x10000n, program.buffer(1), page))
    expect(program.test(1, ioas, { 16: 0x10000n, 24: 0n }).errno).toBe('EINVAL')
    expect(program.test(1, ioas, { 16: 0x1000n, 24: (1n << 64n) - 1n }).errno).toBe('EOVERFLOW')
    expect(program.test(1, 99, { 16: 0x10000n, 24: 1n }).errno).toBe('ENOENT')
    expect(program.test(1, ioas, { 16: 0x10fffn, 24: 1n }).errno).toBe('EADDRINUSE')
    expect(program.test(1, ioas, { 16: 0x11000n, 24: 1n }).errno).toBeUndefined()
  })
})

describe('MOCK_DOMAIN', () => {
  it('makes a device, binds it and attaches it: three numbers', () => {
    const made = ok(program.test(2, ioas, {}))
    expect([made.u32(16), made.u32(20), made.u32(24)]).toEqual([2, 4, 3])
    const flagged = ok(program.test(12, ioas, { 28: 4 }))
    expect([flagged.u32(16), flagged.u32(20), flagged.u32(24), flagged.u32(28)]).toEqual([5, 4, 6, 4])
  })

  it('refuses unknown flags and what cannot be attached to, and leaves nothing behind', () => {
    const standing = program.backend.snapshot()
    expect(program.test(12, ioas, { 28: 2 }).errno).toBe('EINVAL')
    expect(program.test(2, 99).errno).toBe('ENOENT')
    ok(program.map(ioas, 0x1000n, program.buffer(1), page))
    expect(program.test(2, ioas).errno).toBe('EADDRINUSE')
    ok(program.unmap(ioas, 0x1000n, page))
    ok(program.map(ioas, aperture, 0x1000n, page))
    expect(program.test(2, ioas).errno).toBe('EFAULT')
    expect(program.backend.snapshot()).toEqual(standing)
    ok(program.unmap(ioas, aperture, page))
    expect(ok(program.test(2, ioas)).u32(16)).toBe(2)
    expect(program.test(2, 2).errno).toBe('EINVAL')
  })

  it('needs room for two objects and a HWPT', () => {
    const context = program.kernel.iommufd.context(0)!
    const standing = program.backend.snapshot()
    let last = ioas
    for (let made = context.ioasAlloc(); made.ok; made = context.ioasAlloc()) last = made.value
    expect(program.test(2, ioas).errno).toBe('ENOMEM')
    for (const id of [last, last - 1]) {
      expect(program.destroy(id)).toBeUndefined()
      expect(program.test(2, ioas).errno).toBe('ENOMEM')
      expect(program.backend.snapshot()).toEqual(standing)
    }
    expect(program.destroy(last - 2)).toBeUndefined()
    expect(ok(program.test(2, ioas)).u32(16)).toBe(last - 2)
  })

  it('is undone by destroying the SELFTEST object, and by nothing else', () => {
    const standing = program.backend.snapshot()
    const { stdev, hwpt, device } = program.device(ioas)
    for (const id of [device, hwpt, ioas]) expect(program.destroy(id)).toBe('EBUSY')
    expect(program.destroy(stdev)).toBeUndefined()
    for (const id of [device, hwpt, stdev]) expect(program.destroy(id)).toBe('ENOENT')
    expect(program.destroy(ioas)).toBeUndefined()
    expect(program.backend.snapshot()).toEqual(standing)
  })

  it('is undone by closing /dev/iommu', () => {
    const standing = program.backend.snapshot()
    const { device } = program.device(ioas, 4)
    const { stdev } = program.device(ioas, 4)
    const hwpt = program.hwpt(device, ioas, { flags: 8 })
    ok(program.test(10, stdev, { 16: hwpt }))
    ok(program.test(18, stdev, { 16: 5, 20: hwpt }))
    program.close(program.iommu)
    expect(program.backend.snapshot()).toEqual(standing)
  })

  it('can be replaced: between HWPTs and IOAS, but not from nowhere', () => {
    const { stdev, hwpt, device } = program.device(ioas)
    const other = program.hwpt(device, ioas)
    expect(ok(program.test(10, stdev, { 16: other })).u32(16)).toBe(other)
    expect(program.destroy(hwpt)).toBe('ENOENT')
    expect(program.destroy(other)).toBe('EBUSY')
    expect(program.test(10, 99, { 16: other }).errno).toBe('ENOENT')
    expect(program.test(10, device, { 16: other }).errno).toBe('ENOENT')
    expect(program.test(10, stdev, { 16: 99 }).errno).toBe('ENOENT')
    expect(program.test(10, stdev, { 16: stdev }).errno).toBe('EINVAL')
    const automatic = ok(program.test(10, stdev, { 16: ioas })).u32(16)
    expect([other, ioas]).not.toContain(automatic)
    expect(program.destroy(other)).toBeUndefined()
  })

  it('without dirty tracking is kept off HWPTs with it', () => {
    const { device, hwpt } = program.device(ioas)
    const tracking = program.hwpt(device, ioas, { flags: 2 })
    expect(program.test(12, tracking, { 28: 1 }).errno).toBe('EINVAL')
    const plain = program.device(hwpt, 1)
    expect(program.call(0x89, 48, { 4: 2, 8: plain.device, 12: ioas }).errno).toBe('EOPNOTSUPP')
    const capabilities = (id: number): bigint => ok(program.call(0x8a, 40, { 8: id })).u64(32)
    expect(capabilities(device)).toBe(9n)
    expect(capabilities(plain.device)).toBe(8n)
  })
})

describe('MD_CHECK_MAP', () => {
  it('compares the page table with the memory of the caller', () => {
    const { hwpt } = program.device(ioas)
    const buffer = program.buffer(4)
    ok(program.map(ioas, aperture, buffer + 2048n, 3n * page))
    const check = (iova: bigint, length: bigint, uptr: bigint): string | undefined =>
      program.test(3, hwpt, { 16: iova, 24: length, 32: uptr }).errno
    expect(check(aperture, 3n * page, buffer + 2048n)).toBeUndefined()
    expect(check(aperture + 2048n, 2048n, buffer + page)).toBeUndefined()
    expect(check(aperture, 0n, 0n)).toBeUndefined()
    expect(check(aperture, 2048n, buffer)).toBe('EINVAL')
    expect(check(aperture, 4n * page, buffer + 2048n)).toBe('EINVAL')
    expect(check(aperture + 3n * page, 2048n, buffer)).toBe('EINVAL')
    expect(check(aperture + 1n, 2048n, buffer + 2048n)).toBe('EINVAL')
    expect(check(aperture, 1n, buffer + 2048n)).toBe('EINVAL')
    expect(check(aperture, 2048n, buffer + 2049n)).toBe('EINVAL')
    expect(check(aperture, 2048n, 0x1000n)).toBe('EFAULT')
    expect(program.test(3, ioas, { 16: aperture, 24: 0n, 32: 0n }).errno).toBe('ENOENT')
  })
})

describe('MD_CHECK_REFS', () => {
  const refs = (buffer: bigint, count: number, length = page): string | undefined =>
    program.test(4, 0, { 16: length, 24: buffer, 32: count }).errno

  it('counts the mappings of a page, not the HWPTs that they are in', () => {
    const { device } = program.device(ioas)
    program.hwpt(device, ioas)
    program.hwpt(device, ioas)
    const buffer = program.buffer(2)
    expect(refs(buffer, 0)).toBeUndefined()
    ok(program.map(ioas, aperture, buffer, page))
    expect(refs(buffer, 1)).toBeUndefined()
    expect(refs(buffer, 2)).toBe('EIO')
    ok(program.map(ioas, aperture + page, buffer, 2n * page))
    expect(refs(buffer, 2)).toBeUndefined()
    expect(refs(buffer + page, 1)).toBeUndefined()
    expect(refs(buffer, 2, 2n * page)).toBe('EIO')
    const copy = { 4: 7, 8: ioas, 12: ioas, 16: page, 24: aperture + 8n * page, 32: aperture }
    ok(program.call(0x83, 40, copy))
    expect(refs(buffer, 2)).toBeUndefined()
    ok(program.unmap(ioas, 0n, (1n << 64n) - 1n))
    expect(refs(buffer, 0, 2n * page)).toBeUndefined()
  })

  it('counts those of all contexts, and none without a HWPT', () => {
    const buffer = program.buffer(1)
    ok(program.map(ioas, aperture, buffer, page))
    expect(refs(buffer, 0)).toBeUndefined()
    const first = program.device(ioas)
    const other = program.process.open(program.kernel.openIommu())
    const { process } = program
    const argument = process.memory.map(
      new Uint8Array(
        Uint32Array.of(
          72,
          4,
          0,
          0,
          4096,
          0,
          Number(buffer & 0xffff_ffffn),
          Number(buffer >> 32n),
          1,
          ...Array<number>(9).fill(0),
        ).buffer,
      ),
    )
    const result = program.file(other).ioctl({ cmd: 0x3ba0, argument, process })
    expect(result.errno).toBeUndefined()
    program.destroy(first.stdev)
    expect(program.file(other).ioctl({ cmd: 0x3ba0, argument, process }).errno).toBe('EIO')
  })

  it('wants whole pages that are there, and leaves huge ones out', () => {
    const buffer = program.buffer(1)
    expect(refs(buffer + 1n, 0)).toBe('EINVAL')
    expect(refs(buffer, 0, 2048n)).toBe('EINVAL')
    expect(refs(0x1000n, 0)).toBe('EFAULT')
    expect(refs(program.buffer(512, { huge: true }), 77, 512n * page)).toBeUndefined()
  })
})

describe('the caches that stand in for hardware', () => {
  it('hold what a nested HWPT was given, and what a device has', () => {
    const { device } = program.device(ioas)
    const parent = program.hwpt(device, ioas, { flags: 1 })
    const nested = program.hwpt(device, parent, { data: [0xbadbeef] })
    expect(program.test(14, nested, { 16: 3, 20: 0xbadbeef }).errno).toBeUndefined()
    expect(program.test(14, nested, { 16: 4, 20: 0xbadbeef }).errno).toBe('EINVAL')
    expect(program.test(14, nested, { 16: 0, 20: 0 }).errno).toBe('EINVAL')
    expect(program.test(14, parent, { 16: 0, 20: 0 }).errno).toBe('ENOENT')
    expect(program.test(16, device, { 16: 3, 20: 0xbaddad }).errno).toBeUndefined()
    expect(program.test(16, device, { 16: 4, 20: 0xbaddad }).errno).toBe('EINVAL')
    expect(program.test(16, device, { 16: 0, 20: 0 }).errno).toBe('EINVAL')
    expect(program.test(16, nested, { 16: 0, 20: 0xbaddad }).errno).toBe('ENOENT')
  })
})

describe('DIRTY', () => {
  /** The bits of a bitmap as text, lowest first. */
  const bitmapOf = (bits: string): bigint => {
    const address = program.buffer(1)
    program.write(address, Uint8Array.of(Number.parseInt(bits.replaceAll(/(.)(.)(.)(.)/g, '$4$3$2$1'), 2)))
    return address
  }

  it('marks the entries that hold the pages of a bitmap', () => {
    const { device } = program.device(ioas)
    const hwpt = program.hwpt(device, ioas, { flags: 2 })
    const mark = (iova: bigint, length: bigint, pageSize: bigint, uptr: bigint) =>
      program.test(13, hwpt, { 24: iova, 32: length, 40: pageSize, 48: uptr })
    const buffers = [program.buffer(1), program.buffer(1)]
    ok(program.map(ioas, aperture, buffers[1]!, page))
    ok(program.map(ioas, aperture + page, buffers[0]!, page))
    const bits = bitmapOf('1000')
    expect(mark(aperture, 2n * page, 2048n, bits).errno).toBe('EINVAL')
    ok(program.call(0x8b, 16, { 4: 1, 8: hwpt }))
    const marked = ok(mark(aperture, 2n * page, 2048n, bits))
    expect(marked.u64(56)).toBe(1n)
    const read = (pageSize: bigint, flags: number): number => {
      const data = program.buffer(1)
      const range = { 16: aperture, 24: 4n * page, 32: pageSize, 40: data }
      ok(program.call(0x8c, 48, { 4: hwpt, 8: flags, ...range }))
      return program.read(data, 1)[0]!
    }
    expect(read(2048n, 1)).toBe(0b11)
    expect(read(16384n, 1)).toBe(0b1)
    expect(read(4096n, 0)).toBe(0b1)
    expect(read(4096n, 0)).toBe(0)
    expect(ok(mark(aperture + 0x10_0000n, 2n * page, 2048n, bitmapOf('1011'))).u64(56)).toBe(3n)
    expect(ok(mark(aperture, page, 2048n, bitmapOf('0111'))).u64(56)).toBe(1n)
    expect(mark(aperture + 1n, page, 2048n, bits).errno).toBe('EINVAL')
    expect(mark(aperture, page + 1n, 2048n, bits).errno).toBe('EINVAL')
    expect(mark(aperture, 0n, 2048n, bits).errno).toBe('EINVAL')
    expect(mark(aperture, page, 0n, bits).errno).toBe('EINVAL')
    expect(mark(aperture, page, 2048n, 0n).errno).toBe('EINVAL')
    expect(mark(aperture, page, 2048n, 0x1000n).errno).toBe('EFAULT')
    expect(mark(0n, (1n << 28n) + 1n, 1n, bits).errno).toBe('EOVERFLOW')
    expect(program.test(13, ioas, { 24: aperture, 32: page, 40: 2048n, 48: bits }).errno).toBe('ENOENT')
  })

  it('is cleared by turning tracking on', () => {
    const { device } = program.device(ioas)
    const hwpt = program.hwpt(device, ioas, { flags: 2 })
    ok(program.map(ioas, aperture, program.buffer(1), page))
    ok(program.call(0x8b, 16, { 4: 1, 8: hwpt }))
    ok(program.test(13, hwpt, { 24: aperture, 32: page, 40: page, 48: bitmapOf('1') }))
    ok(program.call(0x8b, 16, { 4: 1, 8: hwpt }))
    const data = program.buffer(1)
    ok(program.call(0x8c, 48, { 4: hwpt, 16: aperture, 24: page, 32: page, 40: data }))
    expect(program.read(data, 1)).toEqual(Uint8Array.of(0))
  })
})

describe('PASIDs of a mock device', () => {
  it('are attached, replaced, checked and detached', () => {
    const { stdev, device } = program.device(ioas, 4)
    const [first, second, plain] = [8, 8, 0].map((flags) => program.hwpt(device, ioas, { flags }))
    const attach = (pasid: number, to: number) => program.test(18, stdev, { 16: pasid, 20: to })
    const replace = (pasid: number, to: number) => program.test(19, stdev, { 16: pasid, 20: to })
    const isOn = (pasid: number, hwpt: number): string | undefined =>
      program.test(21, stdev, { 16: pasid, 20: hwpt }).errno
    ok(program.test(10, stdev, { 16: first! }))
    expect(isOn(0, first!)).toBeUndefined()
    expect(isOn(100, 0)).toBeUndefined()
    expect(replace(100, second!).errno).toBe('EINVAL')
    expect(ok(attach(100, first!)).u32(20)).toBe(first)
    expect(isOn(100, first!)).toBeUndefined()
    expect(isOn(100, second!)).toBe('EINVAL')
    expect(isOn(100, 0)).toBe('EINVAL')
    expect(isOn(100, 99)).toBe('ENOENT')
    expect(isOn(100, ioas)).toBe('EINVAL')
    expect(attach(100, first!).errno).toBe('EBUSY')
    expect(attach(101, plain!).errno).toBe('EINVAL')
    expect(attach(1 << 20, first!).errno).toBe('EINVAL')
    expect(ok(replace(100, second!)).u32(20)).toBe(second)
    expect(program.test(10, stdev, { 16: plain! }).errno).toBe('EINVAL')
    ok(program.test(20, stdev, { 16: 100 }))
    ok(program.test(20, stdev, { 16: 100 }))
    expect(isOn(100, 0)).toBeUndefined()
    for (const op of [18, 19, 20, 21])
      expect(program.test(op, 99, { 16: 1, 20: first! }).errno).toBe('ENOENT')
  })

  it('fail on 1024 at the second change, and keep the first', () => {
    const { stdev, device } = program.device(ioas, 4)
    const [first, second] = [8, 8].map((flags) => program.hwpt(device, ioas, { flags }))
    ok(program.test(10, stdev, { 16: first! }))
    ok(program.test(18, stdev, { 16: 1024, 20: first! }))
    expect(program.test(19, stdev, { 16: 1024, 20: second! }).errno).toBe('ENOMEM')
    expect(program.test(21, stdev, { 16: 1024, 20: first! }).errno).toBeUndefined()
    expect(program.destroy(second!)).toBeUndefined()
    const third = program.hwpt(device, ioas, { flags: 8 })
    ok(program.test(19, stdev, { 16: 1024, 20: third }))
    expect(program.test(21, stdev, { 16: 1024, 20: third }).errno).toBeUndefined()
  })
})

describe('dma-bufs', () => {
  const mapFile = (fd: number, start: bigint, length: bigint, iova = aperture) =>
    program.call(0x8f, 40, { 4: 7, 8: ioas, 12: fd, 16: start, 24: length, 32: iova })
  const buffer = (length: number) => ok(program.test(22, 0, { 16: length, 20: 0x8_0002 })).ret

  it('are files of up to 2 MiB, in whole pages', () => {
    expect(program.test(22, 0, { 16: 0 }).errno).toBe('EINVAL')
    expect(program.test(22, 0, { 16: 0x20_0001 }).errno).toBe('EINVAL')
    const fd = buffer(4097)
    expect(mapFile(fd, 0n, 0x2001n).errno).toBe('EINVAL')
    expect(mapFile(fd, 0x1000n, 0x2000n).errno).toBe('EINVAL')
    expect(mapFile(fd, 0n, 0x2000n).errno).toBeUndefined()
  })

  it('lose their mappings for good when they are revoked', () => {
    const { hwpt } = program.device(ioas)
    const { number } = program.kernel.iommufd.context(0)!.objects.held(hwpt, 'paging-hwpt').domain
    const fd = buffer(0x2000)
    const revoke = (revoked: number) => program.test(23, 0, { 16: fd, 20: revoked })
    ok(mapFile(fd, 0n, 0x2000n))
    const physical = program.backend.translate(number, aperture)
    expect(physical).toBeDefined()
    ok(revoke(1))
    expect(program.backend.translate(number, aperture)).toBeUndefined()
    expect(mapFile(fd, 0n, 0x2000n, aperture + 0x10_000n).errno).toBe('ENODEV')
    ok(revoke(0))
    expect(program.backend.translate(number, aperture)).toBeUndefined()
    ok(mapFile(fd, 0n, 0x2000n, aperture + 0x10_000n))
    expect(program.backend.translate(number, aperture + 0x10_000n)).toBe(physical)
    ok(program.unmap(ioas, aperture, 0x2000n))
    program.close(fd)
    expect(program.backend.translate(number, aperture + 0x10_000n)).toBe(physical)
  })

  it('are told from other files', () => {
    expect(program.test(23, 0, { 16: 99, 20: 1 }).errno).toBe('EBADF')
    expect(program.test(23, 0, { 16: program.iommu, 20: 1 }).errno).toBe('EINVAL')
    expect(program.test(23, 0, { 16: 0xffff_ffff, 20: 1 }).errno).toBe('EBADF')
    const file = program.file(buffer(4096))
    const { process } = program
    expect(file.ioctl({ cmd: 0x3b80, argument: 0n, process }).errno).toBe('ENOTTY')
  })

  it('are of different memory', () => {
    const { hwpt } = program.device(ioas)
    const { number } = program.kernel.iommufd.context(0)!.objects.held(hwpt, 'paging-hwpt').domain
    ok(mapFile(buffer(0x2000), 0n, 0x2000n))
    ok(mapFile(buffer(0x2000), 0n, 0x2000n, aperture + 0x2000n))
    const physical = [0n, 0x1000n, 0x2000n, 0x3000n].map((at) =>
      program.backend.translate(number, aperture + at),
    )
    expect(new Set(physical).size).toBe(4)
  })
})

describe('an access', () => {
  const create = (on: number, flags: number) => program.test(5, on, { 20: flags })
  const pin = (fd: number, iova: bigint, length: bigint, uptr = 0n, flags = 0) =>
    program.test(7, fd, { 16: flags, 24: iova, 32: length, 40: uptr })
  const unpin = (fd: number, item: number): string | undefined => program.test(6, fd, { 16: item }).errno
  const rw = (fd: number, iova: bigint, length: bigint, uptr: bigint, flags = 0): string | undefined =>
    program.test(8, fd, { 16: iova, 24: length, 32: uptr, 40: flags }).errno
  const refs = (buffer: bigint, count: number): string | undefined =>
    program.test(4, 0, { 16: page, 24: buffer, 32: count }).errno

  it('keeps its IOAS, and raises the alignment if it pins', () => {
    expect(create(99, 1).errno).toBe('ENOENT')
    expect(create(ioas, 2).errno).toBe('EOPNOTSUPP')
    const fd = ok(create(ioas, 1)).u32(16)
    expect(program.destroy(ioas)).toBe('EBUSY')
    expect(ok(program.call(0x84, 32, { 4: ioas, 8: 1, 16: program.buffer(1) })).u64(24)).toBe(4096n)
    expect(program.map(ioas, aperture, program.buffer(1), 2048n).errno).toBe('EINVAL')
    program.close(fd)
    expect(program.destroy(ioas)).toBeUndefined()
  })

  it('pins pages, compares them, and lets go of them', () => {
    const fd = ok(create(ioas, 1)).u32(16)
    const buffer = program.buffer(2)
    ok(program.map(ioas, aperture, buffer, 2n * page, 1 | readable))
    expect(pin(fd, aperture, 2n * page, 0n, 1).errno).toBe('EPERM')
    expect(ok(pin(fd, aperture, 2n * page, buffer)).u32(20)).toBe(0)
    expect(refs(buffer, 1)).toBeUndefined()
    expect(pin(fd, aperture, 2n * page, program.buffer(2)).errno).toBe('EBADE')
    expect(pin(fd, aperture, page, 0x1000n).errno).toBe('EFAULT')
    expect(refs(buffer, 1)).toBeUndefined()
    expect(ok(pin(fd, aperture, 2n * page)).u32(20)).toBe(1)
    expect(pin(fd, aperture, 3n * page).errno).toBe('ENOENT')
    expect(pin(fd, aperture, 0n).errno).toBe('EINVAL')
    expect(pin(fd, aperture, (16n << 20n) + 1n).errno).toBe('ENOMEM')
    expect(pin(fd, aperture, page, 0n, 2).errno).toBe('EOPNOTSUPP')
    expect(unpin(fd, 0)).toBeUndefined()
    expect(unpin(fd, 0)).toBe('ENOENT')
    expect(refs(buffer, 1)).toBeUndefined()
    expect(unpin(fd, 1)).toBeUndefined()
    expect(refs(buffer, 0)).toBeUndefined()
  })

  it('lets go when its area is unmapped, or when it is closed', () => {
    const fd = ok(create(ioas, 1)).u32(16)
    const buffer = program.buffer(3)
    ok(program.map(ioas, aperture, buffer, page))
    ok(program.map(ioas, aperture + page, buffer + page, page))
    const [first, second] = [0n, page].map((at) => ok(pin(fd, aperture + at, page)).u32(20))
    ok(program.unmap(ioas, aperture, page))
    expect(unpin(fd, first!)).toBe('ENOENT')
    expect(refs(buffer, 0)).toBeUndefined()
    expect(refs(buffer + page, 1)).toBeUndefined()
    expect(unpin(fd, second!)).toBeUndefined()
    ok(pin(fd, aperture + page, page))
    program.close(fd)
    expect(refs(buffer + page, 0)).toBeUndefined()
    ok(program.unmap(ioas, aperture + page, page))
    expect(program.destroy(ioas)).toBeUndefined()
  })

  it('reads and writes, by both ways', () => {
    const fd = ok(create(ioas, 0)).u32(16)
    const [memory, buffer] = [program.buffer(2), program.buffer(2)]
    ok(program.map(ioas, aperture + 1n, memory + 3n, 5000n))
    ok(program.map(ioas, aperture + 0x10_000n, memory, page, 1 | readable))
    for (const slow of [0, 4]) {
      const text = Uint8Array.from({ length: 63 }, (_, i) => i + 1 + slow)
      program.write(buffer + 4090n, text)
      expect(rw(fd, aperture + 4060n, 63n, buffer + 4090n, 1 | slow)).toBeUndefined()
      expect(program.read(memory + 4062n, 63)).toEqual(text)
      expect(rw(fd, aperture + 4060n, 63n, buffer, slow)).toBeUndefined()
      expect(program.read(buffer, 63)).toEqual(text)
      expect(rw(fd, aperture, 63n, buffer, slow)).toBe('ENOENT')
      expect(rw(fd, aperture + 1n, 0n, buffer, slow)).toBe('EINVAL')
      expect(rw(fd, aperture + 0x10_000n, 1n, buffer, 1 | slow)).toBe('EPERM')
      expect(rw(fd, aperture + 1n, 1n, 0x1000n, 1 | slow)).toBe('EFAULT')
      expect(rw(fd, aperture + 1n, 1n, 0x1000n, slow)).toBe('EFAULT')
    }
    expect(rw(fd, aperture, (16n << 20n) + 1n, buffer)).toBe('ENOMEM')
    expect(pin(fd, aperture, page).errno).toBe('EOPNOTSUPP')
  })

  it('finds areas by number for fuzzers', () => {
    const fd = ok(create(ioas, 1)).u32(16)
    const [memory, buffer] = [program.buffer(2), program.buffer(1)]
    ok(program.map(ioas, aperture, memory, page))
    ok(program.map(ioas, aperture + 0x10_000n, memory + page, page))
    program.write(memory + page + 5n, Uint8Array.of(77))
    expect(rw(fd, (5n << 32n) | 1n, 1n, buffer, 1 << 16)).toBeUndefined()
    expect(program.read(buffer, 1)).toEqual(Uint8Array.of(77))
    expect(rw(fd, 2n, 1n, buffer, 1 << 16)).toBe('ENOENT')
    expect(pin(fd, 1n, page, memory + page, 1 << 16).errno).toBeUndefined()
  })

  it('moves to another IOAS without its pins', () => {
    const fd = ok(create(ioas, 1)).u32(16)
    const buffer = program.buffer(1)
    ok(program.map(ioas, aperture, buffer, page))
    ok(pin(fd, aperture, page))
    const other = program.ioas()
    const replace = (descriptor: number, to: number) => program.test(11, descriptor, { 16: to }).errno
    expect(replace(fd, 99)).toBe('ENOENT')
    expect(refs(buffer, 1)).toBeUndefined()
    expect(replace(fd, other)).toBeUndefined()
    expect(refs(buffer, 0)).toBeUndefined()
    expect(unpin(fd, 0)).toBe('ENOENT')
    expect(program.destroy(other)).toBe('EBUSY')
    expect(program.destroy(ioas)).toBeUndefined()
    program.close(fd)
    expect(program.destroy(other)).toBeUndefined()
  })

  it('is told from other descriptors', () => {
    for (const fd of [program.iommu, 99]) {
      expect(pin(fd, aperture, page).errno).toBe('EBADFD')
      expect(unpin(fd, 0)).toBe('EBADFD')
      expect(rw(fd, aperture, 1n, aperture)).toBe('EBADFD')
      expect(program.test(11, fd, { 16: ioas }).errno).toBe('EBADFD')
    }
    const fd = ok(create(ioas, 1)).u32(16)
    const { process } = program
    expect(program.file(fd).ioctl({ cmd: 0x3b80, argument: 0n, process }).errno).toBe('ENOTTY')
    expect(program.file(fd).read(process, 8n, -1n).errno).toBe('EINVAL')
    expect(program.file(fd).write(process, new Uint8Array(8), 8n, -1n).errno).toBe('EINVAL')
  })

  it('lets go in a fork of its machine only of what the fork has pinned', () => {
    const fd = ok(create(ioas, 1)).u32(16)
    const buffer = program.buffer(1)
    ok(program.map(ioas, aperture, buffer, page))
    ok(pin(fd, aperture, page))
    const { iommufd } = program.kernel
    const key = program.process.memory.key
    const fork = iommufd.fork(program.backend.fork())
    expect(fork.context(0)!.ioasUnmap(ioas, aperture, page).ok).toBe(true)
    expect([iommufd.accounts.pinned(key), fork.accounts.pinned(key)]).toEqual([1, 0])
    expect(unpin(fd, 0)).toBeUndefined()
  })

  it('outlives the descriptor of /dev/iommu', () => {
    const fd = ok(create(ioas, 1)).u32(16)
    const buffer = program.buffer(1)
    ok(program.map(ioas, aperture, buffer, page))
    ok(pin(fd, aperture, page))
    const argument = program.process.memory.map(
      new Uint8Array(Uint32Array.of(72, 6, fd, 0, 0, ...Array<number>(13).fill(0)).buffer),
    )
    const { process, kernel } = program
    program.close(program.iommu)
    expect(kernel.pinned(process.memory.key)).toBe(1)
    const other = program.file(process.open(kernel.openIommu()))
    expect(other.ioctl({ cmd: 0x3ba0, argument, process }).errno).toBeUndefined()
    expect(kernel.pinned(process.memory.key)).toBe(0)
    program.close(fd)
    expect([...kernel.iommufd.contexts]).toHaveLength(1)
  })
})
