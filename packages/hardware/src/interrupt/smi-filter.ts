/**
 * The SMI filter: which devices may send system management interrupts while Control.SmiFEn is set.
 *
 * AMD 48882 rev 3.10, SMI filter registers (MMIO 60h to D8h): each names one DeviceID, and a valid bit.
 *
 * @packageDocumentation
 */
import type { Features } from '../features.js'
import { mmio } from '../mmio.js'
import type { Registers } from '../registers.js'

const smiDeviceValid = 1 << 16

/** Whether a valid filter register names the device. */
export function passesSmiFilter(
  registers: Pick<Registers, 'lo'>,
  { smiFilters }: Features,
  deviceId: number,
): boolean {
  for (let n = 0; n < smiFilters; n++) {
    const filter = registers.lo(mmio.smiFilter0 + 8 * n)
    if ((filter & smiDeviceValid) !== 0 && (filter & 0xffff) === deviceId) return true
  }
  return false
}
