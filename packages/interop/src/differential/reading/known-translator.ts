/**
 * How QEMU 11.1 answers requests: which devices translate, and what translations it keeps.
 *
 * @packageDocumentation
 */
import type { Departure } from '../departures.js'
import { dte, dte1, eventCode, modeOf, placed, rightsOf } from './entry-bits.js'
import {
  entryAddress,
  hasIllegalBits,
  hasIllegalLevels,
  isBeyondTable,
  isExcluded,
  loadEntry,
  neededFor,
} from './manual-walk.js'
import type { Asked, DeviceEntry, Load, Settings } from './manual-walk.js'
import { walkQemu } from './qemu-walk.js'

/** Where a request goes, and which events tell of it. */
export interface QemuAnswer {
  /** Undefined: refused. */
  readonly address: bigint | undefined
  /** Codes. */
  readonly events: readonly number[]
}

/** One translation that QEMU keeps, filed under device and 4 KiB page. */
interface Kept {
  readonly deviceId: number
  readonly domainId: number
  readonly page: bigint
  /** Where the page goes that it is in, of 2^`sizeLog2` bytes. */
  readonly frame: bigint
  readonly sizeLog2: number
  readonly rights: bigint
}

const refused = (...events: number[]): QemuAnswer => ({ address: undefined, events })
const goesTo = (address: bigint): QemuAnswer => ({ address, events: [] })

/** What QEMU takes for reserved, in each quad-word of an entry. */
const reserved = [0x8000_0000_0000_007cn, 0n, 0x0030_0000_0000_0000n, 0x003f_0000_0000_7fffn] as const

/** See the file's comment. */
export class KnownTranslator {
  private readonly kept = new Map<string, Kept>()
  private readonly translating = new Set<number>()

  constructor(
    private readonly load: Load,
    private readonly note: (departure: Departure) => void,
  ) {}

  /** Whether a device's DMA goes through the IOMMU from now on. */
  translates(deviceId: number, does: boolean): void {
    if (does) this.translating.add(deviceId)
    else this.translating.delete(deviceId)
  }

  forgetAll(): void {
    this.kept.clear()
  }

  forgetDomain(domainId: number): void {
    this.forget((kept) => kept.domainId === domainId)
  }

  /** @param page - undefined: all of them */
  forgetDevice(deviceId: number, page: bigint | undefined): void {
    this.forget((kept) => kept.deviceId === deviceId && (page === undefined || kept.page === page))
  }

  /** The event that QEMU logs when it reads an entry; 0 if there is nothing wrong with it. */
  troubleOf(entry: DeviceEntry | undefined): number {
    if (entry === undefined) return eventCode.deviceTableError
    return reserved.some((bits, n) => ((entry[n] ?? 0n) & bits) !== 0n) ? eventCode.illegalDeviceEntry : 0
  }

  ask(asked: Asked, isOn: boolean, settings: Settings): QemuAnswer {
    const { deviceId, iova } = asked
    if (!isOn) return goesTo(iova)
    const entry = loadEntry(this.load, entryAddress(settings.deviceTable, deviceId))
    this.noteEntry(entry, asked, settings)
    if (!this.translating.has(deviceId)) {
      this.notePassing(entry)
      return goesTo(iova)
    }
    const kept = this.kept.get(keyOf(deviceId, iova >> 12n))
    if (kept !== undefined) return this.hit(kept, entry, asked)
    const answer = this.byEntry(entry, asked, this.note)
    if (answer.page !== undefined) this.kept.set(keyOf(deviceId, iova >> 12n), answer.page)
    return answer
  }

  private hit(kept: Kept, entry: DeviceEntry | undefined, asked: Asked): QemuAnswer {
    if ((kept.rights & neededFor(asked)) === 0n) {
      this.note('hit-refuses-silently')
      return refused()
    }
    const address = placed(kept.frame, asked.iova, kept.sizeLog2)
    const departures: Departure[] = []
    const fresh = this.byEntry(entry, asked, (departure) => departures.push(departure))
    // The page departs as it did when it was kept, unless memory has changed.
    for (const each of fresh.address === address ? departures : (['kept-by-device'] as const)) this.note(each)
    return goesTo(address)
  }

