/**
 * The machine that both implementations are given: its memory, what lies where in it, and its devices.
 *
 * Software's structures have fixed places, so that a case is no more than what is put there. Every other 32-bit word of
 * memory holds its own address: what a device reads tells where it read.
 *
 * @packageDocumentation
 */

/** Bytes of RAM, from address 0. */
export const ramBytes = 4 << 20

/** Where a PC has no RAM: video memory and firmware. */
export const ramHole = { start: 0xa0000, end: 0x100000 } as const

export const pageBytes = 4096

/** Where things lie. All are multiples of a page. */
export const arena = {
  /** The command buffer: up to 8 KiB. */
  commands: 0x100000,
  /** The event log: up to 8 KiB. */
  events: 0x104000,
  /** Device tables: up to 8 pages. */
  deviceTables: 0x108000,
  deviceTablesEnd: 0x110000,
  /** What COMPLETION_WAIT may store to. */
  stores: 0x110000,
  /** Where each device writes what it has read, a page each. */
  dump: 0x114000,
  /** What is put into each device's buffer before a case, a page each. */
  patterns: 0x118000,
  /** Commands and device tables that take QEMU back to where it began: all translate, or all pass. */
  resetCommands: 0x11c000,
  resetTranslating: 0x120000,
  resetPassing: 0x124000,
  /** Page tables. */
  tables: 0x128000,
  tablesEnd: 0x200000,
  /** What tables may map; to the end of RAM. */
  targets: 0x200000,
} as const

/** Where there is no memory, neither here nor in QEMU's machine. */
export const absentAddresses = [0x2000_0000n, 0x6_0000_0000n, 0xf_ffff_ffff_f000n] as const

/** One device that makes DMA. */
export interface ArenaDevice {
  /** Bus 15:8, device 7:3, function 2:0. */
  readonly deviceId: number
  /** Where its registers are in QEMU's machine. */
  readonly registers: number
}

/** Two on bus 0, and one behind a root port. */
export const arenaDevices: readonly ArenaDevice[] = [
  { deviceId: 0x18, registers: 0xe000_0000 },
  { deviceId: 0x20, registers: 0xe010_0000 },
  { deviceId: 0x100, registers: 0xe020_0000 },
]

/** Registers of the IOMMU, as offsets. Those that QEMU has. */
export const register = {
  deviceTable: 0x00,
  commandBase: 0x08,
  eventBase: 0x10,
  control: 0x18,
  exclusionBase: 0x20,
  exclusionLimit: 0x28,
  efr: 0x30,
  pprBase: 0x38,
  commandHead: 0x2000,
  commandTail: 0x2008,
  eventHead: 0x2010,
  eventTail: 0x2018,
  status: 0x2020,
  pprHead: 0x2030,
  pprTail: 0x2038,
} as const

/** Bits of the control register. */
export const control = {
  iommuEn: 1n << 0n,
  eventLogEn: 1n << 2n,
  eventIntEn: 1n << 3n,
  comWaitIntEn: 1n << 4n,
  coherent: 1n << 10n,
  cmdBufEn: 1n << 12n,
  gtEn: 1n << 16n,
} as const

/** Bits of the status register. */
export const status = {
  eventOverflow: 1n << 0n,
  eventLogInt: 1n << 1n,
  comWaitInt: 1n << 2n,
  eventLogRun: 1n << 3n,
  cmdBufRun: 1n << 4n,
} as const

/** QEMU's extended features: PreF, PPR, GT, IA, GA, HE; host tables of six levels. Its second register is 0. */
export const arenaFeatures = { efr: 0x29d3n, efr2: 0n } as const

/** Room for one DMA in a device's buffer, in bytes, and how many there is room for in each direction. */
export const slotBytes = 16
export const slotsPerDevice = 128

/** Half a device's buffer: what it reads goes below, what it writes comes from above. */
export const halfBufferBytes = slotBytes * slotsPerDevice

/** What a device's buffer holds where a read brought nothing. */
export const nothingRead = 0

/** What a word of memory holds at first: its own address. */
export const tagOf = (address: number): number => (0xc000_0000 | address) >>> 0

/** What a device writes in its n-th DMA: word k. */
export const patternOf = (device: number, slot: number, word: number): number =>
  (0xd000_0000 | (device << 20) | (slot << 8) | word) >>> 0

/** Memory before any case: tags everywhere, and what never changes. */
export function background(): Buffer {
  const bytes = Buffer.alloc(ramBytes)
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, ramBytes / 4)
  for (let n = 0; n < words.length; n++) words[n] = tagOf(n * 4)
  bytes.fill(0, arena.commands, arena.deviceTablesEnd)
  bytes.fill(0, arena.dump, arena.tables)
  arenaDevices.forEach((_, device) => {
    writePatterns(bytes, device)
  })
  writeReset(bytes)
  return bytes
}

function writePatterns(bytes: Buffer, device: number): void {
  const at = arena.patterns + device * pageBytes
  bytes.fill(0x5e, at, at + halfBufferBytes)
  for (let slot = 0; slot < slotsPerDevice; slot++) {
    for (let word = 0; word < slotBytes / 4; word++) {
      const offset = halfBufferBytes + slot * slotBytes + word * 4
      bytes.writeUInt32LE(patternOf(device, slot, word), at + offset)
    }
  }
}

/** How many commands {@link arena}.resetCommands holds: INVALIDATE_IOMMU_ALL, and one INVALIDATE_DEVTAB_ENTRY each. */
export const resetCommandCount = 1 + arenaDevices.length

/** Pages of a device table with all the devices, less one: what its register holds. */
export const resetTablePages = 2n

function writeReset(bytes: Buffer): void {
  bytes.writeUInt32LE(0x8000_0000, arena.resetCommands + 4)
  arenaDevices.forEach(({ deviceId }, n) => {
    bytes.writeUInt32LE(deviceId, arena.resetCommands + (n + 1) * 16)
    bytes.writeUInt32LE(0x2000_0000, arena.resetCommands + (n + 1) * 16 + 4)
    // V=1 TV=0: all is refused, by the IOMMU.
    bytes.writeUInt32LE(1, arena.resetTranslating + deviceId * 32)
  })
}
