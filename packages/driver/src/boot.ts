/**
 * From the first look at the IOMMUs to the books of a driver that may be used.
 *
 * @packageDocumentation
 */
import { bringUp, makeDeviceTable, makeRoom } from './bring-up.js'
import type { Books } from './books.js'
import { CommandRing } from './command-ring.js'
import type { SystemDefault } from './default-domain.js'
import { foundByFirmware, foundByRegisters } from './discovery.js'
import type { Discovery } from './discovery.js'
import { DomainIdAllocator } from './domain-id.js'
import type { DomainIdRules } from './domain-id.js'
import type { DriverPlace } from './driver-state.js'
import type { IommuSetup } from './enable.js'
import { negotiate } from './feature-negotiation.js'
import type { FlushScope } from './full-flush.js'
import type { Mutant } from './mutant.js'
import { refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import { PageAllocator } from './page-allocator.js'
import type { PageRange } from './page-allocator.js'
import type { Plan } from './plan.js'
import { perHostTable } from './policies/per-host-table.js'
import type { DomainIdPolicy } from './policy.js'
import { TagTable } from './tag-table.js'
import { findRunning, reserveIds, takeOver } from './takeover.js'

/** What a driver is made with. With an IVRS table the ports are in the order that it has. */
export interface DriverOptions extends DriverPlace {
  /** Memory for the driver's own tables and rings. */
  readonly pages: PageRange
  /** Default: the DomainID belongs to the domain. */
  readonly policy?: DomainIdPolicy
  /** Highest DeviceID of the segment. Default: the highest that the IVRS table names, 0xffff without one. */
  readonly lastDeviceId?: number
  /** Highest DomainID to hand out. Default 0xffff. */
  readonly lastDomainId?: number
  /** How DomainIDs are handed out and made clean. */
  readonly domainIds?: Partial<DomainIdRules>
  /** The bytes of the IVRS table. Without it IOMMU and aliases of a device are said when it is probed. */
  readonly ivrs?: Uint8Array
  /** PCI segment of the IOMMUs in the IVRS table. Default 0. */
  readonly segment?: number
  /** What devices are on once they are probed. Default: blocked. */
  readonly systemDefault?: SystemDefault
  /** NpCache, where there is no IVRS table to lead to the capability block that says so. Default: no. */
  readonly npCache?: boolean
  /** This kernel starts while the IOMMUs work for another, which crashed. Default: no; then they are turned off first. */
  readonly takesOver?: boolean
  /** Mistakes to make. Default: none. */
  readonly mutants?: ReadonlySet<Mutant>
}

/** A driver's state at its start. */
export interface Booted {
  readonly books: Books
  readonly rings: CommandRing[]
}

/** Plans bring-up or takeover of the IOMMUs. ENOMEM if the pages do not suffice; what discovery refuses is refused. */
export function boot(options: DriverOptions, plan: Plan): Booted | Refusal {
  const { ports, memory, ivrs } = options
  const found =
    ivrs === undefined ? foundByRegisters(ports) : foundByFirmware(ivrs, options.segment ?? 0, ports)
  if ('ok' in found) return found
  const lastDeviceId = options.lastDeviceId ?? found.lastDeviceId ?? 0xffff
  const pages = PageAllocator.create(options.pages)
  const ids = DomainIdAllocator.create(options.lastDomainId, options.domainIds)
  const running = options.takesOver === true ? findRunning(ports, memory, lastDeviceId) : undefined
  const table = running?.table ?? makeDeviceTable(plan, pages, lastDeviceId, found.ranges)
  const setups = makeRoom(plan, pages, found.iommus)
  if (table === undefined || setups === undefined) {
    return refuse('ENOMEM', 'no-bring-up-pages', 'the pages do not suffice for device table, rings and logs')
  }
  const scope = scopeOf(options, lastDeviceId)
  if (running === undefined) bringUp(plan, setups, table, scope)
  else takeOver(plan, setups, ports, scope)
  if (running !== undefined && options.mutants?.has('S26') !== true) reserveIds(ids, running.entries)
  const place = { deviceTable: table.base, lastDeviceId, pages, ids }
  return {
    books: freshBooks(options, found, setups, { ...place, inherited: new Map(running?.entries) }),
    rings: setups.map(({ places }) => CommandRing.create(places)),
  }
}

type BootPlace = Pick<Books, 'deviceTable' | 'lastDeviceId' | 'pages' | 'ids' | 'inherited'>

function freshBooks(
  options: DriverOptions,
  found: Discovery,
  setups: readonly IommuSetup[],
  place: BootPlace,
): Books {
  const { ranges, unityMaps, findings } = found
  const abilities = negotiate(found.iommus)
  return {
    ...place,
    ...abilities,
    npCache: abilities.npCache || (options.npCache ?? false),
    mutants: options.mutants ?? new Set(),
    policy: options.policy ?? perHostTable,
    iommus: setups.map(({ found: each, places }) => ({ ...each, ...places })),
    firmware: { ranges, unityMaps, findings },
    systemDefault: options.systemDefault ?? 'blocked',
    defaultDomains: new Map(),
    identityDomain: undefined,
    devices: new Map(),
    domains: new Map(),
    gcr3Tables: new Map(),
    viommus: new Map(),
    tags: TagTable.create(),
    deferred: new Map(),
    pageRequests: new Map(),
    nextDomain: 1,
    nextViommu: 1,
    nextGcr3: 1,
  }
}

const scopeOf = (
  { policy, lastDomainId }: DriverOptions,
  lastDeviceId: number,
): Omit<FlushScope, 'invalidateAll'> => ({
  lastDeviceId,
  lastDomainId: lastDomainId ?? 0xffff,
  walksDeviceIds: policy?.gaps?.has('U18') ?? false,
})
