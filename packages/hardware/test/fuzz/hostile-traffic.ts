/** What hostile software, guests and devices do to a chip, one act after the other, and what they may not bring about. */
import { store64 } from '../../src/index.js'
import type { AccessBytes, Iommu } from '../../src/index.js'
import { register } from '../chip.js'
import { Random } from '../slow/random.js'
import { disturbMemory } from './ground.js'
import { hostileCommand } from './hostile-commands.js'
import { hostileMachine } from './hostile-machine.js'
import { answerOf, hostileRequest, outcomeOf, walksOf } from './hostile-requests.js'
import { controlOf, setUp, startCounters } from './hostile-set-up.js'
import { deviceIdOf, pasidOf, wildAddress, wildWord } from './wild.js'
import { longestPrefetch, WorkMeter } from './work-meter.js'

/** Offsets that mean something: registers, MSI shadows, banks of counters. */
const offsets: readonly number[] = [
  ...Array.from({ length: 0x50 }, (_, n) => n * 8),
  ...Array.from({ length: 0x14 }, (_, n) => 0x2000 + n * 8),
  0x200,
  0x208,
  0x210,
  0x1ff8,
  ...Array.from({ length: 4 }, (_, n) => 0x4000 + n * 8),
  ...Array.from({ length: 0x20 }, (_, n) => 0x40000 + n * 8),
]

const shown = (value: unknown): string =>
  JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? `0x${each.toString(16)}` : each))

/** See the file's comment. */
export class HostileTraffic {
  readonly meter = new WorkMeter()
  readonly outcomes = new Map<string, number>()
  acts = 0
  readonly mostWords: number
  /** Of the machine, for those who look for what went wrong. */
  private readonly description: string
  private readonly random: Random
  private readonly commandsOfStep: number
  private readonly control: bigint
  private iommu: Iommu
  private isWatched = false

  constructor(readonly seed: number) {
    this.random = new Random(seed)
    const machine = hostileMachine(this.random)
    this.iommu = machine.iommu
    this.mostWords = machine.mostWords
    this.description = machine.description
    this.commandsOfStep = machine.commandsOfStep
    this.control = controlOf(this.random)
    setUp(this.iommu, this.control)
    if (this.random.chance(0.4)) startCounters(this.iommu, this.random)
  }

  /** Words that the machine and its forks have taken. */
  get words(): number {
    return this.iommu.memory.words.allocate(0)
  }

  /** Meets every neighbourhood of devices and of domains: from then on nothing new comes up. */
  meetAll(): void {
    const { iommu } = this
    for (let deviceId = 0; deviceId < 0x10000; deviceId += 64) iommu.request({ deviceId, iova: 0n })
    for (let domainId = 0; domainId < 0x10000; domainId += 64) {
      this.command([(3n << 60n) | (BigInt(domainId) << 32n), 0x7ffffffffffff003n])
      this.step()
    }
  }

  /** One act; throws when the chip does what it may not. */
  act(): void {
    this.acts += 1
    const { random } = this
    const what = random.below(1000)
    if (what < 330) this.ask()
    else if (what < 500) disturbMemory(this.iommu.memory, random)
    else if (what < 700) this.feedRing()
    else if (what < 730) this.register()
    else if (what < 760) this.configure()
    else if (what < 820) this.interrupt()
    else if (what < 850) this.pageRequest()
    else if (what < 890) this.answerDevices()
    else if (what < 900) this.iommu.elapse(Number(random.bits(random.pick([1, 8, 30]))))
    else if (what < 930) this.guest()
    else if (what < 945) this.tell(`evict ${this.iommu.evict(random.below(40))}`)
    else if (what < 960) this.lookAround()
    else if (what < 975) this.keepGoing()
    else if (what < 985) this.drainLogs()
    else if (what < 990) this.fork()
    else if (what < 995) this.goBothWays()
    else this.watchOrNot()
  }

