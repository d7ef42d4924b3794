/** A process, a backend and accounts to test an IO address space with. */
import { PinAccounts } from '../../src/io-pagetable/pin-accounts.js'
import type { PinCharge } from '../../src/io-pagetable/pin-accounts.js'
import type { PinEnvironment } from '../../src/io-pagetable/pin-environment.js'
import type { IoPagetable } from '../../src/io-pagetable/io-pagetable.js'
import type { Outcome, Refusal } from '../../src/outcome.js'
import { SimulatedHost, SimulatedProcess } from '../../src/simulated-process.js'
import type { SimulatedFile } from '../../src/simulated-process.js'
import { FakeBackend } from './fake-backend.js'

export const last64 = 0xffff_ffff_ffff_ffffn

/** The value, or the errno. */
export const resultOf = <T>(outcome: Outcome<T> | Refusal | undefined): T | string | undefined =>
  outcome === undefined ? undefined : outcome.ok ? outcome.value : outcome.errno

export interface MapOptions {
  readonly readable?: boolean
  readonly writeable?: boolean
  readonly charge?: PinCharge
  readonly process?: SimulatedProcess
}

export class World implements PinEnvironment {
  readonly host = SimulatedHost.create()
  readonly process = SimulatedProcess.create(this.host)
  readonly fake = new FakeBackend()
  readonly backend = this.fake.asBackend
  readonly accounts = PinAccounts.create()
  /** How many points of failure are passed before one fails. */
  goodPoints = Infinity
  /** A page of the process. */
  readonly buffer = this.process.memory.map(0x10000)

  shouldFail(): boolean {
    return this.goodPoints-- <= 0
  }

  chargeOf(process: SimulatedProcess = this.process): PinCharge {
    return { mm: process.memory.key, uid: process.uid, mode: 'user', limitPages: undefined }
  }

  /** IOAS_MAP; the rights default to both. */
  map(
    table: IoPagetable,
    address: bigint,
    length: bigint,
    iova?: bigint,
    options: MapOptions = {},
  ): bigint | string | undefined {
    const { readable = true, writeable = true, process = this.process } = options
    const startInPage = Number(address % 4096n)
    const pages = Number((BigInt(startInPage) + length + 4095n) / 4096n)
    return resultOf(
      table.mapSource(this, {
        source: process.memory.source(address, pages),
        startInPage,
        startAddress: address,
        length,
        iova,
        readable,
        writeable,
        charge: options.charge ?? this.chargeOf(process),
        isFile: false,
      }),
    )
  }

  /** IOAS_MAP_FILE. */
  mapFile(
    table: IoPagetable,
    file: SimulatedFile,
    start: bigint,
    length: bigint,
    iova?: bigint,
    charge = this.chargeOf(),
  ): bigint | string | undefined {
    const startInPage = Number(start % 4096n)
    const pages = Number((BigInt(startInPage) + length + 4095n) / 4096n)
    return resultOf(
      table.mapSource(this, {
        source: file.source(start, pages),
        startInPage,
        startAddress: start,
        length,
        iova,
        readable: true,
        writeable: true,
        charge,
        isFile: true,
      }),
    )
  }

  /** IOAS_UNMAP: bytes, or the errno of what stopped it. */
  unmap(table: IoPagetable, first: bigint, length: bigint): bigint | string {
    const done = table.unmap(this, first, length)
    if (!done.ok) return done.errno
    return done.value.refused?.errno ?? done.value.bytes
  }

  physical(address: bigint): bigint | undefined {
    return this.process.memory.lookUp(address)?.physical
  }
}
