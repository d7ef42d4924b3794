/**
 * A device with a translation cache of its own (ATC), which asks the IOMMU for translations (ATS) and software for pages
 * (PRI), for itself and for PASIDs.
 *
 * PCI Express ATS, PRI and PASID; AMD 48882 rev 3.10, ATS and peripheral page requests. It behaves as the manual expects,
 * but for the misbehaviour that it is made with: then it does what nothing but the IOMMU can stop.
 *
 * @packageDocumentation
 */
import type { DeviceMessage } from '../device-links.js'
import type { Words } from '../memory/words.js'
import { Atc, grants } from './atc.js'
import type { AtcEntry } from './atc.js'
import { Cells } from './cells.js'
import { decodeCompletion, encodeCompletion } from './completion.js'
import { checkDma, checkPasid, dmaAnswerOf } from './dma.js'
import type { DmaAnswer, DmaRequest, Upstream } from './dma.js'
import { HeldInvalidations } from './held-invalidations.js'
import type { Invalidation } from './held-invalidations.js'
import { checkOptions } from './options.js'
import type { EndpointOptions, Misbehaviour } from './options.js'
import { PageGroups } from './page-groups.js'
import type { PageNeed } from './page-groups.js'

/** The page request interface of an endpoint, as its status register shows it. */
export interface PageRequestStatus {
  readonly enabled: boolean
  /** An answer was "response failure": page requests are off until software turns them on again. */
  readonly responseFailure: boolean
  /** An answer came to a group that did not wait. */
  readonly unexpectedResponse: boolean
  /** Requests under way. */
  readonly outstanding: number
}

/** Words of an endpoint's own. */
const atsOn = 0
const priOn = 1
const failureSeen = 2
const unexpectedSeen = 3
const chance = 4
const ownWords = 5

/** Response codes. All others are to be taken for a failure. */
const response = { success: 0, invalid: 1 } as const

/** Page requests in one burst of a flood. */
const burst = 32

/** See the file's comment. */
export class Endpoint {
  /** Its requester ID. */
  readonly deviceId: number
  private readonly pasids: number

  private constructor(
    private readonly options: EndpointOptions,
    private readonly words: Words,
    private readonly own: Cells,
    private readonly atc: Atc,
    private readonly groups: PageGroups,
    private readonly held: HeldInvalidations,
  ) {
    this.deviceId = options.deviceId
    this.pasids = options.pasids ?? 0
  }

  /**
   * @param words - the machine's: those of the memory and the IOMMU
   * @throws RangeError for an option that is out of its limits
   */
  static create(words: Words, options: EndpointOptions): Endpoint {
    checkOptions(options)
    words.activate()
    const endpoint = new Endpoint(
      options,
      words,
      Cells.create(words, ownWords),
      Atc.create(words, options.atc.capacity),
      PageGroups.create(words, options.outstandingPageRequests),
      HeldInvalidations.create(words),
    )
    endpoint.reset()
    endpoint.own.put(chance, (options.seed ?? 1) | 0)
    return endpoint
  }

  /** The same endpoint over a fork of its words. */
  forkOnto(words: Words): Endpoint {
    return new Endpoint(
      this.options,
      words,
      this.own.forkOnto(words),
      this.atc.forkOnto(words),
      this.groups.forkOnto(words),
      this.held.forkOnto(words),
    )
  }

  /** The translations that it keeps, the oldest first. */
  entries(): AtcEntry[] {
    this.words.activate()
    return this.atc.entries()
  }

  get atsEnabled(): boolean {
    this.words.activate()
    return this.own.get(atsOn) === 1
  }

  pageRequestStatus(): PageRequestStatus {
    this.words.activate()
    return {
      enabled: this.own.get(priOn) === 1,
      responseFailure: this.own.get(failureSeen) === 1,
      unexpectedResponse: this.own.get(unexpectedSeen) === 1,
      outstanding: this.groups.outstanding,
    }
  }

  /** Software turns ATS off, which empties the cache, or on. */
  setAts(isEnabled: boolean): void {
    this.words.activate()
    this.own.put(atsOn, isEnabled ? 1 : 0)
    this.atc.clear()
  }

