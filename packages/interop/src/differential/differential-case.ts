/**
 * One case: memory, registers, and what software and devices do. It says everything, so that it reruns alone.
 *
 * @packageDocumentation
 */

/** 128 bits of a command, low quad-word first. */
export type CommandWords = readonly [bigint, bigint]

/** One thing that happens. */
export type Step =
  /** Software appends commands to the ring and moves the tail. */
  | { readonly kind: 'commands'; readonly commands: readonly CommandWords[] }
  /** Software turns the command buffer off, lets the head follow the tail, and turns it on. */
  | { readonly kind: 'restart' }
  /** Software stores a quad-word. */
  | { readonly kind: 'store'; readonly address: bigint; readonly value: bigint }
  /** Software writes a register; it is read back. */
  | { readonly kind: 'register'; readonly offset: number; readonly bytes: 4 | 8; readonly value: bigint }
  | DmaStep

export interface DmaStep {
  readonly kind: 'dma'
  /** Which of the arena's devices. */
  readonly device: number
  /** A multiple of 4. */
  readonly iova: bigint
  readonly write: boolean
  /** 4 to 16, a multiple of 4, not across a page. */
  readonly bytes: number
}

/** See the file's comment. */
export interface DifferentialCase {
  /** Where it came from: for the reader alone. */
  readonly origin: string
  /**
   * At the start QEMU lets all devices' DMA pass, and does until INVALIDATE_DEVTAB_ENTRY finds an entry that translates;
   * otherwise an entry that refuses has been invalidated for each before.
   */
  readonly passing: boolean
  /** Register values at the start; those of the two rings name the arena's places in most cases. */
  readonly deviceTable: bigint
  readonly commandBase: bigint
  readonly eventBase: bigint
  readonly exclusionBase: bigint
  readonly exclusionLimit: bigint
  readonly control: bigint
  /** Byte offset of the ring's head and tail, and of the log's. */
  readonly commandStart: number
  readonly eventHead: number
  readonly eventTail: number
  /** Quad-words of memory that differ from the background: tables, device table entries. */
  readonly memory: readonly (readonly [address: bigint, value: bigint])[]
  readonly steps: readonly Step[]
}

/** log2 of the entries of a ring, from its base register. */
export const ringLengthLog2 = (base: bigint): number => Number((base >> 56n) & 15n)

/** Bytes of a ring. */
export const ringBytes = (base: bigint): number => 16 << ringLengthLog2(base)

export const ringAddress = (base: bigint): bigint => base & 0xf_ffff_ffff_f000n
