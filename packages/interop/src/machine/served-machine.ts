/**
 * The two functions that a VMM is given, on one IOMMU over one guest's RAM; and an account of what happens at them.
 *
 * @packageDocumentation
 */
import { encodeIvrs, Iommu, SparseMemory } from '@nestwalk/hardware'
import type { FeatureRegisters, IvhdAttributes } from '@nestwalk/hardware'
import { serveVfioUser } from '../vfio-user/index.js'
import type { VfioUserServer, VfioUserServerOptions } from '../vfio-user/index.js'
import { CopyEngine } from './copy-engine.js'
import { GuestRam } from './guest-ram.js'
import { IommuFunction } from './iommu-function.js'

/** Where the functions are in the guest: device and function of bus 0. */
const iommuDeviceId = 0x18
export const engineDeviceId = 0x20

/** Where SeaBIOS puts BAR 0 of the first function on QEMU's q35. */
export const firstBarAddress = 0xfeb00000

const capabilityOffset = 0x40

export interface ServedMachineOptions {
  /** Paths of the sockets, at most 107 bytes. */
  readonly iommuSocket: string
  readonly engineSocket: string
  /** File that holds the guest's RAM. */
  readonly ramFile: string
  readonly features: FeatureRegisters
  /** Takes one sentence about whatever a peer did wrong. */
  readonly report: (line: string) => void
}

/** An event as the IOMMU put it into its log: two words of 64 bits. */
export type LoggedEvent = readonly [bigint, bigint]

/** What has happened so far. */
export interface Account {
  /** Commands by opcode. */
  readonly commands: Map<number, number>
  translations: number
  interrupts: number
  readonly events: LoggedEvent[]
}

/** Events kept at most: enough for any check, and no more than that. */
const mostEvents = 100_000

/** See the file's comment. */
export class ServedMachine {
  readonly account: Account = { commands: new Map(), translations: 0, interrupts: 0, events: [] }
  /** Called when the engine's mark register is written, while the guest's processor waits. */
  onMark: (mark: bigint) => void = () => undefined
  /** Called when software turns the registers on; the address is where they are. */
  onPlaced: (address: number) => void = () => undefined
  private readonly servers: VfioUserServer[] = []

  private constructor(
    readonly ram: GuestRam,
    readonly iommu: Iommu,
  ) {}

  /** Serves both functions until {@link close}. @throws InteropError, RangeError for sockets or files that cannot be had */
  static async serve(options: ServedMachineOptions): Promise<ServedMachine> {
    const { iommuSocket, engineSocket, ramFile, features, report } = options
    const ram = GuestRam.open(ramFile)
    const memory = SparseMemory.over(ram)
    const iommu = Iommu.create({ memory, features, pci: { iommuDeviceId } })
    const machine = new ServedMachine(ram, iommu)
    const { account } = machine
    const iommuFunction = new IommuFunction(iommu, ram, {
      command: ([, high = 0]) => {
        const opcode = high >>> 28
        account.commands.set(opcode, (account.commands.get(opcode) ?? 0) + 1)
      },
      interrupt: () => (account.interrupts += 1),
      placed: (address) => {
        machine.onPlaced(address)
      },
    })
    const engine = new CopyEngine({
      ...{ iommu, ram, deviceId: engineDeviceId },
      watcher: {
        translated: () => (account.translations += 1),
        refused: (event) => {
          if (account.events.length < mostEvents) account.events.push(event)
        },
        mark: (mark) => {
          machine.onMark(mark)
        },
      },
      sendInterrupts: () => {
        iommuFunction.sendInterrupts()
      },
    })
    try {
      await machine.add({ path: iommuSocket, device: iommuFunction, report })
      await machine.add({ path: engineSocket, device: engine, report })
    } catch (error) {
      await machine.close()
      throw error
    }
    return machine
  }

  async close(): Promise<void> {
    for (const server of this.servers) await server.close()
    this.ram.close()
  }

  private async add(options: VfioUserServerOptions): Promise<void> {
    this.servers.push(await serveVfioUser(options))
  }
}

const noAttributes: IvhdAttributes = { hatDis: false, pnCounters: 0, pnBanks: 0, msiNumPpr: 0, reserved: 0 }

/**
 * The IVRS table that tells a guest of the IOMMU, and of the copy engine as the only device behind it.
 *
 * Devices that it does not name have no IOMMU, and their memory accesses go past us.
 */
export function ivrsOf({ efr, efr2 }: FeatureRegisters, registersAt = firstBarAddress): Uint8Array {
  return encodeIvrs({
    ...{ revision: 2, oemId: 'NESTWK', oemTableId: 'NESTWALK', oemRevision: 1 },
    ...{ creatorId: 'NWLK', creatorRevision: 1, reserved: 0n },
    info: {
      ...{ efrSup: true, dmaRemap: false, gvaSize: 2, paSize: 48, vaSize: 64, htAtsResv: false, reserved: 0 },
    },
    blocks: [
      {
        ...{ kind: 'ivhd', type: 0x11, deviceId: iommuDeviceId, capabilityOffset, segment: 0, efr, efr2 },
        flags: {
          ...{ htTunEn: false, passPW: false, resPassPW: false, isoc: false, iotlbSup: true },
          ...{ coherent: true, preFSup: false, pprSup: false },
        },
        mmioBase: BigInt(registersAt),
        info: { msiNum: 0, unitId: 0, reserved: 0 },
        attributes: noAttributes,
        entries: [{ kind: 'select', deviceId: engineDeviceId, settings: 0 }],
      },
    ],
  })
}
