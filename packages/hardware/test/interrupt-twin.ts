/**
 * Interrupt remapping once more, slowly: whole entries as numbers, one rule after the other, nothing cached.
 *
 * It shares nothing with the chip but the memory that both read.
 */
import type { InterruptSwitches } from '../src/interrupt/interrupt-switches.js'
import { bit, bits } from './slow/bits.js'

/** What the twin sees of a machine. */
export interface TwinWorld {
  /** Bytes of memory. */
  readonly size: bigint
  /** 32 bits at a multiple of 4 below `size`. */
  readonly read: (address: bigint) => bigint
  readonly control: bigint
  readonly efr: bigint
  readonly efr2: bigint
  /** Device Table Base register; one segment. */
  readonly deviceTable: bigint
  readonly smiFilters: readonly bigint[]
  readonly switches: InterruptSwitches
}

export interface TwinRequest {
  readonly deviceId: number
  readonly address: bigint
  readonly data: bigint
}

/** What must be seen of a request; what is absent must not be there. */
export interface TwinAnswer {
  outcome: 'forwarded' | 'remapped' | 'posted' | 'aborted'
  message?: { address: bigint; data: bigint }
  destination?: bigint
  vector?: bigint
  event?: bigint
  isLogged?: boolean
  /** Address of the 32-bit word that is changed, and the bit that is set. */
  posted?: { address: bigint; bit: bigint }
  notice?: 'doorbell' | 'log'
  logEntry?: bigint
  entryAt?: bigint
  counts: number[]
}

const readWide = (world: TwinWorld, address: bigint, bytes: bigint): bigint | undefined => {
  if (address + bytes > world.size) return undefined
  let value = 0n
  for (let at = 0n; at < bytes; at += 4n) value |= world.read(address + at) << (8n * at)
  return value
}

/** An event of 128 bits from its parts. */
const eventOf = (code: bigint, flags: bigint, deviceId: number, domain: bigint, address: bigint): bigint =>
  (code << 60n) | (flags << 48n) | (domain << 32n) | BigInt(deviceId) | (BigInt.asUintN(64, address) << 64n)

const flagI = 0x008n
const flagPr = 0x010n
const flagRz = 0x080n
const masterAbort = 0x200n

