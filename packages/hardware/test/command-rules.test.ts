import { describe, expect, it } from 'vitest'
import { nestingFeatures } from '../src/index.js'
import type { IotlbEntry, MicroArchitecture, SwitchChoices } from '../src/index.js'
import { place } from './chip.js'
import type { ChipOptions } from './chip.js'
import { ats, at, bit, Chip, efr, full, fullChip, is, on, quietControl, setMsi, without } from './rig-chip.js'
import type { Command } from './rig-chip.js'
import { guestEntryAt, guestPages, hostEntryAt, hostPages, nestedChip } from './tables.js'

const device = 0x600
const iotlb = 0x4000000000000000n
const prefetchCommand = 0x6000000000000000n
const wait: Command = [0x1000000000000002n, 0n]
const everything = 0x7ffffffffffff001n
const pde = 2n
const gn = 4n

const goes = (command: Command, options: ChipOptions = {}): boolean => {
  const chip = Chip.create({ features: full, ...options })
  setMsi(chip)
  chip.command(command)
  const runs = chip.hasStatus(is.cmdBufRun)
  const events = chip.takeEvents()
  if (runs) {
    expect(events).toEqual([])
    expect(chip.read(at.commandHead)).toBe(16n)
  } else {
    expect(events).toEqual([[0x5000000000000000n, place.commandRing]])
    expect(chip.read(at.commandHead)).toBe(0n)
  }
  return runs
}

describe('a command is legal or not by what the chip can do', () => {
  const samples: Readonly<Record<string, Command>> = {
    COMPLETION_WAIT: [0x1000000000000000n, 0n],
    INVALIDATE_DEVTAB_ENTRY: [0x2000000000000600n, 0n],
    INVALIDATE_IOMMU_PAGES: [0x3000004200000000n, 0n],
    'INVALIDATE_IOMMU_PAGES GN': [0x3000004200000005n, gn],
    INVALIDATE_IOTLB_PAGES: [0x4000060020000600n, everything],
    'INVALIDATE_IOTLB_PAGES GN': [0x4145060020230600n, 0x00007f0000003004n],
    'INVALIDATE_IOTLB_PAGES Type 1': [0x4000060020000600n, bit(4)],
    'INVALIDATE_IOTLB_PAGES Type 2': [0x4000060020000600n, bit(5)],
    INVALIDATE_INTERRUPT_TABLE: [0x5000000000000010n, 0n],
    PREFETCH_IOMMU_PAGES: [0x6000000004000600n, 0x40000000n],
    'PREFETCH_IOMMU_PAGES GN': [0x6000000504000600n, 0x40000004n],
    COMPLETE_PPR_REQUEST: [0x7000000000000600n, 0x0000f1ff00000000n],
    'COMPLETE_PPR_REQUEST GN': [0x7000000500000600n, 0x0000012300000004n],
    INVALIDATE_IOMMU_ALL: [0x8000000000000000n, 0n],
  }
  const guestOnes = Object.keys(samples).filter((name) => name.endsWith('GN'))
  const startingWith = (start: string): string[] =>
    Object.keys(samples).filter((name) => name.startsWith(start))

  it.each<[string, ChipOptions, string[]]>([
    ['everything', {}, []],
    ['no IotlbSup', { pci: { iotlbSup: false } }, startingWith('INVALIDATE_IOTLB')],
    ['no PreFSup', { features: without(efr.preFSup) }, startingWith('PREFETCH')],
    ['no PPRSup', { features: without(efr.pprSup) }, startingWith('COMPLETE_PPR')],
    ['no IASup', { features: without(efr.iaSup) }, startingWith('INVALIDATE_IOMMU_ALL')],
    ['no GTSup', { features: without(efr.gtSup) }, guestOnes],
    [
      'no InvIotlbTypeSup',
      { features: without(efr.invIotlbTypeSup) },
      startingWith('INVALIDATE_IOTLB_PAGES Type'),
    ],
  ])('%s', (_, options, refused) => {
    for (const [name, command] of Object.entries(samples)) {
      expect(goes(command, options), name).toBe(!refused.includes(name))
    }
  })

  it.each([0x0n, 0x9n, 0xan, 0xbn, 0xcn, 0xdn, 0xen, 0xfn])('opcode %d is not there', (opcode) => {
    expect(goes([opcode << 60n, 0n], { features: without(efr.vIommuSup) })).toBe(false)
  })

  it.each<[string, Command]>([
    ['a PASID bit 20', [0x3000004200100000n, gn]],
    ['bit 67 of INVALIDATE_IOMMU_PAGES', [0x3000004200000000n, 8n]],
    ['bit 65 of INVALIDATE_IOTLB_PAGES, which has no PDE', [0x4000060020000600n, 2n]],
    ['CompletionTag bits 11:9', [0x7000000000000600n, 0x0000020000000000n]],
    ['bit 52 of COMPLETION_WAIT', [0x1010000000000000n, 0n]],
    ['DeviceID bit 16 of INVALIDATE_DEVTAB_ENTRY', [0x2000000000010600n, 0n]],
    ['an address in INVALIDATE_INTERRUPT_TABLE', [0x5000000000000600n, 0x1000n]],
    ['bit 67 of PREFETCH_IOMMU_PAGES', [0x6000000004000600n, 8n]],
    ['anything in INVALIDATE_IOMMU_ALL', [0x8000000000000001n, 0n]],
  ])('%s is reserved', (_, command) => {
    expect(goes(command)).toBe(false)
  })

  it.each<[string, Command]>([
    ['INVALIDATE_IOMMU_PAGES', [0x3000004200000005n, 0n]],
    ['INVALIDATE_IOTLB_PAGES', [0x4005060020000600n, 0n]],
  ])('a PASID with GN=0 in %s, by switch', (_, command) => {
    expect(goes(command)).toBe(false)
    expect(goes(command, { switches: { strayPasid: 'illegal' } })).toBe(false)
    expect(goes(command, { switches: { strayPasid: 'ignored' } })).toBe(true)
  })
})

