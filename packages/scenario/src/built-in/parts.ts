/**
 * What the built-in scenarios have in common: machines and addresses.
 *
 * @packageDocumentation
 */
import type { MachineSpec } from '../spec.js'

/** Addresses of the stories: X is a guest-virtual page, the others are guest-physical ones. */
export const page = {
  x: 0x4020_3000n,
  a: 0x34_5000n,
  b: 0x56_7000n,
  c: 0x78_9000n,
} as const

const d1 = { name: 'D1', deviceId: 0x18 } // 00:03.0
const d2 = { name: 'D2', deviceId: 0x20 } // 00:04.0

const bothOfOneVm = [
  {
    name: 'VM1',
    devices: [
      { name: 'D1', virtualId: 0x8 }, // 00:01.0
      { name: 'D2', virtualId: 0x10 }, // 00:02.0
    ],
  },
]

/** One VM with two devices of one group. */
export const sharedGroup: MachineSpec = {
  devices: [
    { ...d1, group: 1 },
    { ...d2, group: 1 },
  ],
  vms: bothOfOneVm,
}

/** One VM with two devices of different groups. */
export const twoGroups: MachineSpec = {
  devices: [
    { ...d1, group: 1 },
    { ...d2, group: 2 },
  ],
  vms: bothOfOneVm,
}

/** Two VMs with a device each. */
export const twoVms: MachineSpec = {
  devices: twoGroups.devices,
  vms: [
    { name: 'VM1', devices: [{ name: 'D1', virtualId: 0x8 }] },
    { name: 'VM2', devices: [{ name: 'D2', virtualId: 0x8 }] },
  ],
}