export function remapSlowly(world: TwinWorld, request: TwinRequest): TwinAnswer {
  const { control, efr, efr2, switches } = world
  const { deviceId, address, data } = request
  const forwarded: TwinAnswer = { outcome: 'forwarded', message: { address, data }, counts: [] }
  const aborted: TwinAnswer = { outcome: 'aborted', counts: [] }
  const withEvent = (event: bigint, isLogged = true): TwinAnswer => ({ ...aborted, event, isLogged })
  // Bit 39 of an address in the HyperTransport range, repeated above.
  const isExtended = address >> 32n !== 0n && switches.hyperTransportAddress === 'sign-extended'
  const requestAddress = isExtended ? address | 0xffffff0000000000n : address

  if (!bit(control, 0)) return forwarded

  const entries = (bits(world.deviceTable, 8, 0) + 1n) * 128n
  if (BigInt(deviceId) >= entries) return withEvent(eventOf(2n, flagI, deviceId, 0n, requestAddress))
  const dteAt = (bits(world.deviceTable, 51, 12) << 12n) + 32n * BigInt(deviceId)
  const dte = readWide(world, dteAt, 32n)
  if (dte === undefined) return withEvent(eventOf(3n, flagI | masterAbort, deviceId, 0n, dteAt))

  if (!bit(dte, 128)) return forwarded
  const domain = bit(dte, 0) || switches.domainWithoutValid === 'as-stored' ? bits(dte, 79, 64) : 0n
  const illegal = (rz: boolean): TwinAnswer =>
    withEvent(eventOf(1n, flagI | (rz ? flagRz : 0n), deviceId, 0n, requestAddress & ~3n))
  const pageFault = (flags: bigint, isLogged: boolean): TwinAnswer =>
    withEvent(eventOf(2n, flagI | flags, deviceId, domain, requestAddress), isLogged)
  const unreadable = (at: bigint): TwinAnswer => {
    switch (switches.interruptEntryUnreadable) {
      case 'dev-tab-hardware-error':
        return withEvent(eventOf(3n, flagI | masterAbort, deviceId, 0n, at))
      case 'page-tab-hardware-error':
        return withEvent(eventOf(4n, flagI | masterAbort, deviceId, domain, at))
      case 'illegal-dev-table-entry':
        return illegal(false)
    }
  }

  const reserved = [bits(dte, 181, 180), bits(dte, 206, 192), bits(dte, 245, 240)]
  const virtualIommu = bit(control, 53) && bit(efr, 55)
  if (!virtualIommu && switches.virtualImuOff === 'reserved') reserved.push(bits(dte, 207, 207))
  if (reserved.some((value) => value !== 0n)) return illegal(true)

  const isLogical = bit(address, 2)
  const has2048 = bits(control, 44, 43) === 1n && bits(efr2, 9, 8) === 1n
  const kind = has2048 && isLogical ? 0 : Number(bits(data, 10, 8))
  const passBit = new Map([
    [4, 186],
    [5, 184],
    [7, 185],
  ]).get(kind)
  if (kind === 2) {
    const filters = bit(control, 22) && bits(efr, 17, 16) !== 0n
    const isNamed = world.smiFilters.some(
      (filter) => bit(filter, 16) && bits(filter, 15, 0) === BigInt(deviceId),
    )
    const isBlocked = (filters && !isNamed) || (isLogical && switches.logicalSmi === 'abort')
    return isBlocked ? { ...aborted, counts: [0x17, 0x18] } : { ...forwarded, counts: [0x17] }
  }
  if (passBit !== undefined) return bit(dte, passBit) && !isLogical ? forwarded : aborted
  if (kind > 1) return aborted

  const intCtl = bits(dte, 189, 188)
  if (intCtl === 1n) return forwarded
  if (intCtl === 0n) {
    const isTold = address >> 32n !== 0n || switches.interruptAbort === 'invalid-device-request'
    return isTold ? withEvent(eventOf(8n, 5n << 9n, deviceId, 0n, requestAddress)) : aborted
  }
  if (intCtl === 3n) return illegal(switches.interruptControlReserved === 'rz-1')

  const tableLog2 = bits(dte, 132, 129)
  if (tableLog2 > 11n) return illegal(switches.interruptTableTooLong === 'rz-1')
  const isIgnored = bit(dte, 133)
  const index = bits(data, 10, 0)
  if (index >= 1n << tableLog2) {
    return pageFault(0n, !(isIgnored && switches.ignoreUnmapped !== 'remap-disabled'))
  }
  const isLong = bit(control, 17) && bit(efr, 7)
  const entryBytes = isLong ? 16n : 4n
  const entryAt = (bits(dte, 179, 134) << 6n) + index * entryBytes
  const irte = readWide(world, entryAt, entryBytes)
  if (irte === undefined) return { ...unreadable(entryAt), entryAt }

  const isSuppressed = bit(irte, 1)
  if (!bit(irte, 0)) return { ...pageFault(0n, !isIgnored && !isSuppressed), entryAt }
  const isMalformedHidden =
    (isIgnored && switches.ignoreUnmapped === 'every-fault') ||
    (isSuppressed && switches.suppressEntryFaults === 'every-fault')
  const malformed = { ...pageFault(flagPr | flagRz, !isMalformedHidden), entryAt }

  const isX2apic = isLong && bit(control, 50) && bit(efr, 2)
  const isGuestModeOn = isLong && bits(control, 27, 25) === 1n && bit(efr, 21)
  const wideDestination = bits(irte, 31, 8) | (bits(irte, 127, 120) << 24n)
  const destination = isX2apic ? wideDestination : bits(irte, 15, 8)
  if (isLong && !isX2apic && wideDestination > 0xffn && switches.xapicHighDestination === 'reserved') {
    return malformed
  }
  if (bit(irte, 7) && isGuestModeOn) {
    if (bits(irte, 4, 3) !== 0n || bits(irte, 75, 72) !== 0n || bits(irte, 119, 116) !== 0n) return malformed
    const vector = bits(irte, 71, 64)
    const at = (bits(irte, 115, 76) << 12n) + 0x200n + (vector / 32n) * 0x10n
    if (at >= world.size) return { ...unreadable(at), entryAt }
    const answer: TwinAnswer = {
      outcome: 'posted',
      vector,
      posted: { address: at, bit: vector % 32n },
      entryAt,
      counts: [0x16],
    }
    if (bit(irte, 6)) {
      const isQuiet = bit(irte, 5) && switches.physicalInterruptDisabled === 'no-doorbell'
      return { ...answer, destination, ...(isQuiet ? {} : { notice: 'doorbell' }) }
    }
    if (!bit(irte, 2)) return answer
    return {
      ...answer,
      notice: 'log',
      logEntry: (1n << 60n) | (BigInt(deviceId) << 32n) | bits(irte, 63, 32),
    }
  }
  if (bit(irte, 7) && switches.guestModeOff === 'io-page-fault') return malformed
  const type = bits(irte, 4, 2)
  if (type > 1n) return malformed
  const others = isLong ? [bits(irte, 119, 72)] : [bits(irte, 31, 24)]
  if (others.some((value) => value !== 0n)) return malformed
  const vector = isLong ? bits(irte, 71, 64) : bits(irte, 23, 16)
  const hint = address >> 32n === 0n && bit(address, 3) ? 8n : 0n
  const mode = bit(irte, 6) ? 4n : 0n
  return {
    outcome: 'remapped',
    message: {
      address:
        0xfee00000n + bits(destination, 7, 0) * 0x1000n + hint + mode + (bits(destination, 31, 8) << 40n),
      data: vector + type * 0x100n + bits(data, 15, 14) * 0x4000n,
    },
    destination,
    vector,
    entryAt,
    counts: [0x15],
  }
}