describe('COMPLETION_WAIT with SNP', () => {
  const window = (first: bigint, last: bigint, switches: Partial<SwitchChoices> = {}): Chip => {
    const chip = fullChip(0n, { snp: true, switches })
    chip.write(at.exclusionBase, first)
    chip.write(at.exclusionLimit, last)
    return chip
  }
  const store = (address: bigint): Command => [0x1000000000000001n | address, 0x77n]

  it.each([
    [0x30000n, 0x30000n, 0x30000n, true],
    [0x30000n, 0x30000n, 0x30ff8n, true],
    [0x30000n, 0x30000n, 0x31000n, false],
    [0x30000n, 0x30000n, 0x2fff8n, false],
    [0x30000n, 0x32000n, 0x32ff8n, true],
    [0x30000n, 0x32000n, 0x33000n, false],
    [0x32000n, 0x30000n, 0x31000n, false],
    [0x500000000n, 0x500000000n, 0x500000010n, true],
    [0x500000000n, 0x500000000n, 0x10n, false],
  ])('stores in the pages from %x to %x alone: %x', (first, last, address, allowed) => {
    const chip = window(first, last)
    chip.command(store(address))
    expect(chip.load(address)).toBe(allowed ? 0x77n : 0n)
    expect(chip.hasStatus(is.cmdBufRun)).toBe(allowed)
    if (allowed) return
    const [[lo, hi] = [0n, 0n], more] = chip.takeEvents()
    expect([lo >> 60n, hi, more]).toEqual([6n, address, undefined])
    expect(chip.read(at.commandHead)).toBe(0n)
  })

  it('names the command in ILLEGAL_COMMAND_ERROR by switch', () => {
    const chip = window(0x30000n, 0x30000n, { storeOutsideWindow: 'illegal-command-error' })
    chip.command(store(0x40000n))
    expect(chip.takeEvents()).toEqual([[0x5000000000000000n, place.commandRing]])
  })

  it('needs no window without a store', () => {
    const chip = window(0n, 0n)
    chip.command(wait)
    expect(chip.hasStatus(is.comWaitInt)).toBe(true)
  })

  it('without SNP stores anywhere, whatever the exclusion range', () => {
    const chip = fullChip()
    chip.write(at.exclusionBase, 0x30001n)
    chip.command(store(0x40000n))
    expect(chip.load(0x40000n)).toBe(0x77n)
  })
})

