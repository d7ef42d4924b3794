/** Hardware queues of AMD vIOMMUs: the page of registers, the queue's shape, and what becomes of the guest's commands. */
import { gva, spa } from '@nestwalk/bits'
import { deviceId, domainId, encodeCommand, decodeEvent, load64, store64 } from '@nestwalk/hardware'
import type { CommandFields } from '@nestwalk/hardware'
import { describe, expect, it } from 'vitest'
import type { HwQueueRequest, Region, Report } from '../src/backend.js'
import { driverData } from '../src/user-data.js'
import { guestDomainId, guestMemory, guestWith, one, virtualOne } from './amd-guest.js'
import type { Guest } from './amd-guest.js'
import { mapForGuest } from './amd-guest-tables.js'

const offset = 0x3000n
const ring = 0x2_0000n
const answers = 0x3_0000n
const [headAt, tailAt, statusAt] = [0, 8, 32]
const [waitInterrupt, running] = [4n, 16n]

interface QueueGuest extends Guest {
  /** The vIOMMU with a page of registers; the guest's devices are on the other one. */
  readonly queued: number
  readonly registers: Region
  readonly told: Uint8Array
}

/** A guest, and a vIOMMU of it that was made with data. */
function withRegisters(length = 16): QueueGuest {
  const guest = guestWith()
  const { rig, parent } = guest
  const told = new Uint8Array(length)
  const offered: Region[] = []
  const made = rig.backend.createViommu({
    ...{ device: rig.device(one), parent, type: 3, data: driverData(3, told) },
    offerRegion: (region) => {
      offered.push(region)
      return offset
    },
  })
  const { number, region } = rig.run(made)
  expect(offered).toEqual([region])
  return { ...guest, queued: number, registers: region!, told }
}

const request = (viommu: number, changes: Partial<HwQueueRequest> = {}): HwQueueRequest => ({
  ...{ viommu, type: 3, index: 0, iova: ring, length: 4096n, physical: guestMemory + ring },
  ...changes,
})

const read = ({ bytes }: Region, at: number): bigint => new DataView(bytes.buffer).getBigUint64(at, true)
const write = ({ bytes }: Region, at: number, value: bigint): void => {
  new DataView(bytes.buffer).setBigUint64(at, value, true)
}

describe('the page of registers', () => {
  it('is offered to who gives data for it', () => {
    const { told, registers, rig, queued } = withRegisters()
    const view = new DataView(told.buffer)
    expect([view.getBigUint64(0, true), view.getBigUint64(8, true)]).toEqual([offset, 4096n])
    expect(registers.bytes).toEqual(new Uint8Array(4096))
    expect(rig.backend.regionOf(queued)).toBe(registers)
  })

  it.each([8, 15, 17, 24])('needs 16 bytes of data: not %d', (length) => {
    const { rig, parent } = guestWith()
    const data = driverData(3, new Uint8Array(length))
    const attempt = () =>
      rig.backend.createViommu({ device: rig.device(one), parent, type: 3, data, offerRegion: () => offset })
    expect(rig.refusal(attempt)).toMatch(/^EINVAL /)
  })

  it('goes with its vIOMMU', () => {
    const { rig, queued } = withRegisters()
    rig.run(rig.backend.destroyViommu(queued))
    expect(rig.backend.regionOf(queued)).toBeUndefined()
    expect(rig.backend.snapshot()).toEqual([])
  })

  it('of a fork is its own', () => {
    const { rig, queued, registers } = withRegisters()
    rig.run(rig.backend.createHwQueue(request(queued)))
    const fork = rig.fork()
    write(registers, tailAt, 64n)
    const own = fork.backend.regionOf(queued)!
    expect([read(own, tailAt), read(own, statusAt)]).toEqual([0n, running])
  })

  it('is not there when a transaction with it is refused', () => {
    const { rig, parent } = guestWith()
    const before = rig.state()
    const outcome = rig.backend.transaction(() => {
      const data = driverData(3, new Uint8Array(16))
      const viommu = { device: rig.device(one), parent, type: 3, data, offerRegion: () => offset }
      const made = rig.backend.createViommu(viommu)
      return made.ok ? rig.backend.freeDomain(parent) : made
    })
    expect(outcome).toMatchObject({ ok: false, errno: 'EBUSY' })
    expect(rig.state()).toBe(before)
  })
})

