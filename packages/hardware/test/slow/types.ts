export interface Machine {
  /** The 64-bit word at a system physical address; undefined: no memory there. */
  load64(address: bigint): bigint | undefined
  registers: {
    /** Raw values of the registers 0x0, 0x100, 0x108, ... in this order. */
    deviceTableBases: bigint[]
    control: bigint
    /** Raw value of register 0x20; absent: 0, the exclusion range is off. */
    exclusionBase?: bigint
    /** Raw value of register 0x28; absent: 0. */
    exclusionLimit?: bigint
  }
  features: { efr: bigint; efr2: bigint }
}

export interface Request {
  deviceId: number
  /** Absent: a request without PASID prefix. */
  pasid?: number
  iova: bigint
  write: boolean
  /** Only looked at together with a PASID (it is a bit of the prefix); default false. */
  execute?: boolean
  /** Only looked at together with a PASID; default true. */
  user?: boolean
}

export interface Store {
  address: bigint
  old: bigint
  new: bigint
}

export interface Granted {
  /** forwarded: IOMMU off, V=0, exclusion range. translated: everything else, identity (Mode 0) too. */
  kind: 'forwarded' | 'translated'
  spa: bigint
  /** Absent where no table was walked. */
  sizeLog2?: number
  readable: boolean
  writable: boolean
  /** SPA of each table entry read, in order. */
  reads: bigint[]
  /** SPA of the DTE read (one 256-bit access), empty if none was read. */
  dteReads: bigint[]
  /** Words changed by accessed/dirty updates, one entry a word, by address. */
  stores: Store[]
}

interface Faulted {
  kind: 'fault'
  /** null: suppressed by DTE.SA. */
  event: [bigint, bigint] | null
  /** For people and histograms, not part of the architecture. */
  cause: string
  reads: bigint[]
  dteReads: bigint[]
}

/** Not modelled. interrupt: posted write to the interrupt range. special: the HyperTransport hole (5.5). */
interface OutOfScope<Kind> {
  kind: Kind
  reads: bigint[]
  dteReads: bigint[]
}

export type Result = Granted | Faulted | OutOfScope<'interrupt'> | OutOfScope<'special'>
