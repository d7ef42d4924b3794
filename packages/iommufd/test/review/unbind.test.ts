/** A device that cannot be given back stays bound, and everything with it. */
import { expect, it } from 'vitest'
import { d3, Host, nestingContext } from '../host.js'

it('a device that is being reset cannot be unbound, and nothing has changed', () => {
  const host = Host.create()
  const { context, device, viommu } = nestingContext(host)
  const vdevice = host.run(context.vdeviceAlloc(viommu, device, 8n))
  host.run(host.driver.beginReset(d3))
  expect(host.errno(() => context.unbind(device))).toBe('EBUSY')
  expect(context.object(vdevice)?.kind).toBe('vdevice')
  host.run(host.driver.endReset(d3))
  host.run(context.unbind(device))
  expect(context.object(vdevice)).toBeUndefined()
  expect(host.entry(d3)).toEqual([1n, 0n])
})

it('a device that is being reset cannot be detached: it would come back to what it was on', () => {
  const host = Host.create()
  const { context, device, parent } = nestingContext(host)
  host.run(context.attach(device, parent))
  host.run(host.driver.beginReset(d3))
  expect(host.errno(() => context.detach(device))).toBe('EBUSY')
  expect(host.errno(() => context.unbind(device))).toBe('EBUSY')
  host.run(host.driver.endReset(d3))
  host.run(context.detach(device))
  expect(host.entry(d3)).toEqual([1n, 0n])
})