  /** Software turns page requests off, or on; either forgets what they waited for, and what went wrong. */
  setPri(isEnabled: boolean): void {
    this.words.activate()
    this.own.put(priOn, isEnabled ? 1 : 0)
    this.own.put(failureSeen, 0)
    this.own.put(unexpectedSeen, 0)
    this.groups.clear()
  }

  /** Function-level reset, after which ATS and PRI are set up as at first. Invalidations under way stay unanswered. */
  reset(): void {
    this.setAts(this.options.ats)
    this.setPri(this.options.pri)
    this.held.clear()
  }

  /**
   * Makes one access: by the cache, by a translation that it asks for, or by the address as it is when ATS is off.
   *
   * @throws RangeError for values out of range, and for a PASID that the device does not have
   */
  dma(iommu: Upstream, asked: DmaRequest): DmaAnswer {
    checkDma(asked, this.pasids)
    this.words.activate()
    if (this.does('floods-page-requests')) this.flood(iommu)
    if (this.does('translated-unasked')) return this.sendTranslated(iommu, asked, asked.iova, 'unasked')
    const pasid = this.does('guesses-pasids') ? this.draw() >>> 12 : asked.pasid
    const request = { ...asked, pasid }
    return this.own.get(atsOn) === 1 ? this.throughAtc(iommu, request) : this.sendUntranslated(iommu, request)
  }

  /**
   * Takes a message of the IOMMU.
   *
   * @throws RangeError for a message to another device
   */
  receive(message: DeviceMessage, iommu: Pick<Upstream, 'completeInvalidation'>): void {
    if (message.deviceId !== this.deviceId) {
      throw new RangeError(`deviceId ${message.deviceId} of a message is not ${this.deviceId}, the device's`)
    }
    this.words.activate()
    for (const due of this.held.takeDue()) this.carryOut(due, iommu)
    if (message.kind === 'page-response') this.takeResponse(message)
    else if (this.does('ignores-invalidations')) return
    else if (this.does('late')) this.held.hold(message, this.options.lateBy ?? 1)
    else this.carryOut(message, iommu)
  }

  /**
   * Stops using a PASID: drops its translations, waits for its pages no more, and tells software with a stop marker that
   * no page request of this PASID comes after. The answers to those under way may still come.
   *
   * @throws RangeError for a PASID that the device does not have
   */
  stopPasid(iommu: Upstream, pasid: number): void {
    checkPasid(pasid, this.pasids)
    this.words.activate()
    this.atc.invalidate(pasid, 0n, 64)
    this.groups.abandon(pasid)
    if (this.own.get(priOn) === 1) {
      iommu.pageRequest({ deviceId: this.deviceId, pasid, address: 0n, group: 0, last: true })
    }
  }

  private throughAtc(iommu: Upstream, asked: DmaRequest): DmaAnswer {
    const { iova, pasid } = asked
    const write = asked.write === true
    const execute = pasid !== undefined && asked.execute === true
    const supervisor = pasid !== undefined && asked.supervisor === true
    const owner = { pasid, privileged: supervisor }
    const kept = this.atc.find(owner, iova, { write, execute })
    if (kept !== undefined) return this.sendTranslated(iommu, asked, addressIn(kept, iova), 'atc')
    const need: PageNeed = { pasid, page: pageOf(iova), write, execute, supervisor }
    const standing = this.groups.find(need)
    if (standing?.isRefused === false) return { kind: 'waiting', group: standing.group }
    if (standing !== undefined) {
      this.groups.forget(standing.group)
      return { kind: 'denied', because: 'page-request-refused' }
    }
    const { deviceId } = this
    // A read that asked for writing too would mark the page dirty.
    const answer = iommu.translationRequest({
      deviceId,
      pasid,
      iova,
      write,
      execute,
      supervisor,
      noWrite: !write,
    })
    if (answer.kind !== 'completed') {
      return { kind: 'refused', by: answer.kind, event: answer.event, logged: answer.logged }
    }
    const given = decodeCompletion(encodeCompletion(answer, supervisor))
    if (!given.untranslatedOnly && (given.readable || given.writable)) {
      this.atc.insert({ ...owner, ...given, page: blockOf(iova, given.sizeLog2) })
    }
    if (!grants(given, { write, execute })) return this.askForPages(iommu, need, asked.pages ?? 1)
    if (given.untranslatedOnly) return this.sendUntranslated(iommu, asked)
    return this.sendTranslated(iommu, asked, addressIn(given, iova), 'ats')
  }