describe('INVALIDATE_IOTLB_PAGES', () => {
  const chipOf = (options: ChipOptions = {}, control = 0n): Chip => {
    const chip = fullChip(control, options)
    chip.setDte(device, [0x6000000000000003n, 0x42n | ats])
    return chip
  }
  const take = (chip: Chip) => chip.iommu.takeDeviceMessage()

  it.each<[string, Command, object]>([
    ['everything, GN=0', [0x4000060020000600n, everything], { pasid: undefined, address: 0n, sizeLog2: 64 }],
    [
      'a page of PASID 12345, its pieces out of order',
      [0x4145060020230600n, 0x00007f0000003004n],
      { pasid: 0x12345, address: 0x7f0000003000n, sizeLog2: 12 },
    ],
    ['8 KiB', [0x4000060020000600n, 0x10000001n], { address: 0x10000000n, sizeLog2: 13 }],
    ['2 MiB', [0x4000060020000600n, 0x100ff001n], { address: 0x10000000n, sizeLog2: 21 }],
    ['a page of PASID 0', [0x4000060020000600n, 0x3004n], { pasid: 0, address: 0x3000n, sizeLog2: 12 }],
  ])('asks the device to forget: %s', (_, command, expected) => {
    const chip = chipOf()
    expect(chip.command(command)).toBe(1)
    expect(take(chip)).toMatchObject({ kind: 'invalidate', deviceId: device, ...expected })
    expect(take(chip)).toBeUndefined()
  })

  it('is waited for by COMPLETION_WAIT, and by nothing else', () => {
    const chip = chipOf()
    chip.enqueue([iotlb | 0x600n, everything], [0x2000000000000600n, 0n], wait, [0x2000000000000700n, 0n])
    chip.run()
    expect(chip.hasStatus(is.comWaitInt)).toBe(false)
    expect(chip.iommu.step()).toBe(false)
    const message = take(chip)
    if (message?.kind !== 'invalidate') throw new Error('expected an invalidation')
    chip.run()
    expect(chip.hasStatus(is.comWaitInt)).toBe(false)
    expect(chip.iommu.completeInvalidation(0x601, message.tag)).toBe(false)
    expect(chip.iommu.completeInvalidation(device, (message.tag + 1) % 32)).toBe(false)
    for (const tag of [-1, 32, 0.5, Number.NaN])
      expect(chip.iommu.completeInvalidation(device, tag)).toBe(false)
    expect(chip.run()).toBe(0)
    expect(chip.iommu.completeInvalidation(device, message.tag)).toBe(true)
    expect(chip.iommu.completeInvalidation(device, message.tag)).toBe(false)
    chip.run()
    expect(chip.hasStatus(is.comWaitInt)).toBe(true)
    expect(chip.read(at.commandHead)).toBe(64n)
  })

  it.each([
    [1n, 1],
    [2n, 10],
    [3n, 100],
    [4n, 1000],
    [5n, 10_000],
    [6n, 100_000],
  ])('is given up after InvTimeOut %d: IOTLB_INV_TIMEOUT after %d ms, and commands go on', (code, limit) => {
    const chip = chipOf({}, code << 5n)
    chip.command([0x2000000000000600n, 0n], [0x2000000000000600n, 0n], [iotlb | 0x600n, everything], wait)
    take(chip)
    if (limit > 1) {
      chip.iommu.elapse(limit - 1)
      chip.run()
      expect(chip.takeEvents()).toEqual([])
      expect(chip.hasStatus(is.comWaitInt)).toBe(false)
    }
    chip.iommu.elapse(1)
    chip.run()
    expect(chip.takeEvents()).toEqual([[0x7000000000000600n, place.commandRing + 0x20n]])
    expect(chip.hasStatus(is.comWaitInt)).toBe(true)
    expect(chip.hasStatus(is.cmdBufRun)).toBe(true)
    chip.iommu.elapse(2 ** 30)
    expect(chip.takeEvents()).toEqual([])
  })

  it('is waited for without end when InvTimeOut is 0', () => {
    const chip = chipOf()
    chip.command([iotlb | 0x600n, everything], wait)
    chip.iommu.elapse(2 ** 30)
    expect(chip.run()).toBe(0)
    expect(chip.takeEvents()).toEqual([])
    expect(chip.hasStatus(is.comWaitInt)).toBe(false)
  })

  it.each([-1, 0.5, 2 ** 30 + 1, Number.NaN])('time does not pass by %d ms', (milliseconds) => {
    expect(() => {
      chipOf().iommu.elapse(milliseconds)
    }).toThrow(RangeError)
  })

  it('has at most MaxPend of its queue under way', () => {
    const chip = chipOf()
    // MaxPend 2, queue 7.
    const command: Command = [iotlb | 0x0000000702000600n, everything]
    chip.enqueue(command, command, command)
    expect(chip.run()).toBe(2)
    const first = take(chip)
    if (first?.kind !== 'invalidate') throw new Error('expected an invalidation')
    chip.iommu.completeInvalidation(device, first.tag)
    expect(chip.run()).toBe(1)
    // Another queue has a limit of its own.
    chip.enqueue([iotlb | 0x0000000802000600n, everything])
    expect(chip.run()).toBe(1)
  })

  it('is bounded, however many devices never answer', () => {
    const chip = chipOf()
    for (let n = 0; n < 200; n++) chip.enqueue([iotlb | 0x600n | (BigInt(n) << 32n), everything])
    chip.run()
    let messages = 0
    while (take(chip) !== undefined && messages < 1000) messages++
    expect(messages).toBeLessThanOrEqual(200)
    expect(chip.hasStatus(is.cmdBufRun)).toBe(true)
  })

  it('goes to a device with I=0 or not, by switch', () => {
    for (const [choice, dte, sent] of [
      ['sent', 0x42n, true],
      ['dropped', 0x42n, false],
      ['dropped', 0x42n | ats, true],
    ] as const) {
      const chip = fullChip(0n, { switches: { iotlbInvalidationWithoutAts: choice } })
      chip.setDte(device, [0x6000000000000003n, dte])
      chip.command([iotlb | 0x600n, everything])
      expect(take(chip) !== undefined, choice).toBe(sent)
      expect(chip.hasStatus(is.cmdBufRun)).toBe(true)
    }
  })

  it('leaves what the IOMMU caches alone', () => {
    const chip = nestedChip([1])
    chip.iommu.request({ deviceId: 1, iova: hostPages })
    chip.iommu.request({ deviceId: 1, pasid: 5, iova: guestPages })
    chip.command([iotlb | 1n, everything])
    expect(chip.iommu.iotlbEntries()).toHaveLength(2)
  })
})

