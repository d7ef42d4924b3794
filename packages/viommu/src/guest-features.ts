/**
 * What the guest is told that its IOMMU can do.
 *
 * The mask is the documented one for AMD guests (include/uapi/linux/iommufd.h, `iommu_hw_info_amd`), less what this
 * vIOMMU does not carry yet: page requests and interrupt remapping. NXSup and USSup are added, since hardware walks the
 * guest's tables with them.
 *
 * @packageDocumentation
 */
import { encode } from '@nestwalk/bits'
import { decodeEfr, efrLayout } from '@nestwalk/hardware'
import type { FeatureRegisters } from '@nestwalk/hardware'

/** HATS = 3: the guest has no host tables of its own, since nesting is one level deep. */
const noHostTables = 3

/** The guest's feature registers for a host's. */
export function guestFeatures(host: FeatureRegisters): FeatureRegisters {
  const { gtSup, gIoSup, nxSup, usSup, gats, glxSup, pasMax } = decodeEfr(host.efr)
  const words = encode(efrLayout, {
    gtSup,
    gIoSup,
    nxSup,
    usSup,
    gats,
    glxSup,
    pasMax,
    hats: noHostTables,
    // Carried out by the VMM itself, whatever the host's IOMMU can do.
    iaSup: true,
  })
  return { efr: words[0] ?? 0n, efr2: 0n }
}
