import fc from 'fast-check'
import { expect, it } from 'vitest'
import { deviceId, domainId, formatDeviceId, parseDeviceId, pasid } from './index.js'

it('a DeviceID is bus, device and function', () => {
  expect(formatDeviceId(deviceId(0x0600))).toBe('06:00.0')
  expect(formatDeviceId(deviceId(0xffff))).toBe('ff:1f.7')
  expect(parseDeviceId('00:02.0')).toBe(0x10)
  expect(parseDeviceId('C0:00.1')).toBe(0xc001)
})

it('every DeviceID reads back', () => {
  fc.assert(
    fc.property(fc.nat(0xffff).map(deviceId), (id) => {
      expect(parseDeviceId(formatDeviceId(id))).toBe(id)
    }),
  )
})

it.each(['', '06:00', '06:20.0', '06:00.8', '0000:06:00.0', '6', '106:00.0', 'g0:00.0'])(
  "'%s' is no device",
  (text) => {
    expect(() => parseDeviceId(text)).toThrow(`'${text}' is not a device`)
  },
)

it('identifiers have their widths', () => {
  expect(() => deviceId(0x10000)).toThrow('65536 is no DeviceID: it has 16 bits')
  expect(() => domainId(-1)).toThrow('-1 is no DomainID: it has 16 bits')
  expect(() => pasid(0x100000)).toThrow('1048576 is no PASID: it has 20 bits')
  expect(() => pasid(1.5)).toThrow(RangeError)
  expect(pasid(0xfffff)).toBe(0xfffff)
})