describe('COMPLETE_PPR_REQUEST', () => {
  it.each<[string, Command, object]>([
    [
      'success with PASID',
      [0x7000000500000600n, 0x0000012300000004n],
      { pasid: 5, group: 0x123, response: 0 },
    ],
    ['invalid request', [0x7000000500000600n, 0x0000112300000004n], { pasid: 5, group: 0x123, response: 1 }],
    [
      'failure without PASID',
      [0x7000000000000600n, 0x0000f1ff00000000n],
      { pasid: undefined, group: 0x1ff, response: 15 },
    ],
  ])('answers the device, whether it asked or not: %s', (_, command, expected) => {
    const chip = fullChip()
    expect(chip.command(command)).toBe(1)
    expect(chip.iommu.takeDeviceMessage()).toEqual({ kind: 'page-response', deviceId: device, ...expected })
    expect(chip.iommu.takeDeviceMessage()).toBeUndefined()
  })

  it('is bounded when nobody takes the answers, and none is lost', () => {
    const chip = fullChip()
    const count = 200
    for (let n = 0; n < count; n++) chip.enqueue([0x7000000000000600n, BigInt(n) << 32n])
    const groups: number[] = []
    for (let lap = 0; lap < count + 1 && groups.length < count; lap++) {
      chip.run()
      const message = chip.iommu.takeDeviceMessage()
      if (message?.kind === 'page-response') groups.push(message.group)
    }
    expect(groups).toEqual(Array.from({ length: count }, (_, n) => n))
  })
})

/** Nested device 1 on a chip with PREFETCH. */
const prefetchChip = (switches: Partial<SwitchChoices> = {}): Chip =>
  nestedChip([1], { features: { ...nestingFeatures, efr: nestingFeatures.efr | efr.preFSup }, switches })
const pagesOf = (entries: readonly IotlbEntry[]): bigint[] => entries.map(({ page }) => page).sort()

describe('PREFETCH_IOMMU_PAGES', () => {
  const command = (count: bigint, hi: bigint, pasid = 0n): Command => [
    prefetchCommand | (pasid << 32n) | (count << 24n) | 1n,
    hi,
  ]

  it('fills the IOTLB with PFCount pages of the host table', () => {
    const chip = prefetchChip()
    chip.command(command(4n, hostPages))
    expect(pagesOf(chip.iommu.iotlbEntries())).toEqual(
      [0n, 0x1000n, 0x2000n, 0x3000n].map((n) => hostPages + n),
    )
    const request = { deviceId: 1, iova: hostPages + 0x2abcn }
    expect(chip.iommu.request(request)).toMatchObject({ kind: 'translated', from: 'iotlb' })
    expect(chip.takeEvents()).toEqual([])
  })

  it('fills it with guest pages of a PASID with GN=1', () => {
    const chip = prefetchChip()
    chip.command(command(2n, guestPages | gn, 5n))
    expect(chip.iommu.iotlbEntries().map(({ pasid }) => pasid)).toEqual([5, 5])
    const request = { deviceId: 1, pasid: 5, iova: guestPages + 0x1000n }
    expect(chip.iommu.request(request)).toMatchObject({ kind: 'translated', from: 'iotlb' })
  })

  it('with Inval=1 forgets first', () => {
    const chip = prefetchChip()
    const request = { deviceId: 1, iova: hostPages }
    chip.iommu.request(request)
    chip.put([hostEntryAt(hostPages), 0x6000000300000001n])
    expect(chip.iommu.request(request)).toMatchObject({ spa: 0x200000000n + hostPages })
    chip.command(command(1n, hostPages | bit(4)))
    expect(chip.iommu.request(request)).toMatchObject({ spa: 0x300000000n })
  })

  it('with Inval=1 and GN=1 forgets the PASID’s pages first', () => {
    const chip = prefetchChip()
    const request = { deviceId: 1, pasid: 5, iova: guestPages }
    chip.iommu.request(request)
    chip.iommu.request({ ...request, pasid: 0 })
    chip.put([guestEntryAt(1, 0n), (hostPages + 0x1000n) | 7n])
    chip.command(command(1n, guestPages | gn | bit(4), 5n))
    expect(chip.iommu.request(request)).toMatchObject({ spa: 0x200000000n + hostPages + 0x1000n })
    expect(chip.iommu.request({ ...request, pasid: 0 })).toMatchObject({ from: 'iotlb' })
  })

  it('says nothing of faults, or logs them, by switch; commands go on', () => {
    for (const [choice, events] of [
      ['silent', 0],
      ['logged', 1],
    ] as const) {
      const chip = prefetchChip({ prefetchFaults: choice })
      chip.command(command(1n, 0x1ff000n), wait)
      const logged = chip.takeEvents()
      expect(logged).toHaveLength(events)
      if (events === 1) expect(logged).toEqual([[0x2000000100000001n, 0x1ff000n]])
      expect(chip.hasStatus(is.comWaitInt)).toBe(true)
      expect(chip.hasStatus(is.cmdBufRun)).toBe(true)
    }
  })

  it('may do nothing, by switch', () => {
    const chip = prefetchChip({ prefetch: 'ignored' })
    chip.command(command(4n, hostPages), wait)
    expect(chip.iommu.iotlbEntries()).toEqual([])
    expect(chip.hasStatus(is.comWaitInt)).toBe(true)
  })

  it.each([
    [0xfffffffffffff000n, 255n],
    [0x7ffffffffffff001n, 255n],
    [0xfffff000n, 255n],
    [0n, 0n],
    [0xfee00000n, 255n],
    [0xfffffffffffff001n, 1n],
  ])('does no harm anywhere: %x, %d pages', (address, count) => {
    const chip = prefetchChip()
    chip.command(command(count, address), wait)
    expect(chip.hasStatus(is.comWaitInt)).toBe(true)
    expect(chip.takeEvents()).toEqual([])
  })

  it('of a device that may do nothing changes nothing', () => {
    for (const dte of [[0n], [1n], [7n], [0x600ffffffffff803n, 1n]]) {
      const chip = prefetchChip()
      chip.setDte(1, [...dte, 0n, 0n])
      chip.command(command(3n, hostPages | bit(4)), wait)
      expect(chip.hasStatus(is.comWaitInt)).toBe(true)
      expect(chip.iommu.iotlbEntries()).toEqual([])
      expect(chip.takeEvents()).toEqual([])
    }
  })
})

