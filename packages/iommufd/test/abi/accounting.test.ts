/** Who pays for pinned pages, by what limits, and how another process takes over. */
import { beforeEach, describe, expect, it } from 'vitest'
import { aperture, ok } from '../mock-program.js'
import { AbiProgram, expectSteps, last64, page } from './program.js'

let program: AbiProgram
let ioas: number
/** A page-aligned buffer of four pages. */
let buffer: bigint

beforeEach(() => {
  program = new AbiProgram()
  ioas = program.ioas()
  buffer = program.buffer(4)
})

describe('CHANGE_PROCESS', () => {
  it('moves what files hold, and nothing else', () => {
    const fd = program.process.open(program.host.createFile(8192))
    const change = () => program.call(0x92, 8, {})
    const { process, kernel } = program
    ok(program.test(2, ioas))
    expectSteps([
      ['reserved', () => program.call(0x92, 8, { 4: 1 }), 'EOPNOTSUPP'],
      ['nothing', change, 'ok'],
      ['a file', () => program.mapFile(ioas, fd, { length: 2n * page, iova: aperture }), 'ok'],
      ['with a file', change, 'ok'],
      ['its pages', () => kernel.pinned(process.memory.key), 2],
      ['a buffer', () => program.map(ioas, 0x2000_0000n, buffer, page), 'ok'],
      ['with a buffer', change, 'EINVAL'],
    ])
  })

  it.each([
    ['per user', 0n, 0],
    ['per process', 1n, 2],
  ])('makes the caller pay, and no longer who mapped: %s', (_mode, mode, locked) => {
    program = new AbiProgram()
    ok(program.option(0, 0, 0, mode))
    ioas = program.ioas()
    program.process.capabilities = { ipcLock: false, sysResource: true, rawIo: true }
    const other = new AbiProgram(program)
    const fd = program.process.open(program.host.createFile(8192))
    ok(program.test(2, ioas))
    ok(program.mapFile(ioas, fd, { length: 2n * page, iova: aperture }))
    const argument = other.put(AbiProgram.struct(8, {}))
    const file = program.file(program.iommu)
    expect(file.ioctl({ cmd: 0x3b92, argument, process: other.process }).errno).toBeUndefined()
    const counts = () =>
      [program, other].flatMap(({ process: { memory }, kernel }) => [
        kernel.pinned(memory.key),
        kernel.locked(memory.key),
      ])
    expect(counts()).toEqual([0, 0, 2, locked])
    ok(program.unmap(ioas, 0n, last64))
    expect(counts()).toEqual([0, 0, 0, 0])
  })

  it('fails with all as it was if the caller may not lock so much: ENOMEM', () => {
    program.process.capabilities = { ipcLock: false, sysResource: true, rawIo: true }
    const other = new AbiProgram(program)
    other.process.lockableBytes = 4096n
    const fd = program.process.open(program.host.createFile(8192))
    ok(program.test(2, ioas))
    ok(program.mapFile(ioas, fd, { length: 2n * page, iova: aperture }))
    const before = program.kernel.iommufd.snapshot()
    const argument = other.put(AbiProgram.struct(8, {}))
    const file = program.file(program.iommu)
    expect(file.ioctl({ cmd: 0x3b92, argument, process: other.process }).errno).toBe('ENOMEM')
    expect(program.kernel.iommufd.snapshot()).toEqual(before)
  })
})

describe('who pays for pages', () => {
  it('is limited by RLIMIT_MEMLOCK, but with CAP_IPC_LOCK: ENOMEM', () => {
    const { process, kernel } = program
    process.lockableBytes = 2n * page
    const pinned = () => [kernel.pinned(process.memory.key), kernel.locked(process.memory.key)]
    const map = (nth: bigint, length: bigint) => program.map(ioas, aperture + nth * 0x10000n, buffer, length)
    ok(program.test(2, ioas))
    expectSteps([
      ['with it', () => map(0n, 4n * page), 'ok'],
      ['pinned, not locked', pinned, [4, 0]],
      ['unmap', () => program.unmap(ioas, 0n, last64), 'ok'],
    ])
    process.capabilities = { ipcLock: false, sysResource: true, rawIo: true }
    expectSteps([
      ['too much', () => map(0n, 3n * page), 'ENOMEM'],
      ['nothing is left pinned', pinned, [0, 0]],
      ['as much as may be', () => map(0n, 2n * page), 'ok'],
      ['per user there is no VmLck', pinned, [2, 0]],
      ['one more', () => map(1n, page), 'ENOMEM'],
      ['unmap', () => program.unmap(ioas, 0n, last64), 'ok'],
      ['again', () => map(1n, page), 'ok'],
    ])
  })

  it('pays once for a page under several HWPTs and copies, twice for two mappings', () => {
    const { process, kernel, host } = program
    const pinned = () => [kernel.pinned(process.memory.key), host.pinned]
    const second = program.ioas()
    expectSteps([
      ['map', () => program.map(ioas, aperture, buffer, page), 'ok'],
      ['no HWPT', pinned, [0, 0]],
      ['a device', () => program.test(2, ioas), 'ok'],
      ['one HWPT', pinned, [1, 1]],
      ['another HWPT', () => program.hwpt(program.device(ioas).device, ioas) > 0 && 'ok', 'ok'],
      ['two HWPTs', pinned, [1, 1]],
      ['copy', () => program.copy([ioas, aperture], [second, aperture], page), 'ok'],
      ['a device there', () => program.test(2, second), 'ok'],
      ['shared', pinned, [1, 1]],
      ['another mapping', () => program.map(second, 0x2000_0000n, buffer, page), 'ok'],
      ['two of them', pinned, [2, 2]],
      ['close', () => program.close(program.iommu), 'ok'],
      ['nothing', pinned, [0, 0]],
    ])
  })
})
