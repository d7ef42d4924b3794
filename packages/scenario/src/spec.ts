/**
 * What a machine consists of, and what happens on it: scenarios as data.
 *
 * @packageDocumentation
 */

/** A device of the host. */
export interface DeviceSpec {
  /** Its name in actions: "D1". */
  readonly name: string
  /** Its DeviceID on the host. */
  readonly deviceId: number
  /** Its IOMMU group. */
  readonly group: number
}

/** A virtual machine. */
export interface VmSpec {
  readonly name: string
  /** The devices that are passed to it, with the DeviceIDs that it knows them by. */
  readonly devices: readonly { readonly name: string; readonly virtualId: number }[]
}

/** The hardware and the virtual machines, without the policy. */
export interface MachineSpec {
  readonly devices: readonly DeviceSpec[]
  readonly vms: readonly VmSpec[]
}

/** One thing that somebody does. Each is carried out to its end before the next one begins. */
export type Action =
  /** A guest's driver makes a domain: a GCR3 table and a guest table of its own. */
  | {
      readonly do: 'guest-domain'
      readonly vm: string
      readonly domain: string
      /** The guest's mistake: the domain gets the DomainID of another one. */
      readonly sameIdAs?: string
    }
  /** A guest's driver maps one 4 KiB page. */
  | {
      readonly do: 'guest-map'
      readonly vm: string
      readonly domain: string
      readonly gva: bigint
      readonly gpa: bigint
    }
  /** A guest's driver unmaps one 4 KiB page, invalidates, and waits. */
  | { readonly do: 'guest-unmap'; readonly vm: string; readonly domain: string; readonly gva: bigint }
  /** A guest's driver attaches a device; between two domains the device is blocked for a while. */
  | { readonly do: 'guest-attach'; readonly vm: string; readonly device: string; readonly domain: string }
  /** A guest's driver attaches a device with a single change of its entry. */
  | { readonly do: 'guest-replace'; readonly vm: string; readonly device: string; readonly domain: string }
  | { readonly do: 'guest-detach'; readonly vm: string; readonly device: string }
  /** A device reads or writes, without PASID. */
  | { readonly do: 'dma'; readonly device: string; readonly gva: bigint; readonly write: boolean }

/** A scenario: a machine, how it is prepared, and what then happens. */
export interface Scenario {
  /** "S01". */
  readonly id: string
  readonly title: string
  /** What it is about, in a sentence or two. */
  readonly story: string
  readonly machine: MachineSpec
  readonly setup: readonly Action[]
  readonly run: readonly Action[]
}
