/**
 * Offsets of the MMIO registers, and the bits of Control and Status, as the chip's own code uses them.
 *
 * AMD 48882 rev 3.10, MMIO registers. The layouts of all values are in `layout/`.
 *
 * @packageDocumentation
 */

/** MMIO offsets. */
export const mmio = {
  deviceTableBase: 0x0000,
  commandBase: 0x0008,
  eventBase: 0x0010,
  control: 0x0018,
  exclusionBase: 0x0020,
  exclusionLimit: 0x0028,
  efr: 0x0030,
  pprBase: 0x0038,
  hardwareEventUpper: 0x0040,
  hardwareEventLower: 0x0048,
  hardwareEventStatus: 0x0050,
  smiFilter0: 0x0060,
  gaBase: 0x00e0,
  gaTailAddress: 0x00e8,
  pprBBase: 0x00f0,
  eventBBase: 0x00f8,
  deviceTableSegment1: 0x0100,
  deviceSpecificControl: 0x0140,
  msiVector0: 0x0150,
  msiMapping: 0x0168,
  performanceOptimization: 0x016c,
  x2ApicGeneral: 0x0170,
  x2ApicPpr: 0x0178,
  x2ApicGa: 0x0180,
  viommuStatus: 0x0190,
  efr2: 0x01a0,
  marc0: 0x0200,
  ignored: 0x1ff8,
  commandHead: 0x2000,
  commandTail: 0x2008,
  eventHead: 0x2010,
  eventTail: 0x2018,
  status: 0x2020,
  pprHead: 0x2030,
  pprTail: 0x2038,
  gaHead: 0x2040,
  gaTail: 0x2048,
  pprBHead: 0x2050,
  pprBTail: 0x2058,
  eventBHead: 0x2070,
  eventBTail: 0x2078,
  pprAutoResponse: 0x2080,
  pprEarly: 0x2088,
  pprBEarly: 0x2090,
  counterConfiguration: 0x4000,
  counterBanks: 0x40000,
} as const

/** Bits of the control register, low word. */
export const controlLo = {
  iommuEn: 1 << 0,
  eventLogEn: 1 << 2,
  eventIntEn: 1 << 3,
  comWaitIntEn: 1 << 4,
  cmdBufEn: 1 << 12,
  pprLogEn: 1 << 13,
  pprIntEn: 1 << 14,
  pprEn: 1 << 15,
  gtEn: 1 << 16,
  gaEn: 1 << 17,
  smiFilterEn: 1 << 22,
  gaLogEn: 1 << 28,
  gaIntEn: 1 << 29,
} as const

/** Bits of the control register, high word: bit 32 of the register is bit 0 here. */
export const controlHi = {
  pprAutoRespEn: 1 << 7, // 39
  blockStopMarkers: 1 << 9, // 41
  pprAutoRespAlways: 1 << 10, // 42
  ephEn: 1 << 13, // 45
  guestDirtyOff: 1 << 16, // 48
  xtEn: 1 << 18, // 50
  intCapXtEn: 1 << 19, // 51
  virtualCommandsEn: 1 << 20, // 52
  viommuEn: 1 << 21, // 53
  guestAccessedOff: 1 << 22, // 54
  pageMigrationEn: 1 << 24, // 56
  gcr3TrpMode: 1 << 26, // 58
  interruptCacheOff: 1 << 27, // 59
  guestBuffersNested: 1 << 28, // 60
} as const

/** Bits of the status register. */
export const status = {
  eventOverflow: 1 << 0,
  eventLogInt: 1 << 1,
  comWaitInt: 1 << 2,
  eventLogRun: 1 << 3,
  cmdBufRun: 1 << 4,
  pprOverflow: 1 << 5,
  pprInt: 1 << 6,
  pprLogRun: 1 << 7,
  gaLogRun: 1 << 8,
  gaOverflow: 1 << 9,
  gaInt: 1 << 10,
  pprOverflowB: 1 << 11,
  pprLogActive: 1 << 12,
  eventOverflowB: 1 << 15,
  eventLogActive: 1 << 16,
  pprEarlyB: 1 << 17,
  pprEarly: 1 << 18,
} as const

/** Status bits that software clears by writing 1. */
export const statusWriteToClear = 0x68e67
