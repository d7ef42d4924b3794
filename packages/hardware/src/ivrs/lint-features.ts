/**
 * Checks of what an IVHD says that its IOMMU can do.
 *
 * AMD 48882 rev 3.10, I/O virtualization ACPI table, Extended Feature Registers.
 *
 * @packageDocumentation
 */
import { reservedBits } from '@nestwalk/bits'
import { decodeEfr, decodeEfr2, efr2Layout, efrLayout } from '../layout/features.js'
import type { PlacedBlock, Report } from './finding.js'
import type { Ivhd, Ivhd11 } from './ivrs.js'

/** Widest PASID that Linux takes, less one. */
const mostPasMax = 15

export function lintFeatures({ block, offset, path }: PlacedBlock<Ivhd>, report: Report): void {
  const reserved = reservedOf(block)
  if (reserved.length > 0) {
    const told = `reserved bits are set in ${reserved.join(', ')}`
    report(
      'reserved-bits',
      { offset, path },
      `${told}: a later revision may give them a meaning; Linux ignores them`,
    )
  }
  const at = block.type === 0x10 ? { offset: offset + 20, path: `${path}.features` } : efrPlace(offset, path)
  const wrong = block.type === 0x10 ? encodingsOf(block.features) : wrongInEfr(block)
  for (const message of wrong) report('features', at, message)
  const { gtSup, pasMax } = block.type === 0x10 ? block.features : decodeEfr(block.efr)
  if (gtSup && pasMax > mostPasMax) {
    const told = `PASmax ${pasMax} means PASIDs of ${pasMax + 1} bits`
    const linux = 'Linux takes 16 at most and stops with a BUG'
    report(
      'pasid-width',
      at,
      `${told}, but a request carries 20 bits at most, and shipping parts use 16: ${linux}`,
    )
  }
}

const efrPlace = (offset: number, path: string): { offset: number; path: string } => ({
  offset: offset + 24,
  path: `${path}.efr`,
})

function reservedOf(ivhd: Ivhd): string[] {
  const found: string[] = []
  if (ivhd.info.reserved !== 0) found.push('info')
  if (ivhd.type === 0x10) return found
  if (ivhd.flags.preFSup || ivhd.flags.pprSup) found.push('flags')
  if (ivhd.attributes.reserved !== 0) found.push('attributes')
  if (reservedBits(efrLayout, BigUint64Array.of(ivhd.efr)).length > 0) found.push('EFR')
  if (reservedBits(efr2Layout, BigUint64Array.of(ivhd.efr2)).length > 0) found.push('EFR2')
  return found
}

/** Codes without a meaning. */
function encodingsOf({ gtSup, glxSup, gats }: { gtSup: boolean; glxSup: number; gats: number }): string[] {
  const wrong: string[] = []
  if (gtSup && glxSup === 3) wrong.push('GLXSup 3 has no meaning: GCR3 tables have one to three levels')
  if (gtSup && gats > 1) wrong.push(`GATS ${gats} has no meaning: guest tables have four or five levels`)
  return wrong
}

/** Features that need others which are not there. */
function wrongInEfr(ivhd: Ivhd11): string[] {
  const efr = decodeEfr(ivhd.efr)
  const { gcr3TrpModeSup } = decodeEfr2(ivhd.efr2)
  const wrong = encodingsOf(efr)
  const missing = (feature: string, needs: string, effect: string): void => {
    wrong.push(`${feature} without ${needs}: ${effect}`)
  }
  if (efr.gIoSup && !efr.gtSup) {
    missing(
      'GIoSup',
      'GTSup',
      'guest I/O protection is about guest tables; Linux offers neither them nor nesting',
    )
  }
  if (gcr3TrpModeSup && !(efr.gtSup && efr.gIoSup)) {
    missing('GCR3TRPModeSup', 'GTSup and GIoSup', 'Linux does not offer nesting')
  }
  if (efr.hdSup && !efr.haSup) missing('HDSup', 'HASup', 'Linux does not offer dirty tracking')
  if (efr.ephSup && !efr.pprSup) missing('EPHSup', 'PPRSup', 'there are no page requests to handle')
  if (efr.vIommuSup && !(efr.gtSup && efr.gaSup)) {
    missing('vIommuSup', 'GTSup and GASup', 'a hardware vIOMMU needs guest tables and the guest virtual APIC')
  }
  const hasNoHost = efr.hats === 3
  if (hasNoHost !== ivhd.attributes.hatDis) {
    const said = hasNoHost
      ? 'HATS says that there is no host translation, HATDIS does not'
      : 'HATDIS is set, HATS is not 3'
    wrong.push(`${said}: Linux goes by HATDIS when it chooses between host and guest tables`)
  }
  return wrong
}