describe('a command queue', () => {
  it('is of type 3', () => {
    const { rig, queued } = withRegisters()
    expect([1, 2, 3, 4].map((type) => rig.backend.hasHwQueue(queued, type))).toEqual([
      false,
      false,
      true,
      false,
    ])
  })

  it.each([
    ['a second one', 'EEXIST amd-queue-taken', {}],
    ['another index', 'EINVAL amd-queue-index', { index: 1 }],
  ])('%s is refused', (_what, refusal, changes) => {
    const { rig, queued } = withRegisters()
    rig.run(rig.backend.createHwQueue(request(queued)))
    expect(rig.refusal(() => rig.backend.createHwQueue(request(queued, changes)))).toBe(refusal)
    rig.run(rig.backend.destroyHwQueue(queued))
    rig.run(rig.backend.createHwQueue(request(queued)))
  })

  it.each([
    [2048n, ring],
    [8191n, ring],
    [12288n, ring],
    [1n << 20n, 0n],
    [4096n, ring + 16n],
  ])('has a power of two of bytes on a page: not %d at %d', (length, iova) => {
    const { rig, queued } = withRegisters()
    const shape = request(queued, { length, iova })
    expect(rig.refusal(() => rig.backend.createHwQueue(shape))).toBe('EINVAL amd-queue-shape')
  })

  it.each([4096n, 0x8_0000n])('may have %d bytes', (length) => {
    const { rig, queued } = withRegisters()
    rig.run(rig.backend.createHwQueue(request(queued, { length, iova: 0n })))
  })

  it('needs a page of registers', () => {
    const { rig, viommu } = withRegisters()
    expect(rig.refusal(() => rig.backend.createHwQueue(request(viommu)))).toBe('EINVAL amd-queue-registers')
  })
})

/** A guest whose one vIOMMU, with its devices on it, has a running queue. */
function runningQueue() {
  const guest = guestWith({ extensions: true })
  const { rig, parent } = guest
  const { backend } = rig
  rig.run(backend.detach([one, 0x20], 0))
  rig.run(backend.removeVdevice(guest.viommu, rig.device(one), BigInt(virtualOne)))
  const data = driverData(3, new Uint8Array(16))
  const viommuRequest = { device: rig.device(one), parent, type: 3, data, offerRegion: () => offset }
  const { number: viommu, region } = rig.run(backend.createViommu(viommuRequest))
  const registers = region!
  rig.run(backend.addVdevice(viommu, rig.device(one), BigInt(virtualOne)))
  const domain = rig.driver.domain(guest.nested)
  if (domain?.kind !== 'nested') throw new Error('not nested')
  const entry = new Uint8Array(BigUint64Array.from(domain.guestEntry).buffer)
  const nested = rig.run(backend.allocateNestedOnViommu(viommu, { flags: 0, data: driverData(3, entry) }))
  rig.run(backend.attach([one], 0, nested, undefined))
  rig.run(backend.createHwQueue(request(viommu)))
  /** The guest puts commands into its ring and moves the tail. */
  const queue = (...commands: readonly CommandFields[]): void => {
    let at = read(registers, tailAt)
    for (const command of commands) {
      const [low, high] = encodeCommand(command)
      store64(rig.memory, guestMemory + ring + at, low!)
      store64(rig.memory, guestMemory + ring + at + 8n, high!)
      at = (at + 16n) % 4096n
    }
    write(registers, tailAt, at)
  }
  const take = (): readonly Report[] => rig.run(backend.takeReports())
  return { rig, backend, registers, viommu, queue, take }
}

const pages: CommandFields = {
  ...{ kind: 'InvalidateIommuPages', domainId: domainId(guestDomainId), guestNested: true },
  ...{ address: gva(0x5000n) },
}
const answer: CommandFields = {
  kind: 'CompletionWait',
  store: true,
  storeAddress: spa(answers),
  storeData: 9n,
}
const devtab: CommandFields = { kind: 'InvalidateDevtabEntry', deviceId: deviceId(virtualOne) }

/** The one event of the reports, decoded, with its vIOMMU. */
function eventOf(reports: readonly Report[]) {
  const [report] = reports
  expect(reports).toHaveLength(1)
  if (report?.kind !== 'event') throw new Error('no event')
  const words = new BigUint64Array(report.bytes.slice().buffer)
  return { viommu: report.viommu, type: report.type, event: decodeEvent(words) }
}

