/** Attaching by PASID, moving, and what must fit: section by section of the kernel's rules for devices. */
import { beforeEach, describe, expect, it } from 'vitest'
import { aperture, ok } from '../mock-program.js'
import { AbiProgram, expectSteps, nesting, out32, page, replace } from './program.js'

let program: AbiProgram
let ioas: number
let stdev: number
let device: number

const withPasids = 4

beforeEach(() => {
  program = new AbiProgram()
  ioas = program.ioas()
  const made = program.device(ioas, withPasids)
  stdev = made.stdev
  device = made.device
})

const attach = (pasid: number, to: number, of = stdev) =>
  out32(program.test(18, of, { 16: pasid, 20: to }), 20)
const move = (pasid: number, to: number, of = stdev) => out32(program.test(19, of, { 16: pasid, 20: to }), 20)
const detach = (pasid: number, of = stdev) => program.test(20, of, { 16: pasid })
const isOn = (pasid: number, hwpt: number) => program.test(21, stdev, { 16: pasid, 20: hwpt })

describe('a PASID', () => {
  it('needs HWPTs that were allocated for that, its own and the device’s', () => {
    const plain = program.hwpt(device, ioas)
    const one = program.hwpt(device, ioas, { flags: 8 })
    const other = program.hwpt(device, ioas, { flags: 8 })
    expectSteps([
      ['on a HWPT without', () => attach(100, plain), 'EINVAL'],
      ['on an IOAS, whose HWPT has no flags', () => attach(100, ioas), 'EINVAL'],
      ['beside an automatic HWPT', () => attach(100, one), 'EINVAL'],
      ['the device on one with', () => replace(program, stdev, one), one],
      ['attach', () => attach(100, other), other],
      ['check', () => isOn(100, other), 'ok'],
      ['the device on one without', () => replace(program, stdev, plain), 'EINVAL'],
      ['the device on an IOAS', () => replace(program, stdev, ioas), 'EINVAL'],
      ['the device on another with', () => replace(program, stdev, other), other],
      ['detach', () => detach(100), 'ok'],
      ['the device on one without', () => replace(program, stdev, plain), plain],
    ])
  })

  it('is attached, moved and detached by itself', () => {
    const [base, one, other] = [0, 1, 2].map(() => program.hwpt(device, ioas, { flags: 8 }))
    replace(program, stdev, base!)
    expectSteps([
      ['replace of nothing', () => move(5, one!), 'EINVAL'],
      ['attach', () => attach(5, one!), one!],
      ['again', () => attach(5, one!), 'EBUSY'],
      ['elsewhere', () => attach(5, other!), 'EBUSY'],
      ['another PASID', () => attach(6, one!), one!],
      ['to nothing', () => move(5, 99), 'ENOENT'],
      ['to a device', () => move(5, device), 'EINVAL'],
      ['replace', () => move(5, other!), other!],
      ['replace by the same', () => move(5, other!), other!],
      ['HWPT of the other PASID', () => program.destroy(one!), 'EBUSY'],
      ['detach', () => detach(6), 'ok'],
      ['detach again', () => detach(6), 'ok'],
      ['HWPT that is free', () => program.destroy(one!), 'ok'],
      ['none', () => isOn(6, 0), 'ok'],
      ['some', () => isOn(5, 0), 'EINVAL'],
    ])
  })

  it('is one that the device has: below 2^20, where it has any', () => {
    const hwpt = program.hwpt(device, ioas, { flags: 8 })
    replace(program, stdev, hwpt)
    expectSteps([
      ['the last', () => attach(0xf_ffff, hwpt), hwpt],
      ['one more', () => attach(0x10_0000, hwpt), 'EINVAL'],
    ])
  })

  it('goes with the device', () => {
    const hwpt = program.hwpt(device, ioas, { flags: 8 })
    replace(program, stdev, hwpt)
    attach(5, hwpt)
    attach(6, hwpt)
    expectSteps([
      ['HWPT', () => program.destroy(hwpt), 'EBUSY'],
      ['device', () => program.destroy(stdev), 'ok'],
      ['HWPT', () => program.destroy(hwpt), 'ok'],
    ])
  })

  it('of nested HWPTs, made for PASIDs too', () => {
    const parent = program.hwpt(device, ioas, { flags: 1 })
    const plain = program.hwpt(device, parent, { data: [1] })
    const nested = program.hwpt(device, parent, { flags: 8, data: [1] })
    const base = program.hwpt(device, ioas, { flags: 8 })
    replace(program, stdev, base)
    expectSteps([
      ['plain', () => attach(3, plain), 'EINVAL'],
      ['nested', () => attach(3, nested), nested],
      ['parent of it', () => program.destroy(parent), 'EBUSY'],
      ['the device there, too', () => replace(program, stdev, nested), nested],
      ['the device on the plain one', () => replace(program, stdev, plain), 'EINVAL'],
    ])
  })
})

