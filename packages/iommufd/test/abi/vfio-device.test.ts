/** `/dev/vfio/devices/vfioN`: BIND, ATTACH and DETACH by the reference's order of checks. */
import { beforeEach, describe, expect, it } from 'vitest'
import { Kernel } from '../../src/index.js'
import { MockBackend } from '../../src/mock/mock-backend.js'
import { testCommand } from '../../src/mock/test-command.js'
import { MockProgram, ok } from '../mock-program.js'
import type { Fields } from '../mock-program.js'
import { AbiProgram, expectSteps, words } from './program.js'

const bindCall = 0x3b76
const attachCall = 0x3b77
const detachCall = 0x3b78

let program: AbiProgram
let ioas: number
/** Descriptors of a device with PASIDs and of one without. */
let vfio: number
let plain: number

/** A machine with two devices that programs open; the rest is as with every mock. */
class Machine extends MockProgram {
  constructor() {
    super()
    const backend = new MockBackend()
    const devices = [true, false].map((pasid) => backend.addDevice({ dirty: true, pasid }))
    const kernel = Kernel.create({ backend, testCalls: [testCommand], devices })
    Object.assign(this, { backend, kernel })
  }
}

const open = (n: number): number => program.process.open(program.kernel.openVfioDevice(n)!)

beforeEach(() => {
  program = new AbiProgram(new Machine())
  ioas = program.ioas()
  vfio = open(0)
  plain = open(1)
})

/** What a call came to, and the words of its structure afterwards. */
function call(fd: number, cmd: number, size: number, fields: Fields, argsz = size): (string | number)[] {
  const { errno = 'ok' } = program.raw(cmd, program.put(AbiProgram.struct(argsz, fields, size)), fd)
  return [errno, ...words(program.read(program.room, Math.min(size, 16)))]
}

const bind = (fd = vfio, to = program.iommu, fields: Fields = {}) =>
  call(fd, bindCall, 24, { 8: to >>> 0, ...fields })
const attach = (to: number, fd = vfio) => call(fd, attachCall, 12, { 8: to })
const detach = (fd = vfio) => call(fd, detachCall, 8, {})

describe('BIND', () => {
  it('comes first: all else is EINVAL before it', () => {
    const file = program.file(vfio)
    expectSteps([
      ['attach', () => attach(ioas)[0], 'EINVAL'],
      ['detach', () => detach()[0], 'EINVAL'],
      ['another call', () => program.raw(0x3b64, 0n, vfio), 'EINVAL'],
      ['read', () => file.read(program.process, 4n, -1n), 'EINVAL'],
      ['write', () => file.write(program.process, new Uint8Array(4), 4n, -1n), 'EINVAL'],
      ['mmap', () => file.mmap({ length: 4096n, protection: 1, flags: 1, offset: 0n }), 'EINVAL'],
    ])
  })

  it('refuses in the order of the checks', () => {
    const closed = 999
    expectSteps([
      ['NULL', () => program.raw(bindCall, 0n, vfio), 'EFAULT'],
      ['argsz 15', () => call(vfio, bindCall, 24, { 8: 999 }, 15)[0], 'EINVAL'],
      ['a tail', () => call(vfio, bindCall, 32, { 8: program.iommu, 24: 1 })[0], 'E2BIG'],
      ['iommufd -1', () => bind(vfio, -1)[0], 'EINVAL'],
      ['flag 2', () => bind(vfio, closed, { 4: 2 })[0], 'EINVAL'],
      ['a token', () => bind(vfio, program.iommu, { 4: 1 })[0], 'EINVAL'],
      ['not open', () => bind(vfio, closed)[0], 'EBADF'],
      ['not an iommufd', () => bind(vfio, vfio)[0], 'EBADFD'],
      ['a zero tail', () => call(vfio, bindCall, 32, { 8: program.iommu })[0], 'ok'],
      ['again', () => bind()[0], 'EINVAL'],
      ['by another descriptor', () => bind(open(0))[0], 'EINVAL'],
    ])
  })

  it('tells the number of the DEVICE, with 16 bytes too', () => {
    expect(bind()).toEqual(['ok', 24, 0, program.iommu, 2])
    expect(call(plain, bindCall, 24, { 8: program.iommu }, 16)).toEqual(['ok', 16, 0, program.iommu, 3])
    expect(program.destroy(2)).toBe('EBUSY')
  })

  it('is undone by closing the device', () => {
    bind()
    attach(ioas)
    expectSteps([
      ['IOAS', () => program.destroy(ioas), 'EBUSY'],
      ['close', () => program.close(vfio), 'ok'],
      ['DEVICE', () => program.destroy(2), 'ENOENT'],
      ['IOAS', () => program.destroy(ioas), 'ok'],
      ['bind again', () => bind(open(0)), ['ok', 24, 0, program.iommu, 1]],
    ])
  })

  it('keeps the context when /dev/iommu is closed', () => {
    bind()
    const contexts = (): number => [...program.kernel.iommufd.contexts].length
    program.close(program.iommu)
    expect(contexts()).toBe(1)
    expect(attach(ioas)[0]).toBe('ok')
    program.close(vfio)
    expect(contexts()).toBe(0)
  })

  it('is undone where the caller cannot be told', () => {
    const file = program.host.createFile(4096)
    const { memory } = program.process
    const address = memory.mapFile(file, 1)
    const readOnly = memory.mapFile(file, 1, { writeable: false })
    memory.write(address, AbiProgram.struct(24, { 8: program.iommu }))
    expect(program.raw(bindCall, readOnly, vfio).errno).toBe('EFAULT')
    expect(program.destroy(2)).toBe('ENOENT')
    expect(bind()[0]).toBe('ok')
  })
})