describe('the commands of a queue', () => {
  it('take effect when reports are taken, and the guest finds its answer', () => {
    const { rig, registers, queue, take } = runningQueue()
    expect(rig.leads(one, 0x5000n)).toBe('40006000')
    mapForGuest(rig.memory, guestMemory, 0x5000n, 0x7000n)
    expect(rig.leads(one, 0x5000n)).toBe('40006000')
    queue(pages, answer)
    expect(load64(rig.memory, guestMemory + answers)).toBe(0n)
    expect(take()).toEqual([])
    expect(load64(rig.memory, guestMemory + answers)).toBe(9n)
    expect(rig.leads(one, 0x5000n)).toBe('40007000')
    expect([headAt, tailAt, statusAt].map((at) => read(registers, at))).toEqual([32n, 32n, running])
  })

  it('are taken once, and others as they come', () => {
    const { rig, registers, queue, take } = runningQueue()
    for (let i = 0n; i < 600n; i++) {
      queue({ kind: 'CompletionWait', store: true, storeAddress: spa(answers), storeData: i })
      take()
      expect(load64(rig.memory, guestMemory + answers)).toBe(i)
    }
    expect(read(registers, headAt)).toBe((600n * 16n) % 4096n)
  })

  it('may ask for an interrupt, which Status then says', () => {
    const { registers, queue, take } = runningQueue()
    queue({ kind: 'CompletionWait', interrupt: true })
    take()
    expect(read(registers, statusAt)).toBe(running | waitInterrupt)
    queue({ kind: 'CompletionWait' })
    take()
    expect(read(registers, statusAt)).toBe(running | waitInterrupt)
  })

  it('wait while the queue does not run', () => {
    const { rig, registers, queue, take } = runningQueue()
    write(registers, statusAt, 0n)
    queue(answer)
    take()
    expect([read(registers, headAt), load64(rig.memory, guestMemory + answers)]).toEqual([0n, 0n])
    write(registers, statusAt, running)
    take()
    expect([read(registers, headAt), load64(rig.memory, guestMemory + answers)]).toEqual([16n, 9n])
  })

  it('that are not carried out stop the queue, and the VMM hears of it, until it goes on behind them', () => {
    const { rig, registers, viommu, queue, take } = runningQueue()
    queue(pages, devtab, answer)
    expect(eventOf(take())).toMatchObject({
      ...{ viommu, type: 3, event: { kind: 'IllegalCommandError', address: ring + 16n } },
    })
    expect([headAt, statusAt].map((at) => read(registers, at))).toEqual([16n, 0n])
    expect(take()).toEqual([])
    write(registers, headAt, 32n)
    write(registers, statusAt, running)
    expect(take()).toEqual([])
    expect(load64(rig.memory, guestMemory + answers)).toBe(9n)
  })

  it('whose answer has no place stop it too', () => {
    const { registers, queue, take } = runningQueue()
    const nowhere = spa(0x80_0000n)
    queue({ kind: 'CompletionWait', store: true, storeAddress: nowhere, storeData: 1n })
    expect(eventOf(take()).event).toMatchObject({
      ...{ kind: 'CommandHardwareError', errorType: 1, address: nowhere },
    })
    expect(read(registers, statusAt)).toBe(0n)
  })

  it.each([
    ['between commands', 16n + 5n, 1],
    ['beyond the ring', 4096n + 16n, 1],
    ['far beyond', (1n << 63n) | 16n, 1],
  ])('a tail %s is one in the ring', (_where, tail, commands) => {
    const { rig, registers, queue, take } = runningQueue()
    queue(answer)
    write(registers, tailAt, tail)
    take()
    expect(read(registers, headAt)).toBe(BigInt(commands * 16))
    expect(load64(rig.memory, guestMemory + answers)).toBe(9n)
  })

  it('stay where they are when the queue is taken away', () => {
    const { rig, backend, registers, viommu, queue, take } = runningQueue()
    queue(answer)
    rig.run(backend.destroyHwQueue(viommu))
    take()
    expect([headAt, statusAt].map((at) => read(registers, at))).toEqual([0n, 0n])
    expect(load64(rig.memory, guestMemory + answers)).toBe(0n)
  })
})
