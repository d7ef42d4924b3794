/**
 * Commands: what software asks of the IOMMU through the command buffer. 128 bits each.
 *
 * The opcode is bits 63:60. Every bit that a command does not list must be zero. The same piece of
 * information moves from command to command: a PASID in one piece or three, GN always at 66.
 *
 * @packageDocumentation
 */
import { address, decode, encode, flag, uint, uint64 } from '@nestwalk/bits'
import type { Decoded, RecordLayout } from '@nestwalk/bits'
import { deviceId, domainId, pasid, spa } from './fields.js'

/** Quad-words of a command. */
export const commandWordCount = 2

const source = 'AMD 48882 rev 3.10, section 2.4'
const wordCount = commandWordCount

const opcode = uint(63, 60)

/** What commands about a range of addresses share. */
const range = {
  /** S: the address codes a size above 4 KiB. */
  size: flag(64),
  /** GN: the address is a guest virtual one and the PASID counts; else the host tables' input. */
  guestNested: flag(66),
  /** Address[63:12], with the size code still in it. */
  address: address([127, 76, 12]),
}

/** The layout of every command, by kind. */
export const commandLayouts = {
  CompletionWait: {
    name: 'COMPLETION_WAIT',
    source,
    wordCount,
    fields: {
      opcode,
      /** s: store `storeData` at `storeAddress`. */
      store: flag(0),
      /** i: set Status.ComWaitInt. */
      interrupt: flag(1),
      /** f: finish everything before, then go on. */
      flush: flag(2),
      /** StoreAddress, 8-byte aligned. */
      storeAddress: spa([51, 3, 3]),
      /** StoreData. */
      storeData: uint64(127, 64),
    },
  },
  InvalidateDevtabEntry: {
    name: 'INVALIDATE_DEVTAB_ENTRY',
    source,
    wordCount,
    fields: { opcode, deviceId: deviceId(15, 0) },
  },
  InvalidateIommuPages: {
    name: 'INVALIDATE_IOMMU_PAGES',
    source,
    wordCount,
    fields: {
      opcode,
      /** PASID, in one piece; must be 0 unless GN (unverified). */
      pasid: pasid([19, 0, 0]),
      domainId: domainId(47, 32),
      /** PDE: cached directory entries too. */
      directories: flag(65),
      ...range,
    },
  },
  InvalidateIotlbPages: {
    name: 'INVALIDATE_IOTLB_PAGES',
    source,
    wordCount,
    fields: {
      opcode,
      deviceId: deviceId(15, 0),
      /**
       * PASID, in three pieces out of order. Public sources disagree about the lower two; this is
       * how drivers of real hardware write it.
       */
      pasid: pasid([55, 48, 0], [23, 16, 8], [59, 56, 16]),
      /** MaxPend: how many invalidations may be outstanding on the queue. */
      maxPending: uint(31, 24),
      /** QueueID. */
      queueId: uint(47, 32),
      /** Type: needs EFR.InvIotlbTypeSup. */
      type: uint(69, 68),
      ...range,
    },
  },
  InvalidateInterruptTable: {
    name: 'INVALIDATE_INTERRUPT_TABLE',
    source,
    wordCount,
    fields: { opcode, deviceId: deviceId(15, 0) },
  },
  PrefetchIommuPages: {
    name: 'PREFETCH_IOMMU_PAGES',
    source,
    wordCount,
    fields: {
      opcode,
      deviceId: deviceId(15, 0),
      /** PFCount: pages to prefetch. */
      pageCount: uint(31, 24),
      pasid: pasid([51, 32, 0]),
      /** Inval: invalidate first. */
      invalidate: flag(68),
      ...range,
    },
  },
  CompletePprRequest: {
    name: 'COMPLETE_PPR_REQUEST',
    source,
    wordCount,
    fields: {
      opcode,
      deviceId: deviceId(15, 0),
      pasid: pasid([51, 32, 0]),
      /** GN: the response is for the PASID. */
      guestNested: flag(66),
      /** CompletionTag[8:0]: the page request group. Tag bits 11:9 are zero. */
      groupIndex: uint(104, 96),
      /** CompletionTag[15:12]: 0 success, 1 invalid request, 15 failure. */
      responseCode: uint(111, 108),
    },
  },
  InvalidateIommuAll: { name: 'INVALIDATE_IOMMU_ALL', source, wordCount, fields: { opcode } },
  /** For the hardware vIOMMU; its layout has one public source. */
  InsertGuestEvent: {
    name: 'INSERT_GUEST_EVENT',
    source,
    wordCount,
    fields: {
      opcode,
      /** GuestID. */
      guestId: uint(47, 32),
    },
  },
  /** For the hardware vIOMMU; its layout has one public source. */
  ResetVmmio: {
    name: 'RESET_VMMIO',
    source,
    wordCount,
    fields: {
      opcode,
      /** GuestID. */
      guestId: uint(15, 0),
      /** All: every guest. */
      all: flag(28),
      /** vCmd: the guest's command buffer too. */
      guestCommands: flag(31),
    },
  },
} as const satisfies Record<string, RecordLayout>

export type CommandKind = keyof typeof commandLayouts

/** The opcode of each kind. */
export const commandOpcodes: Readonly<Record<CommandKind, number>> = {
  CompletionWait: 0x1,
  InvalidateDevtabEntry: 0x2,
  InvalidateIommuPages: 0x3,
  InvalidateIotlbPages: 0x4,
  InvalidateInterruptTable: 0x5,
  PrefetchIommuPages: 0x6,
  CompletePprRequest: 0x7,
  InvalidateIommuAll: 0x8,
  InsertGuestEvent: 0x9,
  ResetVmmio: 0xa,
}

/** A decoded command of kind `K`, or of any kind. */
export type Command<K extends CommandKind = CommandKind> = {
  [Each in K]: { readonly kind: Each } & Decoded<(typeof commandLayouts)[Each]>
}[K]

/** An opcode that the manual does not assign. */
export interface UnknownCommand {
  readonly kind: 'Unknown'
  readonly opcode: number
}

/** A command to encode: its kind and whichever fields are not zero. */
export type CommandFields<K extends CommandKind = CommandKind> = {
  [Each in K]: { readonly kind: Each } & Partial<Omit<Decoded<(typeof commandLayouts)[Each]>, 'opcode'>>
}[K]

const opcodeOf = (words: BigUint64Array): number => decode(commandLayouts.InvalidateIommuAll, words).opcode

const kindByOpcode = new Map(
  (Object.keys(commandOpcodes) as CommandKind[]).map((kind) => [commandOpcodes[kind], kind]),
)

/**
 * Decodes a command from its two quad-words. Reserved bits are not looked at: see `reservedBits`
 * with the layout of the kind.
 *
 * @throws RangeError if `words` is not a command's size
 */
export function decodeCommand(words: BigUint64Array): Command | UnknownCommand {
  const code = opcodeOf(words)
  const kind = kindByOpcode.get(code)
  if (kind === undefined) return { kind: 'Unknown', opcode: code }
  const layout: RecordLayout = commandLayouts[kind]
  return { kind, ...decode(layout, words) } as Command
}

/**
 * Encodes a command.
 *
 * @example
 * encodeCommand({ kind: 'InvalidateDevtabEntry', deviceId: parseDeviceId('00:02.0') })
 * @throws RangeError for a value that does not fit its field
 */
export function encodeCommand({ kind, ...fields }: CommandFields): BigUint64Array {
  const layout: RecordLayout = commandLayouts[kind]
  return encode(layout, { ...fields, opcode: commandOpcodes[kind] })
}
