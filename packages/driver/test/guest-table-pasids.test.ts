/** Domains with guest tables behind PASIDs, as processes are: one table may serve requests with and without PASID. */
import { iova, spa } from '@nestwalk/bits'
import { sharedGcr3, viommuMap } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { answer, Machine, readWrite, withoutTables } from './machine.js'

const device = 0x18

/** A device on one guest table; another one that is to go behind a PASID. */
function machineWith(policy = viommuMap) {
  const machine = Machine.create({ policy })
  const { driver } = machine
  machine.run(driver.probe(device, 1, 0, { maxPasids: 512 }))
  const whole = machine.run(driver.allocateGuestTable())
  const part = machine.run(driver.allocateGuestTable())
  machine.run(driver.map(whole, iova(0x5000n), spa(0x9000n), 0x1000n, readWrite))
  machine.run(driver.map(part, iova(0x5000n), spa(0xa000n), 0x1000n, readWrite))
  machine.run(driver.attach(device, whole))
  const leads = (pasid?: number): string =>
    answer(
      machine.iommu.request({ deviceId: device, iova: 0x5000n, ...(pasid === undefined ? {} : { pasid }) }),
    )
  return { machine, driver, whole, part, leads }
}

describe.each([viommuMap, sharedGcr3])('policy $letter', (policy) => {
  it('requests with the PASID go through the table behind it, others do not', () => {
    const { machine, driver, part, leads } = machineWith(policy)
    machine.run(driver.attachPasid([device], 7, part))
    expect([leads(), leads(7), leads(8)]).toEqual(['translated 9000', 'translated a000', 'fault'])
    machine.run(driver.detachPasid([device], 7))
    expect([leads(), leads(7)]).toEqual(['translated 9000', 'fault'])
  })

  it('an unmap reaches what was cached under each PASID that the table is behind', () => {
    const { machine, driver, whole, leads } = machineWith(policy)
    machine.run(driver.attachPasid([device], 7, whole))
    machine.run(driver.attachPasid([device], 9, whole))
    expect([leads(), leads(7), leads(9)]).toEqual(Array(3).fill('translated 9000'))
    const lines = withoutTables(machine.tell(driver.unmap(whole, iova(0x5000n), 0x1000n)))
    expect(lines.filter((line) => line.startsWith('PAGES')).map((line) => line.slice(-4))).toEqual([
      ...['GN 0', 'GN 7', 'GN 9'],
    ])
    expect([leads(), leads(7), leads(9)]).toEqual(Array(3).fill('fault'))
  })

  it('such a domain is in use', () => {
    const { machine, driver, part } = machineWith(policy)
    machine.run(driver.attachPasid([device], 7, part))
    expect(machine.refusal(() => driver.freeDomain(part))).toBe('EBUSY domain-in-use')
    machine.run(driver.detachPasid([device], 7))
    machine.run(driver.freeDomain(part))
  })
})

it('a host table does not go behind a PASID', () => {
  const { machine, driver } = machineWith()
  const host = machine.run(driver.allocateHostTable())
  expect(machine.refusal(() => driver.attachPasid([device], 7, host))).toBe('EOPNOTSUPP process-required')
})

it('a guest table of other levels does not go behind a PASID', () => {
  const { machine, driver } = machineWith()
  const four = machine.run(driver.allocateGuestTable({ levels: 4 }))
  expect(machine.refusal(() => driver.attachPasid([device], 7, four))).toBe('EINVAL guest-levels')
})
