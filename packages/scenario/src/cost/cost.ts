/**
 * What DomainID policies cost, counted by running them: IDs, GCR3 pages, commands.
 *
 * @packageDocumentation
 */
import { iova, spa } from '@nestwalk/bits'
import type { DomainIdPolicy } from '@nestwalk/driver'
import { deviceId, domainId, encodeCommand, encodeDte, pasid, pasidZero } from '@nestwalk/hardware'
import { CountedMachine } from './counted-machine.js'
import type { HostOwnedCost, NestedCost } from './formula.js'
import { checkSetting, groupOf, guestDomainOf, iommuOf, sharedDomainId } from './setting.js'
import type { CostSetting } from './setting.js'

const firstDevice = 0x10
const [page, target, pageBytes] = [iova(0x8000n), spa(0x9000n), 0x1000n]
const readWrite = { read: true, write: true }
/** Enough to fill a queue of a real device; how deep it is costs nothing. */
const atsQueueDepth = 32
/** A device with 16 bits of PASID: two levels of GCR3 table. */
const maxPasids = 0x10000

const devicesOf = ({ devices }: CostSetting): number[] => Array.from({ length: devices }, (_, n) => n)

function machineFor(policy: DomainIdPolicy, setting: CostSetting, pasids: number): CountedMachine {
  const machine = CountedMachine.create(policy, setting.iommus)
  for (const n of devicesOf(setting)) {
    const group = groupOf(setting, n)
    const traits = { atsQueueDepth: n < setting.atsDevices ? atsQueueDepth : 0, maxPasids: pasids }
    machine.run(machine.driver.probe(firstDevice + n, group + 1, iommuOf(setting, group), traits))
  }
  return machine
}

/**
 * A VM whose devices are nested, each on the domain of its group, after they were on the host table itself.
 *
 * Where a guest's DomainID has several of the host's, its invalidations go to all of them: without, the guest would be
 * wrong, and cheap.
 *
 * @throws RangeError for a setting that cannot be
 */
export function nestedCost(policy: DomainIdPolicy, setting: CostSetting): NestedCost {
  checkSetting(setting)
  const machine = machineFor({ ...policy, guestInvalidation: 'all' }, setting, 0)
  const { driver } = machine
  const parent = machine.run(driver.allocateHostTable({ nestParent: true }))
  machine.run(driver.map(parent, page, target, pageBytes, readWrite))
  for (const n of devicesOf(setting)) machine.run(driver.attach(firstDevice + n, parent))
  const viommus = Array.from({ length: setting.iommus }, (_, iommu) =>
    machine.run(driver.createViommu(parent, iommu)),
  )
  for (let group = 0; group < setting.groups; group++) {
    const viommu = viommus[iommuOf(setting, group)] ?? 0
    const nested = machine.run(driver.allocateNested(viommu, guestEntry(setting, group)))
    for (const n of devicesOf(setting).filter((each) => groupOf(setting, each) === group)) {
      machine.run(driver.nameDevice(viommu, n, firstDevice + n))
      machine.run(driver.attach(firstDevice + n, nested))
    }
  }
  const domainIds = driver.tags.length
  const stage1Unmap = machine.count(driver.invalidateForGuest(viommus[0] ?? 0, guestUnmap(setting)))
  return { domainIds, stage2Unmap: machine.count(driver.unmap(parent, page, pageBytes)), stage1Unmap }
}

/** Guest tables of four levels behind a GCR3 table of the group's own, for requests without PASID. */
const guestEntry = (setting: CostSetting, group: number): bigint[] => [
  ...encodeDte({
    ...{ valid: true, translationValid: true, guestValid: true, guestIoValid: true },
    ...{ readAllowed: true, writeAllowed: true, gcr3Root: BigInt(group + 1) << 20n },
    domainId: domainId(guestDomainOf(setting, group)),
  }),
]

/** What a guest sends for one page: its DomainID, then each of the DomainID's devices that has a TLB. */
function guestUnmap(setting: CostSetting): (readonly [bigint, bigint])[] {
  const address = page
  const sharing = devicesOf(setting).filter((n) => groupOf(setting, n) < setting.sharingGroups)
  const commands = [
    encodeCommand({
      ...{ kind: 'InvalidateIommuPages', domainId: domainId(sharedDomainId), pasid: pasidZero },
      ...{ guestNested: true, address },
    }),
    ...sharing
      .filter((n) => n < setting.atsDevices)
      .map((n) => encodeCommand({ kind: 'InvalidateIotlbPages', deviceId: deviceId(n), address })),
  ]
  return commands.map(([lo = 0n, hi = 0n]) => [lo, hi])
}

/**
 * A host whose devices are all on one domain with tables in guest format, and have the same processes behind PASIDs.
 *
 * @throws RangeError for a setting that cannot be
 */
export function hostOwnedCost(policy: DomainIdPolicy, setting: CostSetting): HostOwnedCost {
  checkSetting(setting)
  const machine = machineFor(policy, setting, maxPasids)
  const { driver } = machine
  const domain = machine.run(driver.allocateGuestTable())
  machine.run(driver.map(domain, page, target, pageBytes, readWrite))
  const deviceIds = devicesOf(setting).map((n) => firstDevice + n)
  for (const each of deviceIds) machine.run(driver.attach(each, domain))
  const domainIds = driver.tags.length
  const processes = Array.from({ length: setting.processes }, (_, n) => {
    const process = machine.run(driver.allocateProcess())
    machine.run(driver.attachPasid(deviceIds, pasid(n + 1), process))
    return process
  })
  const [process = 0] = processes
  machine.run(driver.map(process, page, target, pageBytes, readWrite))
  return {
    domainIds,
    gcr3Pages: driver.gcr3Tables.reduce((sum, { pages }) => sum + pages.length, 0),
    unmap: machine.count(driver.unmap(domain, page, pageBytes)),
    processUnmap: machine.count(driver.unmap(process, page, pageBytes)),
  }
}
