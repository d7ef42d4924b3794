/** HWPTs behind PASIDs on AMD: none in Linux 7.3, tables in guest format with the extensions. */
import { describe, expect, it } from 'vitest'
import { noData } from '../src/user-data.js'
import { AmdRig, readWrite } from './amd-rig.js'

const [device, plain] = [0x18, 0x20]

/** A device with PASIDs and one without in one group; a table that all are on, and two for PASIDs. */
function rigWith(extensions: boolean) {
  const rig = AmdRig.create({ extensions })
  rig.run(rig.driver.probe(device, 1, 0, { maxPasids: 16 }))
  rig.run(rig.driver.probe(plain, 1))
  const table = (target: bigint): number => {
    const request = { flags: 8, data: noData }
    const { number } = rig.run(rig.backend.allocatePaging(rig.device(device), request))
    rig.run(rig.backend.map(number, 0x5000n, target, 0x1000n, readWrite))
    return number
  }
  const [whole, first, second] = [table(0x9000n), table(0xa000n), table(0xb000n)] as const
  rig.run(rig.backend.attach([device, plain], 0, whole, undefined))
  const leads = (): string[] => [undefined, 3].map((pasid) => rig.leads(device, 0x5000n, pasid))
  return { rig, backend: rig.backend, whole, first, second, leads }
}

describe('Linux 7.3', () => {
  it('puts no HWPT behind a PASID', () => {
    const { rig, backend, first } = rigWith(false)
    expect(rig.refusal(() => backend.attach([device], 3, first, undefined))).toBe(
      'EOPNOTSUPP amd-pasid-attach',
    )
  })

  it('has nothing to take from there', () => {
    const { rig, backend, leads } = rigWith(false)
    rig.run(backend.detach([device, plain], 3))
    expect(leads()).toEqual(['9000', 'fault'])
  })
})

describe('a table behind a PASID', () => {
  it('is that of the devices which have PASIDs', () => {
    const { rig, backend, first, leads } = rigWith(true)
    rig.run(backend.attach([device, plain], 3, first, undefined))
    expect(leads()).toEqual(['9000', 'a000'])
    expect(rig.leads(plain, 0x5000n)).toBe('9000')
    rig.run(backend.detach([device, plain], 3))
    expect(leads()).toEqual(['9000', 'fault'])
  })

  it('is nothing where no device has PASIDs', () => {
    const { rig, backend, first } = rigWith(true)
    const done = backend.attach([plain], 3, first, undefined)
    expect(done).toEqual({ ok: true, value: undefined, effects: [] })
    rig.run(backend.freeDomain(first))
  })

  it('is replaced, and what the old one had is forgotten', () => {
    const { rig, backend, first, second, leads } = rigWith(true)
    rig.run(backend.attach([device], 3, first, undefined))
    expect(leads()).toEqual(['9000', 'a000'])
    rig.run(backend.attach([device], 3, second, first))
    expect(leads()).toEqual(['9000', 'b000'])
    rig.run(backend.freeDomain(first))
  })

  it('stays where it is when the new one does not fit', () => {
    const { rig, backend, first, leads } = rigWith(true)
    const host = rig.run(backend.allocatePaging(rig.device(device), { flags: 0, data: noData })).number
    rig.run(backend.attach([device], 3, first, undefined))
    expect(rig.refusal(() => backend.attach([device], 3, host, first))).toBe('EOPNOTSUPP process-required')
    expect(leads()).toEqual(['9000', 'a000'])
  })

  it('can be the one that the device is on as a whole', () => {
    const { rig, backend, whole, leads } = rigWith(true)
    rig.run(backend.attach([device], 3, whole, undefined))
    expect(leads()).toEqual(['9000', '9000'])
    rig.run(backend.unmap(whole, 0x5000n, 0x1000n))
    expect(leads()).toEqual(['fault', 'fault'])
  })

  it('needs a device that is on a table with PASIDs', () => {
    const { rig, backend, first } = rigWith(true)
    rig.run(backend.detach([device, plain], 0))
    expect(rig.refusal(() => backend.attach([device], 3, first, undefined))).toBe('EINVAL pasid-not-enabled')
  })

  it.each([16, 0xfffff])('is not behind PASID %d of a device with 16', (pasid) => {
    const { rig, backend, first } = rigWith(true)
    expect(rig.refusal(() => backend.attach([device], pasid, first, undefined))).toBe('EINVAL pasid-range')
  })

  it('goes when the device is blocked: nothing passes any more', () => {
    const { rig, backend, whole, first, leads } = rigWith(true)
    rig.run(backend.attach([device], 3, first, undefined))
    rig.run(backend.detach([device, plain], 0))
    expect(leads()).toEqual(['fault', 'fault'])
    rig.run(backend.detach([device, plain], 3))
    for (const domain of [whole, first]) rig.run(backend.freeDomain(domain))
  })
})