const hashed = { kind: 'hashed' } as const
const walkCaches: Partial<MicroArchitecture> = { pageWalkCache: hashed, gcr3Cache: hashed }
const pages = (domain: bigint, pasid = 0n): bigint => 0x3000000000000000n | (domain << 32n) | pasid

/** Host and guest pages of domains 1 and 2, PASIDs 0 and 5, asked for once. */
function warm(options: ChipOptions): Chip {
  const chip = nestedChip([1, 2], options)
  for (const deviceId of [1, 2]) {
    chip.iommu.request({ deviceId, iova: hostPages })
    for (const pasid of [0, 5]) chip.iommu.request({ deviceId, pasid, iova: guestPages })
  }
  return chip
}

/** What the caches beside the IOTLB hold, as `kind domain/PASID`, without repetition. */
function held(chip: Chip): string[] {
  const { directories, guestRoots } = chip.iommu.walkCacheEntries()
  const name = (kind: string, { domainId, pasid }: IotlbEntry): string =>
    `${kind} ${domainId}/${pasid ?? '-'}`
  const names = [
    ...directories.map((entry) => name('directory', entry)),
    ...guestRoots.map((entry) => name('root', entry)),
  ]
  return [...new Set(names)].sort()
}

describe('the page-walk and GCR3 caches', () => {
  const all = [1, 2].flatMap((domain) => [
    `directory ${domain}/-`,
    ...[0, 5].flatMap((pasid) => [`directory ${domain}/${pasid}`, `root ${domain}/${pasid}`]),
  ])

  it('are filled by walks', () => {
    expect(held(warm({ microArchitecture: walkCaches }))).toEqual(all.sort())
  })

  it('are not there by default', () => {
    expect(held(warm({}))).toEqual([])
  })

  it.each<[string, Command, string[]]>([
    ['GN=0 PDE=0, a page', [pages(1n), hostPages], []],
    ['GN=0 PDE=0, everything', [pages(1n), everything], []],
    ['GN=1 PDE=0, everything', [pages(1n, 5n), everything | gn], []],
    ['GN=0 PDE=1, everything', [pages(1n), everything | pde], all.filter((name) => name.includes(' 1/'))],
    ['GN=0 PDE=1, the page', [pages(1n), hostPages | pde], all.filter((name) => name.includes(' 1/'))],
    ['GN=1 PDE=1, everything', [pages(1n, 5n), everything | pde | gn], ['directory 1/5', 'root 1/5']],
    ['GN=1 PDE=1, the page', [pages(1n, 5n), guestPages | pde | gn], ['directory 1/5', 'root 1/5']],
    ['GN=1 PDE=1, the wrong PASID', [pages(1n, 6n), everything | pde | gn], []],
    ['another domain', [pages(3n), everything | pde], []],
    ['INVALIDATE_DEVTAB_ENTRY', [0x2000000000000001n, 0n], []],
    ['INVALIDATE_INTERRUPT_TABLE', [0x5000000000000001n, 0n], []],
    ['INVALIDATE_IOTLB_PAGES', [iotlb | 1n, everything], []],
    ['INVALIDATE_IOMMU_ALL', [0x8000000000000000n, 0n], all],
  ])('lose by %s what the manual says', (_, command, dropped) => {
    const chip = warm({ microArchitecture: walkCaches })
    expect(chip.command(command)).toBe(1)
    expect(held(chip)).toEqual(all.filter((name) => !dropped.includes(name)).sort())
  })

  it('lose the directories of other PASIDs by GN=1 PDE=1, by switch', () => {
    const chip = warm({
      microArchitecture: walkCaches,
      switches: { directoriesOfOtherPasids: 'flushed' },
    })
    chip.command([pages(1n, 5n), everything | pde | gn])
    expect(held(chip).filter((name) => name.includes(' 1/'))).toEqual(['directory 1/-'])
  })

  it('lead walks through a directory that is gone, until PDE=1', () => {
    const chip = warm({ microArchitecture: { pageWalkCache: hashed } })
    const other = { deviceId: 1, iova: hostPages + 0x3000n }
    // The level-2 directory of the host table leads to an empty page now.
    chip.put([0x100001000n, 0x6000000100900201n])
    expect(chip.iommu.request(other)).toMatchObject({ kind: 'translated' })
    chip.command([pages(1n), everything])
    expect(chip.iommu.request(other)).toMatchObject({ kind: 'translated' })
    chip.command([pages(1n), everything | pde])
    expect(chip.iommu.request(other)).toMatchObject({ kind: 'fault' })
    // Domain 2 has the same table, and its own cached way through it.
    expect(chip.iommu.request({ ...other, deviceId: 2 })).toMatchObject({ kind: 'translated' })
  })

  it('without them a changed directory counts at once', () => {
    const chip = warm({})
    chip.put([0x100001000n, 0x6000000100900201n])
    expect(chip.iommu.request({ deviceId: 1, iova: hostPages + 0x3000n })).toMatchObject({ kind: 'fault' })
  })

  it('keep a guest CR3 that is gone, until PDE=1 of its PASID or of the host', () => {
    for (const flush of [
      [pages(1n, 5n), everything | gn | pde],
      [pages(1n), everything | pde],
    ] as const) {
      const chip = warm({ microArchitecture: { gcr3Cache: hashed } })
      const request = { deviceId: 1, pasid: 5, iova: guestPages + 0x2000n }
      chip.put([0x200011028n, 0n])
      expect(chip.iommu.request(request)).toMatchObject({ kind: 'translated' })
      chip.command([pages(1n, 5n), everything | gn], [pages(1n), everything])
      expect(chip.iommu.request(request)).toMatchObject({ kind: 'translated' })
      chip.command(flush)
      expect(chip.iommu.request(request)).toMatchObject({ kind: 'fault' })
    }
  })

  it('change no answer while software flushes as it should', () => {
    const plain = warm({})
    const cached = warm({ microArchitecture: walkCaches })
    for (const chip of [plain, cached]) {
      chip.put([0x100001000n, 0x6000000100900201n], [0x100900000n + (hostPages >> 9n), 0x6000000500000001n])
      chip.command([pages(1n), everything | pde], [pages(2n), everything | pde])
    }
    for (const deviceId of [1, 2]) {
      for (const pasid of [undefined, 0, 5]) {
        const iova = pasid === undefined ? hostPages : guestPages
        const asked = { deviceId, pasid, iova }
        expect(cached.iommu.request(asked).kind).toBe(plain.iommu.request(asked).kind)
      }
    }
  })
})