  private askForPages(iommu: Upstream, need: PageNeed, pages: number): DmaAnswer {
    if (this.own.get(priOn) !== 1) return { kind: 'denied', because: 'no-right' }
    const opened = this.groups.open(need, pages)
    if (opened === undefined) return { kind: 'waiting', group: undefined }
    const { pasid, page, write, execute, supervisor } = need
    const { group } = opened
    for (let n = 0; n < opened.pages; n++) {
      const address = BigInt.asUintN(64, page + (BigInt(n) << 12n))
      const last = n === opened.pages - 1
      const { deviceId } = this
      iommu.pageRequest({ deviceId, pasid, address, read: !write, write, execute, supervisor, group, last })
    }
    return { kind: 'waiting', group }
  }

  private sendUntranslated(iommu: Upstream, { pages: _pages, ...request }: DmaRequest): DmaAnswer {
    return dmaAnswerOf(iommu.request({ ...request, deviceId: this.deviceId }), 'untranslated')
  }

  /** A translated request has no PASID: the address says all. */
  private sendTranslated(
    iommu: Upstream,
    { write = false, nonPosted = false }: DmaRequest,
    address: bigint,
    by: 'atc' | 'ats' | 'unasked',
  ): DmaAnswer {
    return dmaAnswerOf(
      iommu.translatedRequest({ deviceId: this.deviceId, iova: address, write, nonPosted }),
      by,
    )
  }

  private carryOut(asked: Invalidation, iommu: Pick<Upstream, 'completeInvalidation'>): void {
    const { tag, pasid, address, sizeLog2 } = asked
    if (!this.does('completes-without-invalidating')) {
      const reachesAll = pasid === undefined && this.options.untaggedInvalidation === 'everything'
      this.atc.invalidate(reachesAll ? 'any' : pasid, address, sizeLog2)
    }
    iommu.completeInvalidation(this.deviceId, this.does('answers-with-wrong-tag') ? (tag + 1) % 32 : tag)
  }

  private takeResponse(message: Extract<DeviceMessage, { kind: 'page-response' }>): void {
    const isGranted = message.response === response.success
    if (!this.groups.answer(message.group, message.pasid, isGranted)) {
      this.own.put(unexpectedSeen, 1)
    } else if (!isGranted && message.response !== response.invalid) {
      this.groups.clear()
      this.own.put(priOn, 0)
      this.own.put(failureSeen, 1)
    }
  }

  private flood(iommu: Upstream): void {
    for (let n = 0; n < burst; n++) {
      const bits = this.draw()
      const { deviceId } = this
      iommu.pageRequest({
        deviceId,
        pasid: (bits & 1) === 0 ? undefined : this.draw() >>> 12,
        address: (BigInt(this.draw()) << 32n) | BigInt(this.draw()),
        read: (bits & 2) !== 0,
        write: (bits & 4) !== 0,
        last: (bits & 8) !== 0,
        group: bits >>> 23,
      })
    }
  }

  private does(what: Misbehaviour): boolean {
    return this.options.misbehaviour?.includes(what) === true
  }

  /** 32 bits by chance. */
  private draw(): number {
    const state = (this.own.get(chance) + 0x6d2b79f5) | 0
    this.own.put(chance, state)
    const mixed = Math.imul(state ^ (state >>> 15), state | 1)
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
}

const pageOf = (iova: bigint): bigint => blockOf(iova, 12)

const blockOf = (address: bigint, sizeLog2: number): bigint =>
  (address >> BigInt(sizeLog2)) << BigInt(sizeLog2)

const addressIn = (page: { readonly spa: bigint; readonly sizeLog2: number }, iova: bigint): bigint =>
  page.spa | BigInt.asUintN(page.sizeLog2, iova)