describe('replace', () => {
  it('keeps the old attachment whatever fails', () => {
    const other = program.ioas()
    ok(program.map(other, 0x1000n, program.buffer(1), page))
    const on = () => program.test(21, stdev, { 16: 0, 20: automatic })
    const automatic = Number(replace(program, stdev, ioas))
    const before = [program.kernel.iommufd.snapshot(), program.backend.snapshot()]
    expectSteps([
      ['an IOAS with a mapping that does not fit', () => replace(program, stdev, other), 'EADDRINUSE'],
      ['nothing', () => replace(program, stdev, 99), 'ENOENT'],
      ['a device', () => replace(program, stdev, device), 'EINVAL'],
      ['no device', () => replace(program, ioas, ioas), 'ENOENT'],
      ['there still', on, 'ok'],
    ])
    expect([program.kernel.iommufd.snapshot(), program.backend.snapshot()]).toEqual(before)
  })

  it('makes the new HWPT before the old one goes', () => {
    const other = program.ioas()
    const old = Number(replace(program, stdev, ioas))
    const next = Number(replace(program, stdev, other))
    expect(next).not.toBe(old)
    // Its number is free then.
    expect(replace(program, stdev, ioas)).toBe(old)
  })
})

it('MOCK_DOMAIN attaches to a HWPT as to an IOAS, and to nothing else', () => {
  const { program: other, ioas: below, device: bound, parent, viommu } = nesting()
  const nested = other.hwpt(bound, viommu, { data: [1] })
  const direct = other.hwpt(bound, parent, { data: [1] })
  expectSteps([
    ['the parent', () => other.device(parent).hwpt, parent],
    ['nested on the parent', () => other.device(direct).hwpt, direct],
    ['nested on a vIOMMU, without a vDEVICE', () => other.test(2, nested), 'ENOENT'],
    ['a vIOMMU', () => other.test(2, viommu), 'EINVAL'],
    ['nothing', () => other.test(2, 99), 'ENOENT'],
    ['an IOAS', () => other.destroy(other.device(below).hwpt), 'EBUSY'],
  ])
})

it('devices map what was mapped before they came, and after', () => {
  const [first, second] = [program.buffer(1), program.buffer(1)]
  const fresh = program.ioas()
  ok(program.map(fresh, aperture, first, page))
  const { hwpt } = program.device(fresh)
  ok(program.map(fresh, aperture + page, second, page))
  const check = (iova: bigint, address: bigint) => program.test(3, hwpt, { 16: iova, 24: page, 32: address })
  expectSteps([
    ['before', () => check(aperture, first), 'ok'],
    ['after', () => check(aperture + page, second), 'ok'],
    ['crossed', () => check(aperture, second), 'EINVAL'],
    ['unmap', () => program.unmap(fresh, aperture, page), 'ok'],
    ['gone', () => check(aperture, first), 'EINVAL'],
  ])
})