describe.each(['combined', 'split', 'both'] as const)('nested entries kept %s', (nestedEntries) => {
  const chipOf = (): Chip => {
    const chip = nestedChip([1, 2], { microArchitecture: { nestedEntries } })
    for (const deviceId of [1, 2]) chip.iommu.request({ deviceId, pasid: 5, iova: guestPages })
    return chip
  }
  const request = { deviceId: 1, pasid: 5, iova: guestPages }
  const toNewPage = (chip: Chip): void => chip.put([hostEntryAt(hostPages), 0x6000000300000001n])

  it('are entries of the kinds that the name says', () => {
    const chip = chipOf()
    const { guestToGpa } = chip.iommu.walkCacheEntries()
    const toSpa = chip.iommu.iotlbEntries()
    const mine = (entries: readonly IotlbEntry[], page: bigint, pasid?: number): IotlbEntry[] =>
      entries.filter((entry) => entry.domainId === 1 && entry.page === page && entry.pasid === pasid)
    expect(mine(toSpa, guestPages, 5)).toHaveLength(nestedEntries === 'split' ? 0 : 1)
    expect(mine(toSpa, hostPages)).toHaveLength(nestedEntries === 'combined' ? 0 : 1)
    expect(mine(guestToGpa, guestPages, 5)).toHaveLength(nestedEntries === 'combined' ? 0 : 1)
  })

  it('answer from the cache', () => {
    expect(chipOf().iommu.request(request)).toMatchObject({ from: 'iotlb', spa: 0x200000000n + hostPages })
  })

  it('keep answering the old page until an invalidation', () => {
    const chip = chipOf()
    toNewPage(chip)
    expect(chip.iommu.request(request)).toMatchObject({ spa: 0x200000000n + hostPages })
  })

  it.each<[string, Command]>([
    ['the page', [pages(1n), hostPages]],
    ['everything', [pages(1n), everything]],
    ['everything, PDE', [pages(1n), everything | pde]],
  ])('are all gone by GN=0, %s: a changed host page is seen', (_, command) => {
    const chip = chipOf()
    toNewPage(chip)
    chip.command(command)
    expect(chip.iommu.request(request)).toMatchObject({ spa: 0x300000000n })
    expect(chip.iommu.request({ ...request, deviceId: 2 })).toMatchObject({ spa: 0x200000000n + hostPages })
  })

  it('are gone by GN=1 as far as they are the guest’s: a changed guest page is seen', () => {
    const chip = chipOf()
    chip.put([guestEntryAt(1, 0n), (hostPages + 0x1000n) | 7n])
    chip.command([pages(1n, 6n), everything | gn])
    expect(chip.iommu.request(request)).toMatchObject({ spa: 0x200000000n + hostPages })
    chip.command([pages(1n, 5n), guestPages | gn])
    expect(chip.iommu.request(request)).toMatchObject({ spa: 0x201000n + 0x200000000n - 0x100000n })
  })

  it('outlive GN=1 as far as they are the host’s', () => {
    const chip = chipOf()
    toNewPage(chip)
    chip.command([pages(1n, 5n), everything | gn | pde])
    const host = chip.iommu.request({ deviceId: 1, iova: hostPages })
    expect(host).toMatchObject(
      nestedEntries === 'combined'
        ? { from: 'walk', spa: 0x300000000n }
        : { from: 'iotlb', spa: 0x200000000n + hostPages },
    )
  })

  it('are gone by INVALIDATE_IOMMU_ALL', () => {
    const chip = chipOf()
    chip.command([0x8000000000000000n, 0n])
    expect(chip.iommu.iotlbEntries()).toEqual([])
    expect(chip.iommu.walkCacheEntries().guestToGpa).toEqual([])
  })
})

