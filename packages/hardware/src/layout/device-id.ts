/**
 * DeviceID: which device made a request.
 *
 * It is the PCI requester ID, bus 15:8, device 7:3, function 2:0. The PCI segment is implied by
 * which IOMMU saw the request and never appears in a table, command or event.
 *
 * @packageDocumentation
 */
import { hexDigits } from '@nestwalk/bits'
import type { Brand } from '@nestwalk/bits'

/** A 16-bit DeviceID. */
export type DeviceId = Brand<number, 'DeviceId'>

/** @throws RangeError for anything but a 16-bit unsigned integer */
export function deviceId(value: number): DeviceId {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff) {
    throw new RangeError(`${value} is no DeviceID: it has 16 bits, 0 to 0xffff`)
  }
  return value as DeviceId
}

/** A DeviceID as `bb:dd.f`: bus, device and function in hexadecimal. */
export const formatDeviceId = (id: DeviceId): string =>
  `${hexDigits(id >> 8, 2)}:${hexDigits((id >> 3) & 0x1f, 2)}.${hexDigits(id & 7)}`

const busDeviceFunction = /^([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$/i

/**
 * Reads `bb:dd.f`.
 *
 * @throws SyntaxError naming the text
 */
export function parseDeviceId(text: string): DeviceId {
  const [, bus = '', device = '', fn = ''] = busDeviceFunction.exec(text) ?? []
  const deviceNumber = parseInt(device, 16)
  if (bus === '' || deviceNumber > 0x1f) {
    throw new SyntaxError(
      `'${text}' is not a device: write bus:device.function in hexadecimal, such as 06:00.0`,
    )
  }
  return deviceId((parseInt(bus, 16) << 8) | (deviceNumber << 3) | Number(fn))
}