  private tell(outcome: string): void {
    this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1)
  }

  private limit<T>(walks: number, what: string, call: () => T): T {
    return this.meter.limit(walks, `${this.place()}: ${what}`, call)
  }

  private ask(): void {
    const { random, iommu } = this
    const request = hostileRequest(random)
    const before = request.kind === 'look' ? this.fingerprint() : ''
    const answer = this.limit(walksOf(request), request.kind, () => answerOf(iommu, request))
    if (request.kind === 'look' && this.fingerprint() !== before) this.fail('a look left a trace')
    this.tell(outcomeOf(request, answer))
  }

  private command([lo, hi]: readonly [bigint, bigint]): void {
    const { iommu } = this
    const base = iommu.readMmio(register.commandBase, 8)
    const tail = iommu.readMmio(register.commandTail, 8)
    const at = (base & 0xffffffffff000n) + tail
    store64(iommu.memory, at, lo)
    store64(iommu.memory, at + 8n, hi)
    iommu.writeMmio(register.commandTail, 8, (tail + 16n) & ((16n << ((base >> 56n) & 15n)) - 1n))
  }

  private feedRing(): void {
    if (this.random.chance(0.5)) this.command(hostileCommand(this.random))
    else this.step()
  }

  private step(): void {
    const { iommu } = this
    const moved = this.limit(longestPrefetch * this.commandsOfStep, 'a command', () => iommu.step())
    this.tell(`command ${moved}`)
  }

  private register(): void {
    const { random, iommu } = this
    const offset = random.chance(0.95) ? random.pick(offsets) : random.below(0x100000)
    const bytes: AccessBytes = random.chance(0.5) ? 4 : 8
    let value = wildWord(random)
    if (offset === register.control && random.chance(0.9)) value |= this.control
    const at = random.chance(0.95) ? offset : offset + random.below(8)
    this.limit(0, `MMIO ${at.toString(16)}`, () => {
      iommu.writeMmio(at, bytes, value)
      iommu.readMmio(offset + random.below(2) * 4, bytes)
    })
    this.tell('register')
  }

  private configure(): void {
    const { random, iommu } = this
    const offset = random.below(random.pick([256, 256, 4096]))
    const bytes = random.pick([1, 2, 4] as const)
    iommu.writeConfig(offset, bytes, Number(random.bits(32)))
    iommu.readConfig(random.below(256), bytes)
    this.tell('configuration')
  }

  private interrupt(): void {
    const { random, iommu } = this
    const base = random.chance(0.8) ? 0xfee00000n : 0xfdf8000000n
    const address = base | (random.bits(18) << 2n)
    const deviceId = deviceIdOf(random)
    const data = Number(random.bits(random.pick([3, 4, 6, 8, 32])))
    if (random.chance(0.2)) {
      this.limit(1, 'a look at an interrupt', () =>
        iommu.interrupt(deviceId, Number(BigInt.asIntN(32, address)), Number(address >> 32n), data, 8),
      )
    }
    const answer = this.limit(1, 'an interrupt', () => iommu.requestInterrupt({ deviceId, address, data }))
    this.tell(`interrupt ${answer.kind}`)
  }

  private pageRequest(): void {
    const { random, iommu } = this
    const asked = {
      deviceId: deviceIdOf(random),
      pasid: pasidOf(random),
      address: wildAddress(random),
      read: random.chance(0.7),
      write: random.chance(0.5),
      group: random.below(512),
      last: random.chance(0.5),
    }
    this.tell(`page request ${this.limit(1, 'a page request', () => iommu.pageRequest(asked))}`)
  }

  /** Devices that answer, that answer what they were not asked, and that say nothing. */
  private answerDevices(): void {
    const { random, iommu } = this
    const message = iommu.takeDeviceMessage()
    this.tell(`message ${message?.kind ?? 'none'}`)
    if (random.chance(0.3)) iommu.completeInvalidation(deviceIdOf(random), random.below(64) - 16)
    if (message?.kind !== 'invalidate' || random.chance(0.3)) return
    const { deviceId, tag } = message
    this.tell(`completion ${iommu.completeInvalidation(deviceId, tag)}`)
  }

  private guest(): void {
    const { random, iommu } = this
    const guestId = Number(random.bits(random.pick([2, 2, 16])))
    this.tell(
      `guest command ${this.limit(longestPrefetch, 'a guest command', () => iommu.stepGuest(guestId))}`,
    )
    const { virtual } = iommu
    if (virtual === null) return
    if (random.chance(0.5)) {
      // Where the ring of a guest lies, as the host tables have it while they make sense.
      const tail = virtual.readVf(guestId * 4096 + 8, 8)
      const at = (BigInt(guestId & 1) << 19n) + tail
      hostileCommand(random).forEach((word, n) => store64(iommu.memory, at + BigInt(n * 8), word))
      virtual.writeVf(guestId * 4096 + 8, 8, (tail + 16n) & 0xfffn)
      return
    }
    const bytes: AccessBytes = random.chance(0.5) ? 4 : 8
    const ofPage = guestId * 4096 + random.below(random.pick([0x30, 0x1000 / 8])) * 8
    const ofControl = guestId * 64 + random.below(8) * 8
    this.limit(0, 'guest registers', () => {
      virtual.writeVf(ofPage, bytes, wildWord(random))
      virtual.readVf(ofPage, bytes)
      virtual.writeVfControl(ofControl, bytes, wildWord(random))
      virtual.readVfControl(ofControl, bytes)
      virtual.takeGuestInterrupt()
    })
  }

  private lookAround(): void {
    const { iommu } = this
    const entries = iommu.iotlbEntries().length
    iommu.walkCacheEntries()
    iommu.interruptEntries()
    if (this.random.chance(0.05)) iommu.cachedDeviceIds()
    this.tell(entries === 0 ? 'IOTLB empty' : 'IOTLB used')
  }

  /** Puts the registers that matter right, and starts what has stopped. */
  private keepGoing(): void {
    const { iommu } = this
    iommu.writeMmio(register.control, 8, 0n)
    setUp(iommu, this.control)
    this.tell('restart')
  }

  private drainLogs(): void {
    const { iommu } = this
    for (const head of [register.eventHead, 0x2030, 0x2040, 0x2050, 0x2070]) {
      iommu.writeMmio(head, 8, iommu.readMmio(head + 8, 8))
    }
    let taken = 0
    while (iommu.takeInterrupt() !== undefined) taken++
    if (taken > 3) this.fail(`${taken} interrupts`)
    this.tell(`interrupts of its own: ${taken}`)
  }

  /** Goes on as a fork, the chip it came from being forgotten. */
  private fork(): void {
    this.iommu = this.forked()
    this.watchAgain()
    this.tell('fork')
  }

  /** A fork and its chip are asked the same: then they are the same. */
  private goBothWays(): void {
    const { random, iommu } = this
    const fork = this.forked()
    const requests = Array.from({ length: 8 }, () => hostileRequest(random))
    const [ofChip, ofFork] = [iommu, fork].map((each) => {
      each.watch(null)
      return requests.map((request) => [
        outcomeOf(request, answerOf(each, request)),
        each.memory.words.fingerprint().join(),
      ])
    })
    this.watchAgain()
    const at = requests.findIndex((_, n) => ofChip![n]!.join() !== ofFork![n]!.join())
    if (at >= 0)
      this.fail(`a fork went its own way by ${shown(requests[at])}: ${shown([ofChip![at], ofFork![at]])}`)
    this.tell('both ways')
  }

  private forked(): Iommu {
    return this.iommu.forkOnto(this.iommu.memory.fork())
  }

  private fingerprint(): string {
    return this.iommu.memory.words.fingerprint().join()
  }

  private watchOrNot(): void {
    this.isWatched = !this.isWatched
    this.watchAgain()
  }

  /** A chip that is not watched uses what the model itself remembers, if it does. */
  private watchAgain(): void {
    this.iommu.watch(this.isWatched ? this.meter : null)
  }

  private fail(what: string): never {
    throw new Error(`${this.place()}: ${what}`)
  }

  private place(): string {
    return `seed ${this.seed}, act ${this.acts}, ${this.description}`
  }
}