  /** What tables say now. */
  private byEntry(
    entry: DeviceEntry | undefined,
    asked: Asked,
    note: (departure: Departure) => void,
  ): QemuAnswer & { readonly page?: Kept } {
    const trouble = this.troubleOf(entry)
    if (entry === undefined || trouble !== 0) return refused(trouble)
    const [q0] = entry
    if ((q0 & dte.valid) === 0n) return goesTo(asked.iova)
    if ((q0 & dte.translationValid) === 0n || modeOf(q0) === 7) {
      note(modeOf(q0) === 7 && (q0 & dte.translationValid) !== 0n ? 'mode-7-silent' : 'tv-0-silent')
      return refused()
    }
    if (modeOf(q0) === 0) return byModeZero(entry, asked, note)
    const { address, unreadable, ...page } = walkQemu(this.load, q0, asked, note)
    if (address !== undefined)
      return { ...goesTo(address), page: pageOf(entry, asked, { ...page, frame: address }) }
    return unreadable ? refused(eventCode.pageTableError, eventCode.pageFault) : refused(eventCode.pageFault)
  }

  private forget(isMeant: (kept: Kept) => boolean): void {
    for (const [key, kept] of this.kept) if (isMeant(kept)) this.kept.delete(key)
  }

  /** What the manual sees in an entry, or in the table's size, and QEMU does not. */
  private noteEntry(entry: DeviceEntry | undefined, asked: Asked, settings: Settings): void {
    if (isBeyondTable(settings.deviceTable, asked.deviceId)) this.note('table-size-ignored')
    if (entry === undefined) return
    const [q0, q1, q2, q3] = entry
    const isValid = (q0 & dte.valid) !== 0n
    const lowReserved = (q0 & reserved[0]) !== 0n
    if ((lowReserved && !isValid) || (q2 & reserved[2]) !== 0n || (q3 & reserved[3]) !== 0n) {
      this.note('more-bits-reserved')
    }
    if (!isValid) return
    if (!lowReserved && hasIllegalBits(entry, settings.guestTables)) this.note('gated-bits-ignored')
    if (hasIllegalLevels(entry) && modeOf(q0) !== 7) this.note('guest-levels-ignored')
    if ((q1 & (dte1.suppressAll | dte1.suppressFurther)) !== 0n) this.note('suppression-ignored')
    if (isExcluded(q1, settings, asked.iova)) this.note('exclusion-ignored')
  }

  /** A device that does not translate though its entry says that it does, or that it is refused. */
  private notePassing(entry: DeviceEntry | undefined): void {
    const [q0] = entry ?? [1n]
    if ((q0 & dte.valid) === 0n) return
    const isModeZero = (q0 & dte.translationValid) !== 0n && modeOf(q0) === 0
    this.note(isModeZero ? 'mode-0-without-checks' : 'passes-until-invalidated')
  }
}

function byModeZero(
  entry: DeviceEntry,
  asked: Asked,
  note: (departure: Departure) => void,
): QemuAnswer & { readonly page?: Kept } {
  const granted = rightsOf(entry[0])
  const page = pageOf(entry, asked, { frame: asked.iova, sizeLog2: 12, rights: granted })
  const kept = granted === 0n ? {} : { page }
  if ((granted & neededFor(asked)) !== 0n) return { ...goesTo(asked.iova), ...kept }
  note('mode-0-without-checks')
  return { ...refused(), ...kept }
}

const pageOf = (
  [, q1]: DeviceEntry,
  { deviceId, iova }: Asked,
  page: Pick<Kept, 'frame' | 'sizeLog2' | 'rights'>,
): Kept => ({ ...page, deviceId, domainId: Number(q1 & dte1.domain), page: iova >> 12n })

const keyOf = (deviceId: number, page: bigint): string => `${deviceId}:${page}`
