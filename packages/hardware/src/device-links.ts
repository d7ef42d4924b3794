/**
 * What the IOMMU says to devices, and the answers it waits for: ATS invalidations and page request responses.
 *
 * AMD 48882 rev 3.10, INVALIDATE_IOTLB_PAGES and COMPLETE_PPR_REQUEST; PCI Express ATS. Both directions have a fixed
 * number of places: a command that finds none waits. Time is what the owner of the chip says has passed.
 *
 * @packageDocumentation
 */
import type { Words } from './memory/words.js'

/** A message to a device. */
export type DeviceMessage =
  | {
      readonly kind: 'invalidate'
      readonly deviceId: number
      /** To be given back with the completion. */
      readonly tag: number
      /** Undefined: translations without PASID. */
      readonly pasid: number | undefined
      /** First byte of the range. */
      readonly address: bigint
      /** log2 of the bytes; 64: everything. */
      readonly sizeLog2: number
    }
  | {
      readonly kind: 'page-response'
      readonly deviceId: number
      readonly pasid: number | undefined
      /** Page request group, 9 bits. */
      readonly group: number
      /** 0 success, 1 invalid request, 15 failure. */
      readonly response: number
    }

/** The asker of an invalidation from the host's ring; one from a guest's has its GuestID. */
export const hostAsks = -1

/** Invalidations under way: the tags of PCI Express have five bits. */
const tagCount = 32
/** Words of one: state, DeviceID, PASID, address, size, queue, the command's SPA, milliseconds left, asker. */
const pendingWords = 11
const isFree = 0
const isWaiting = 1
const isSent = 2

/** Responses not yet taken. */
const responseCount = 64
const responseWords = 3

/** Words before the invalidations. */
const responseHead = 0
const responsesHeld = 1
const nextToSend = 2
const responsesAt = 3
const pendingAt = responsesAt + responseCount * responseWords
const allWords = pendingAt + tagCount * pendingWords

/** See the file's comment. */
export class DeviceLinks {
  private constructor(
    private readonly words: Words,
    private readonly keySpace: number,
    private readonly first: number,
  ) {}

  static create(words: Words): DeviceLinks {
    return new DeviceLinks(words, words.newKeySpace(), words.allocate(allWords))
  }

  forkOnto(words: Words): DeviceLinks {
    return new DeviceLinks(words, this.keySpace, this.first)
  }

  /** Whether there are invalidations of this asker that no device has answered. */
  isAwaited(asker: number): boolean {
    for (let tag = 0; tag < tagCount; tag++) {
      const at = this.placeOf(tag)
      if (this.get(at) !== isFree && this.get(at + 10) === asker) return true
    }
    return false
  }

  /**
   * Starts an invalidation.
   *
   * @param maxPending - invalidations that `queue` may have under way; 0: no limit of its own
   * @param timeoutMilliseconds - 0: none
   * @param asker - whose ring it is from: a GuestID, or {@link hostAsks}
   * @returns false if there is no place for it now
   */
  invalidate(
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    sizeLog2: number,
    queue: number,
    maxPending: number,
    commandLo: number,
    commandHi: number,
    timeoutMilliseconds: number,
    asker: number,
  ): boolean {
    let ofQueue = 0
    let free = -1
    for (let tag = tagCount - 1; tag >= 0; tag--) {
      const at = this.placeOf(tag)
      if (this.get(at) === isFree) free = tag
      else if (this.get(at + 6) === queue) ofQueue++
    }
    if (free < 0 || (maxPending > 0 && ofQueue >= maxPending)) return false
    const record = [isWaiting, deviceId, pasid, lo, hi, sizeLog2, queue, commandLo, commandHi]
    record.push(timeoutMilliseconds, asker)
    record.forEach((value, n) => this.put(this.placeOf(free) + n, value))
    return true
  }

  /** Sends the answer to a group of page requests. False if there is no place for it now. */
  respond(deviceId: number, pasid: number, group: number, response: number): boolean {
    const held = this.get(responsesHeld)
    if (held === responseCount) return false
    const at = responsesAt + ((this.get(responseHead) + held) % responseCount) * responseWords
    this.put(at, deviceId)
    this.put(at + 1, pasid)
    this.put(at + 2, group | (response << 16))
    this.put(responsesHeld, held + 1)
    return true
  }

  /** The next message to a device, invalidations first; undefined when there is none. */
  take(): DeviceMessage | undefined {
    const start = this.get(nextToSend)
    for (let n = 0; n < tagCount; n++) {
      const tag = (start + n) % tagCount
      const at = this.placeOf(tag)
      if (this.get(at) !== isWaiting) continue
      this.put(at, isSent)
      this.put(nextToSend, (tag + 1) % tagCount)
      const address = (BigInt(this.get(at + 4) >>> 0) << 32n) | (BigInt(this.get(at + 3) >>> 0) & 0xfffff000n)
      return {
        kind: 'invalidate',
        deviceId: this.get(at + 1),
        tag,
        pasid: named(this.get(at + 2)),
        address: (address >> BigInt(this.get(at + 5))) << BigInt(this.get(at + 5)),
        sizeLog2: this.get(at + 5),
      }
    }
    const held = this.get(responsesHeld)
    if (held === 0) return undefined
    const head = this.get(responseHead)
    const at = responsesAt + head * responseWords
    const answer = this.get(at + 2)
    const message = {
      kind: 'page-response',
      deviceId: this.get(at),
      pasid: named(this.get(at + 1)),
      group: answer & 0x1ff,
      response: answer >>> 16,
    } as const
    for (let n = 0; n < responseWords; n++) this.put(at + n, 0)
    this.put(responseHead, (head + 1) % responseCount)
    this.put(responsesHeld, held - 1)
    return message
  }

  /** A device's completion of an invalidation. False if this device was not asked under this tag. */
  complete(deviceId: number, tag: number): boolean {
    const at = this.placeOf(tag)
    if (this.get(at) !== isSent || this.get(at + 1) !== deviceId) return false
    this.free(at)
    return true
  }

  /**
   * Lets time pass.
   *
   * @param giveUp - called for each invalidation that was not answered in time, with its device and command's SPA
   */
  elapse(milliseconds: number, giveUp: (deviceId: number, lo: number, hi: number) => void): void {
    for (let tag = 0; tag < tagCount; tag++) {
      const at = this.placeOf(tag)
      const left = this.get(at + 9)
      if (this.get(at) === isFree || left === 0) continue
      if (left > milliseconds) {
        this.put(at + 9, left - milliseconds)
        continue
      }
      const deviceId = this.get(at + 1)
      const lo = this.get(at + 7)
      const hi = this.get(at + 8)
      this.free(at)
      giveUp(deviceId, lo, hi)
    }
  }

  private free(at: number): void {
    for (let n = 0; n < pendingWords; n++) this.put(at + n, 0)
  }

  private placeOf(tag: number): number {
    return pendingAt + tag * pendingWords
  }

  private get(at: number): number {
    return this.words.array[this.first + at]!
  }

  private put(at: number, value: number): void {
    this.words.writeKeyed(this.first + at, value, at, this.keySpace)
  }
}

const named = (pasid: number): number | undefined => (pasid < 0 ? undefined : pasid)