describe('ATTACH and DETACH', () => {
  beforeEach(() => {
    bind()
    bind(plain)
  })

  it('attach at first, then move; detaching never fails', () => {
    const other = program.ioas()
    const automatic = 5
    expectSteps([
      ['to an IOAS', () => attach(ioas), ['ok', 12, 0, automatic]],
      ['to it again', () => attach(ioas), ['ok', 12, 0, automatic]],
      ['to another', () => attach(other), ['ok', 12, 0, 6]],
      ['the first HWPT', () => program.destroy(automatic), 'ENOENT'],
      ['detach', () => detach()[0], 'ok'],
      ['detach again', () => detach()[0], 'ok'],
      ['the second HWPT', () => program.destroy(6), 'ENOENT'],
      ['to nothing', () => attach(99)[0], 'ENOENT'],
      ['to a device', () => attach(2)[0], 'EINVAL'],
    ])
  })

  it('refuse arguments', () => {
    expectSteps([
      ['attach NULL', () => program.raw(attachCall, 0n, vfio), 'EFAULT'],
      ['attach argsz 11', () => call(vfio, attachCall, 12, { 8: ioas }, 11)[0], 'EINVAL'],
      ['attach flag 2', () => call(vfio, attachCall, 12, { 4: 2, 8: ioas })[0], 'EINVAL'],
      ['attach a PASID in 12 bytes', () => call(vfio, attachCall, 12, { 4: 1, 8: ioas })[0], 'EINVAL'],
      [
        'attach a PASID of a device without',
        () => call(plain, attachCall, 16, { 4: 1, 8: ioas, 12: 5 })[0],
        'EOPNOTSUPP',
      ],
      ['attach a PASID in 15', () => call(vfio, attachCall, 16, { 4: 1, 8: ioas }, 15)[0], 'EINVAL'],
      ['detach a PASID in 11', () => call(vfio, detachCall, 12, { 4: 1 }, 11)[0], 'EINVAL'],
      ['detach argsz 7', () => call(vfio, detachCall, 8, {}, 7)[0], 'EINVAL'],
      ['detach flag 2', () => call(vfio, detachCall, 8, { 4: 2 })[0], 'EINVAL'],
      ['detach a PASID in 8 bytes', () => call(vfio, detachCall, 8, { 4: 1 })[0], 'EINVAL'],
      ['another call', () => program.raw(0x3b70, 0n, vfio), 'ENOTTY'],
    ])
  })

  it('take PASIDs, each by itself', () => {
    const hwpts = [0, 1].map(() => program.hwpt(2, ioas, { flags: 8 }))
    const attachPasid = (pasid: number, to: number) =>
      call(vfio, attachCall, 16, { 4: 1, 8: to, 12: pasid })[0]
    const detachPasid = (pasid: number) => call(vfio, detachCall, 12, { 4: 1, 8: pasid })[0]
    expectSteps([
      ['the device', () => attach(hwpts[0]!)[0], 'ok'],
      ['a PASID', () => attachPasid(5, hwpts[1]!), 'ok'],
      ['moved', () => attachPasid(5, hwpts[0]!), 'ok'],
      ['the HWPT that it has left', () => program.destroy(hwpts[1]!), 'ok'],
      ['detach another PASID', () => detachPasid(6), 'ok'],
      ['detach', () => detachPasid(5), 'ok'],
      ['the device', () => detach()[0], 'ok'],
      ['the HWPT', () => program.destroy(hwpts[0]!), 'ok'],
    ])
  })

  it('fail with the device detached where the caller cannot be told', () => {
    const file = program.host.createFile(4096)
    const { memory } = program.process
    const address = memory.mapFile(file, 1)
    const readOnly = memory.mapFile(file, 1, { writeable: false })
    memory.write(address, AbiProgram.struct(12, { 8: ioas }))
    expect(program.raw(attachCall, readOnly, vfio).errno).toBe('EFAULT')
    expect(program.destroy(ioas)).toBeUndefined()
  })

  it('lose a vDEVICE with the device, and its number for good', () => {
    const parent = program.hwpt(2, ioas, { flags: 1 })
    const viommu = ok(program.viommu(2, parent)).u32(20)
    const vdevice = ok(program.vdevice(viommu, 2, 9n)).u32(12)
    program.close(vfio)
    const fresh = Array.from({ length: 8 }, () => program.ioas())
    expect([program.destroy(vdevice), fresh.includes(vdevice)]).toEqual(['ENOENT', false])
  })
})

it('there are no other devices', () => {
  expect(program.kernel.openVfioDevice(2)).toBeUndefined()
})
