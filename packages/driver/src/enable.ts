/**
 * Turning an IOMMU on and off: its registers, in Linux's order.
 *
 * Linux drivers/iommu/amd/init.c, `early_enable_iommu` and `iommu_disable`.
 *
 * @packageDocumentation
 */
import { encode } from '@nestwalk/bits'
import type { Decoded, Spa } from '@nestwalk/bits'
import {
  commandBufferBaseLayout,
  controlLayout,
  decodeEfr,
  decodeEfr2,
  deviceTableBaseLayout,
  registers,
} from '@nestwalk/hardware'
import { ringLengthLog2 } from './command-ring.js'
import type { RingPlace } from './command-ring.js'
import { capabilityOffset } from './configuration-space.js'
import type { FoundIommu } from './discovery.js'
import type { Plan } from './plan.js'

/** Where the structures of one IOMMU lie. Ring and logs have 512 entries of 16 bytes. */
export interface IommuPlaces extends RingPlace {
  readonly eventLog: Spa
  /** Absent if the IOMMU takes no page requests. */
  readonly pprLog: Spa | undefined
}

/** One IOMMU, and what it is to work with. */
export interface IommuSetup {
  /** Its index. */
  readonly iommu: number
  readonly found: FoundIommu
  readonly places: IommuPlaces
}

/** The device table: its address, and its size in pages of 4 KiB. */
export interface DeviceTablePlace {
  readonly base: Spa
  readonly pages: number
}

type ControlFields = Partial<Decoded<typeof controlLayout>>

/** Code of one second. */
const invalidationTimeOut = 4

/** Commands are not fetched, nothing is logged. What is being translated goes on. */
const queuesOff: ControlFields = {
  cmdBufEn: false,
  eventIntEn: false,
  eventLogEn: false,
  gaLogEn: false,
  gaIntEn: false,
  pprLogEn: false,
  pprIntEn: false,
}

/** What an IOMMU is to do, apart from being on. */
function wantedFields({ found, places }: IommuSetup): ControlFields {
  const efr = decodeEfr(found.features.efr)
  const efr2 = decodeEfr2(found.features.efr2)
  const hasPageRequests = places.pprLog !== undefined
  const { htTunEn, passPW, resPassPW, isoc } = found.link
  return {
    ...{ htTunEn, passPW, resPassPW, isoc },
    coherent: true,
    invTimeOut: invalidationTimeOut,
    cmdBufEn: true,
    eventLogEn: true,
    eventIntEn: true,
    pprEn: hasPageRequests,
    pprLogEn: hasPageRequests,
    pprIntEn: hasPageRequests,
    gtEn: efr.gtSup,
    // Before the enable bit: without it a guest's GCR3 pointer would be read as a system address.
    gcr3TrpMode: efr.gtSup && efr2.gcr3TrpModeSup,
    ephEn: efr.ephSup,
    hadUpdate: efr.haSup && efr.hdSup ? 3 : 0,
  }
}

function write(plan: Plan, iommu: number, name: keyof typeof registers, value: bigint): void {
  const { offset, name: what } = registers[name]
  plan.register(iommu, offset, value, what)
}

/** @param base - what the register has; fields that are not named stay so */
function writeControl(plan: Plan, iommu: number, fields: ControlFields, base = 0n): void {
  const [word = 0n] = encode(controlLayout, fields, BigUint64Array.of(base))
  write(plan, iommu, 'control', word)
}

/** Points the IOMMU to its ring and logs, which are empty. */
function writeRings(plan: Plan, { iommu, places }: IommuSetup): void {
  const ring = (name: 'command' | 'event' | 'ppr', register: keyof typeof registers, base: Spa): void => {
    const [word = 0n] = encode(commandBufferBaseLayout, { base, lengthLog2: ringLengthLog2 })
    write(plan, iommu, register, word)
    write(plan, iommu, `${name}Head`, 0n)
    write(plan, iommu, `${name}Tail`, 0n)
  }
  ring('command', 'commandBufferBase', places.ring)
  ring('event', 'eventLogBase', places.eventLog)
  if (places.pprLog !== undefined) ring('ppr', 'pprLogBase', places.pprLog)
}

/** Makes the registers answer, if they do not yet. The base is locked from then on until reset. */
export function openRegisters(plan: Plan, { iommu, found: { registerBase } }: IommuSetup): void {
  if (registerBase === undefined) return
  const { capability, base } = registerBase
  const isOn = 1n
  plan.configuration(iommu, capability + capabilityOffset.baseHi, base >> 32n, 'register base, high half')
  const low = BigInt.asUintN(32, base) | isOn
  plan.configuration(iommu, capability + capabilityOffset.baseLo, low, 'register base, and on')
}

/** Turns an IOMMU on, whatever it did before: device table, ring and logs, what it is to do, and then that it does it. */
export function turnOn(plan: Plan, setup: IommuSetup, table: DeviceTablePlace): void {
  const { iommu } = setup
  const fields = wantedFields(setup)
  writeControl(plan, iommu, {})
  const { base, pages } = table
  const [word = 0n] = encode(deviceTableBaseLayout, { base, size: pages - 1 })
  write(plan, iommu, 'deviceTableBase', word)
  writeRings(plan, setup)
  writeControl(plan, iommu, fields)
  writeControl(plan, iommu, { ...fields, iommuEn: true })
}

/**
 * Gives a running IOMMU another ring and other logs; it translates all the time, by the device table that it has.
 *
 * @param control - what its control register has now
 */
export function exchangeRings(plan: Plan, setup: IommuSetup, control: bigint): void {
  writeControl(plan, setup.iommu, queuesOff, control)
  writeRings(plan, setup)
  writeControl(plan, setup.iommu, wantedFields(setup), control)
}

/**
 * Stops commands and logs, and then the IOMMU itself if it is not to go on refusing.
 *
 * @param control - what its control register has now
 */
export function turnOff(plan: Plan, iommu: number, control: bigint, staysOn: boolean): void {
  writeControl(plan, iommu, queuesOff, control)
  if (!staysOn) writeControl(plan, iommu, { ...queuesOff, iommuEn: false, irtCacheDis: false }, control)
}