describe('GN=0 with a range of addresses', () => {
  const remembering: ChipOptions = {
    microArchitecture: { remembersGpas: true },
    switches: { hostFlushOfNested: 'by-remembered-gpa' },
  }
  const chipOf = (options: ChipOptions): Chip => {
    const chip = nestedChip([1, 2], options)
    for (const deviceId of [1, 2]) {
      for (const pasid of [0, 5]) {
        for (const page of [0n, 0x1000n]) chip.iommu.request({ deviceId, pasid, iova: guestPages + page })
      }
    }
    return chip
  }
  const names = (chip: Chip): string[] =>
    chip.iommu
      .iotlbEntries()
      .map(({ domainId, pasid, page }) => `${domainId}/${pasid}/${(page - guestPages) >> 12n}`)
      .sort()
  const ofDomain2 = ['2/0/0', '2/0/1', '2/5/0', '2/5/1']

  it('drops all nested entries of the domain', () => {
    for (const options of [{}, { microArchitecture: { remembersGpas: true } }]) {
      const chip = chipOf(options)
      chip.command([pages(1n), 0x700000n])
      expect(names(chip)).toEqual(ofDomain2)
    }
  })

  it.each<[string, bigint, string[]]>([
    ['the page', hostPages, ['1/0/1', '1/5/1']],
    ['two pages', hostPages | 1n, []],
    ['a page of the PASID’s tables', 0x27000n, ['1/0/0', '1/0/1']],
    ['the page of the GCR3 table', 0x11000n, []],
    ['a page that nothing came by', 0x700000n, ['1/0/0', '1/0/1', '1/5/0', '1/5/1']],
    ['everything', everything, []],
  ])('drops by switch what came by these GPAs: %s', (_, address, left) => {
    const chip = chipOf(remembering)
    chip.command([pages(1n), address])
    expect(names(chip)).toEqual([...left, ...ofDomain2])
  })
})

