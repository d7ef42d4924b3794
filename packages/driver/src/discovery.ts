/**
 * Discovery: which IOMMUs there are, what each of them can do, and what firmware says about the devices behind it.
 *
 * From the IVRS table and the capability block of each IOMMU's PCI function. Linux drivers/iommu/amd/init.c,
 * `init_iommu_all`, `early_iommu_features_init`, `late_iommu_features_init`.
 *
 * @packageDocumentation
 */
import { hex } from '@nestwalk/bits'
import { decodeIvrs, devicesOf, ivhdsInUse, IvrsError, registers } from '@nestwalk/hardware'
import type { FeatureRegisters, IommuPort, Ivhd, IvhdFlags, Ivrs } from '@nestwalk/hardware'
import { readCapability } from './configuration-space.js'
import type { ConfigurationSpace, IommuCapability } from './configuration-space.js'
import type { OfferedFeatures } from './feature-negotiation.js'
import type { SettledRange } from './firmware-settings.js'
import { refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import { unityMapsOf } from './unity-map.js'
import type { UnityMap } from './unity-map.js'

/** An IOMMU as software meets it: its registers, and the configuration space of its PCI function where it has one. */
export type IommuAccess = IommuPort & Partial<ConfigurationSpace>

/** How firmware wants the HyperTransport link to be used: bits of the control register. */
export type LinkFlags = Pick<IvhdFlags, 'htTunEn' | 'passPW' | 'resPassPW' | 'isoc'>

/** One IOMMU that was found. */
export interface FoundIommu extends OfferedFeatures {
  /** DeviceID of its own PCI function, which nobody translates; absent without an IVRS table. */
  readonly deviceId: number | undefined
  readonly link: LinkFlags
  /** Devices behind it may have TLBs of their own (ATS). */
  readonly iotlbSup: boolean
  /** Where its registers are to be made to answer; absent if they do already. */
  readonly registerBase: { readonly capability: number; readonly base: bigint } | undefined
}

/** Something that firmware and the hardware do not agree on. */
export interface DiscoveryFinding {
  readonly rule: 'feature-mismatch' | 'register-base-mismatch'
  /** Index of the IOMMU. */
  readonly iommu: number
  /** One sentence for a person. */
  readonly why: string
}

/** All that is known before the first register is written. */
export interface Discovery {
  readonly iommus: readonly FoundIommu[]
  /** What firmware says about devices, in the order of the table; absent without a table: then whoever probes says it. */
  readonly ranges: readonly SettledRange[] | undefined
  readonly unityMaps: readonly UnityMap[]
  /** Highest DeviceID that firmware names; absent without a table. */
  readonly lastDeviceId: number | undefined
  readonly findings: readonly DiscoveryFinding[]
}

const plainLink: LinkFlags = { htTunEn: false, passPW: false, resPassPW: false, isoc: false }

/** The IOMMUs without a word of firmware: their registers answer, and tell what they can do. */
export const foundByRegisters = (ports: readonly IommuAccess[]): Discovery => ({
  iommus: ports.map((port) => ({
    deviceId: undefined,
    features: featuresOf(port),
    link: plainLink,
    hostTablesOff: false,
    npCache: false,
    iotlbSup: true,
    registerBase: undefined,
  })),
  ranges: undefined,
  unityMaps: [],
  lastDeviceId: undefined,
  findings: [],
})

/**
 * Reads the IVRS table and the capability block of each of its IOMMUs.
 *
 * What is wrong with the table alone is the business of `lintIvrs`. EINVAL if it cannot be read; ENODEV if it does not
 * have just the IOMMUs that there are, or one of them has no capability block.
 *
 * @param ports - the IOMMUs of the segment in the order in which the table names them
 */
export function foundByFirmware(
  table: Uint8Array,
  segment: number,
  ports: readonly IommuAccess[],
): Discovery | Refusal {
  const ivrs = readTable(table)
  if ('ok' in ivrs) return ivrs
  const definitions = ivhdsInUse(ivrs).filter((ivhd) => ivhd.segment === segment)
  if (definitions.length === 0 || definitions.length !== ports.length) {
    const counts = `the IVRS table has ${definitions.length} IOMMUs in segment ${segment}`
    return refuse('ENODEV', 'iommus-of-the-table', `${counts}, but ${ports.length} are there`)
  }
  const iommus: FoundIommu[] = []
  const findings: DiscoveryFinding[] = []
  for (const [iommu, ivhd] of definitions.entries()) {
    const port = ports[iommu]
    const found = port === undefined ? noCapability : find(ivrs, ivhd, port)
    if ('ok' in found) return found
    iommus.push(found.iommu)
    findings.push(...found.findings.map((finding) => ({ ...finding, iommu })))
  }
  const ranges = definitions.flatMap((ivhd, iommu) =>
    devicesOf(ivhd).ranges.map((range) => ({ ...range, iommu })),
  )
  const lastDeviceId = ranges.reduce((highest, { last }) => Math.max(highest, last), 0)
  return { iommus, ranges, unityMaps: unityMapsOf(ivrs, segment), lastDeviceId, findings }
}

function readTable(table: Uint8Array): Ivrs | Refusal {
  try {
    return decodeIvrs(table)
  } catch (error) {
    if (error instanceof IvrsError) return refuse('EINVAL', 'ivrs-unreadable', error.message)
    throw error
  }
}

interface Found {
  readonly iommu: FoundIommu
  readonly findings: readonly Omit<DiscoveryFinding, 'iommu'>[]
}

const noCapability = refuse('ENODEV', 'no-iommu-capability', 'the IOMMU has no configuration space')

const hasConfiguration = (port: IommuAccess): port is IommuPort & ConfigurationSpace =>
  port.readConfig !== undefined && port.writeConfig !== undefined

function find(ivrs: Ivrs, ivhd: Ivhd, port: IommuAccess): Found | Refusal {
  if (!hasConfiguration(port)) return noCapability
  const capability = readCapability(port, ivhd.capabilityOffset)
  if ('ok' in capability) return capability
  if (!capability.registersAnswer && ivhd.mmioBase === 0n) {
    return refuse(
      'ENODEV',
      'no-register-base',
      'the registers are off, and the IVRS table has no place for them',
    )
  }
  const told = featuresTold(ivrs, ivhd)
  // A port answers wherever its registers are, and before they are anywhere.
  const own = capability.efrSup ? featuresOf(port) : noFeatures
  const { deviceId, flags: link } = ivhd
  const iommu = {
    deviceId,
    link,
    // As Linux: firmware's image was there first, and is believed.
    features: told ?? own,
    hostTablesOff: ivhd.type !== 0x10 && ivhd.attributes.hatDis,
    npCache: capability.npCache,
    iotlbSup: capability.iotlbSup,
    registerBase: capability.registersAnswer
      ? undefined
      : { capability: ivhd.capabilityOffset, base: ivhd.mmioBase },
  }
  return { iommu, findings: [...mismatchOf(told, own), ...misplacedRegisters(ivhd, capability)] }
}

const noFeatures: FeatureRegisters = { efr: 0n, efr2: 0n }

const featuresOf = (port: IommuPort): FeatureRegisters => ({
  efr: port.readMmio(registers.efr.offset, 8),
  efr2: port.readMmio(registers.efr2.offset, 8),
})

/** The images of the feature registers in the table; types 11h and 40h have them, if IVinfo says so. */
function featuresTold({ info }: Ivrs, ivhd: Ivhd): FeatureRegisters | undefined {
  if (!info.efrSup || ivhd.type === 0x10 || ivhd.efr === 0n) return undefined
  return { efr: ivhd.efr, efr2: ivhd.efr2 }
}

function mismatchOf(told: FeatureRegisters | undefined, own: FeatureRegisters): Found['findings'] {
  if (told === undefined || (told.efr === own.efr && told.efr2 === own.efr2)) return []
  const both = ({ efr, efr2 }: FeatureRegisters): string => `EFR ${hex(efr)} and EFR2 ${hex(efr2)}`
  const why = `firmware says ${both(told)}, the registers have ${both(own)}: firmware is believed, as in Linux`
  return [{ rule: 'feature-mismatch', why }]
}

/** Linux looks for the registers where the table has them, and does not ask the capability block. */
function misplacedRegisters({ mmioBase }: Ivhd, capability: IommuCapability): Found['findings'] {
  if (!capability.registersAnswer || capability.registerBase === mmioBase) return []
  const why = `the table has the registers at ${hex(mmioBase)}, they answer at ${hex(capability.registerBase)}`
  return [{ rule: 'register-base-mismatch', why }]
}
