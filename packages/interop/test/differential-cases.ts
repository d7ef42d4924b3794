/** Small cases by hand: one device, tables of one path. */
import { arena, control } from '../src/differential/arena.js'
import type { CommandWords, DifferentialCase, Step } from '../src/differential/differential-case.js'

/** 00:03.0 is the first of the arena's devices. */
const firstDevice = 0x18

const invalidateFirst: CommandWords = [0x2000_0000_0000_0018n, 0n]

/** V, TV, IR, IW and a table of three levels at the first page of the tables. */
export const translatingEntry = 0x6000_0000_0000_0603n | BigInt(arena.tables)

const at = (offset: number): bigint => BigInt(arena.tables + offset)

/** Maps the first page to the first target, read and write. */
export const onePath: readonly (readonly [bigint, bigint])[] = [
  [at(0), 0x6000_0000_0000_0401n | at(0x1000)],
  [at(0x1000), 0x6000_0000_0000_0201n | at(0x2000)],
  [at(0x2000), 0x6000_0000_0000_0001n | BigInt(arena.targets)],
]

export const leafAddress = at(0x2000)

/** A case with everything on, the entry invalidated, and these steps after that. */
export function caseOf(
  steps: readonly Step[],
  options: {
    readonly entry?: bigint
    readonly entry1?: bigint
    readonly tables?: readonly (readonly [bigint, bigint])[]
    readonly control?: bigint
  } = {},
): DifferentialCase {
  const entryAt = BigInt(arena.deviceTables + firstDevice * 32)
  return {
    origin: 'by hand',
    passing: false,
    deviceTable: BigInt(arena.deviceTables) | 2n,
    commandBase: BigInt(arena.commands) | (8n << 56n),
    eventBase: BigInt(arena.events) | (8n << 56n),
    exclusionBase: 0n,
    exclusionLimit: 0n,
    control: options.control ?? control.iommuEn | control.cmdBufEn | control.eventLogEn | control.eventIntEn,
    commandStart: 0,
    eventHead: 0,
    eventTail: 0,
    memory: [
      [entryAt, options.entry ?? translatingEntry],
      [entryAt + 8n, options.entry1 ?? 1n],
      ...(options.tables ?? onePath),
    ],
    steps: [{ kind: 'commands', commands: [invalidateFirst] }, ...steps],
  }
}

export const dma = (iova: bigint, write: boolean, bytes = 4): Step => ({
  kind: 'dma',
  device: 0,
  iova,
  write,
  bytes,
})