describe('a page that is not there', () => {
  const absent = 0x180000n
  const map = (chip: Chip): void => chip.put([hostEntryAt(absent), 0x6000000300000001n])
  const request = { deviceId: 1, iova: absent }
  const npCache = (chip: Chip): number => (chip.iommu.readConfig(0x40, 4) >>> 26) & 1

  it('is not cached: no invalidation is needed when it comes', () => {
    const chip = nestedChip([1])
    expect(npCache(chip)).toBe(0)
    expect(chip.iommu.request(request).kind).toBe('fault')
    map(chip)
    expect(chip.iommu.request(request)).toMatchObject({ kind: 'translated', spa: 0x300000000n })
  })

  it.each<[string, Command, boolean]>([
    ['its page', [pages(1n), absent], true],
    ['everything', [pages(1n), everything], true],
    ['INVALIDATE_IOMMU_ALL', [0x8000000000000000n, 0n], true],
    ['another page', [pages(1n), hostPages], false],
    ['another domain', [pages(2n), everything], false],
    ['the device table entry', [0x2000000000000001n, 0n], false],
  ])('is cached where NpCache is 1: %s invalidated', (_, command, seen) => {
    const chip = nestedChip([1], { microArchitecture: { cachesAbsent: true } })
    expect(npCache(chip)).toBe(1)
    for (let n = 0; n < 2; n++) expect(chip.iommu.request(request).kind).toBe('fault')
    map(chip)
    expect(chip.iommu.request(request).kind).toBe('fault')
    chip.command(command)
    expect(chip.iommu.request(request).kind).toBe(seen ? 'translated' : 'fault')
  })

  it('of a guest is cached too, under its PASID', () => {
    const chip = nestedChip([1], { microArchitecture: { cachesAbsent: true } })
    const asked = { deviceId: 1, pasid: 5, iova: guestPages + 0x20000n }
    expect(chip.iommu.request(asked).kind).toBe('fault')
    chip.put([guestEntryAt(1, 0x20000n), hostPages | 7n])
    expect(chip.iommu.request(asked).kind).toBe('fault')
    chip.command([pages(1n), absent])
    // GN=0 takes all nested entries with it.
    expect(chip.iommu.request(asked).kind).toBe('translated')
  })
})

describe('a cached page without the right', () => {
  const request = { deviceId: 1, iova: hostPages }
  const chipOf = (options: ChipOptions = {}): Chip => {
    const chip = nestedChip([1], options)
    chip.put([hostEntryAt(hostPages), 0x2000000300000001n])
    expect(chip.iommu.request(request)).toMatchObject({ kind: 'translated', writable: false })
    chip.put([hostEntryAt(hostPages), 0x6000000300000001n])
    return chip
  }

  it('is walked again: a right that was added counts at once', () => {
    expect(chipOf().iommu.request({ ...request, write: true })).toMatchObject({ kind: 'translated' })
  })

  it('is a fault until it is invalidated, by switch', () => {
    const chip = chipOf({ switches: { hitWithoutRights: 'fault' } })
    const answer = chip.iommu.request({ ...request, write: true })
    expect(answer).toMatchObject({ kind: 'fault', event: [0x2070000100000001n, hostPages] })
    chip.command([pages(1n), hostPages])
    expect(chip.iommu.request({ ...request, write: true })).toMatchObject({ kind: 'translated' })
  })

  it('still allows what it allowed when the right is taken away, until it is invalidated', () => {
    for (const hitWithoutRights of ['rewalk', 'fault'] as const) {
      const chip = nestedChip([1], { switches: { hitWithoutRights } })
      const write = { ...request, write: true }
      expect(chip.iommu.request(write).kind).toBe('translated')
      chip.put([hostEntryAt(hostPages), 0x2000000300000001n])
      expect(chip.iommu.request(write).kind).toBe('translated')
      chip.command([pages(1n), hostPages])
      expect(chip.iommu.request(write).kind).toBe('fault')
    }
  })
})

describe('INVALIDATE_INTERRUPT_TABLE', () => {
  const control = quietControl | on.gaEn
  it('makes a changed entry count, of that device alone', () => {
    const chip = fullChip()
    chip.write(at.control, control)
    const ask = (deviceId: number): unknown =>
      chip.iommu.requestInterrupt({ deviceId, address: 0xfee00000n, data: 0 })
    for (const deviceId of [1, 2]) chip.setDte(deviceId, [0n, 0n, 0x2000000117840013n])
    chip.put([0x117840000n, 0x501n], [0x117840008n, 0x31n])
    for (const deviceId of [1, 2]) expect(ask(deviceId)).toMatchObject({ vector: 0x31 })
    chip.put([0x117840008n, 0x41n])
    expect(ask(1)).toMatchObject({ vector: 0x31 })
    chip.command([0x5000000000000001n, 0n])
    expect([ask(1), ask(2)]).toMatchObject([{ vector: 0x41 }, { vector: 0x31 }])
    chip.command([0x8000000000000000n, 0n])
    expect(ask(2)).toMatchObject({ vector: 0x41 })
  })
})
