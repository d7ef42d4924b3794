/** A crash kernel takes IOMMUs over that run for the kernel that crashed (S26). */
import { encode, iova, spa } from '@nestwalk/bits'
import {
  decodeDte,
  deviceTableBaseLayout,
  encodeDte,
  registers,
  SparseMemory,
  store64,
} from '@nestwalk/hardware'
import type { Iommu } from '@nestwalk/hardware'
import { runEffects } from '@nestwalk/driver'
import type { DriverOptions } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { busy, CrashKernel, crashed, idle, newTarget, page } from './crash-kernel.js'
import { answer, Machine, readWrite, told, withoutTables } from './machine.js'

const isTaken = (kernel: CrashKernel): boolean =>
  kernel.driver.deviceTable === kernel.machine.driver.deviceTable

describe('while the IOMMU is taken over', () => {
  it('DMA of before goes on, from the first effect to the last', () => {
    const kernel = new CrashKernel(crashed())
    for (const effect of kernel.effects) {
      kernel.carryOut([effect])
      expect(kernel.dma(busy)).toBe('translated 700abc')
      expect(kernel.dma(idle)).toBe('fault')
    }
  })

  it('commands and logs stop, get their new places and start again; then everything is flushed', () => {
    const { effects } = new CrashKernel(crashed())
    const ring = (name: string, base = `${name} Log Base`): string[] => [base, `${name} Head`, `${name} Tail`]
    const lines = effects
      .filter(({ kind }) => kind !== 'store' && kind !== 'fill')
      .map((effect) => (effect.kind === 'register' ? effect.what : told(effect, spa(0n))))
    expect(lines).toEqual([
      'Control',
      ...ring('Command', 'Command Buffer Base'),
      ...ring('Event'),
      ...ring('PPR'),
      'Control',
      'InvalidateIommuAll',
      'WAIT',
    ])
  })

  it('the entries of before are used on, and none of them is written', () => {
    const machine = crashed()
    const before = [busy, idle, 0x42].map((id) => machine.entry(id))
    const kernel = CrashKernel.started(machine)
    expect(isTaken(kernel)).toBe(true)
    kernel.run(kernel.driver.probe(busy, 1))
    kernel.run(kernel.driver.probe(idle, 2))
    expect([busy, idle, 0x42].map((id) => machine.entry(id))).toEqual(before)
    expect(kernel.dma(busy)).toBe('translated 700abc')
  })
})

describe('the DomainIDs in the old entries', () => {
  /** The idle device on a new domain, where the page leads elsewhere, after the busy one has filled the IOTLB. */
  function newDomain(options: Partial<DriverOptions> = {}): CrashKernel {
    const kernel = CrashKernel.started(crashed(), options)
    const { driver } = kernel
    kernel.run(driver.probe(busy, 1))
    kernel.run(driver.probe(idle, 2))
    const domain = kernel.run(driver.allocateHostTable())
    kernel.run(driver.map(domain, iova(page), newTarget, 0x1000n, readWrite))
    expect(kernel.dma(busy)).toBe('translated 700abc')
    kernel.run(driver.attach(idle, domain))
    return kernel
  }

  it('are not handed out: each device reaches what its own table says', () => {
    const kernel = newDomain()
    expect(kernel.driver.tags.map((tag) => tag.domainId)).toEqual([2])
    expect(kernel.dma(idle)).toBe('translated 800abc')
    expect(kernel.dma(busy)).toBe('translated 700abc')
  })

  it('S26: handed out anew, the new domain is served translations of the kernel that crashed', () => {
    const kernel = newDomain({ mutants: new Set(['S26']) })
    expect(kernel.driver.tags.map((tag) => tag.domainId)).toEqual([1])
    expect(kernel.dma(idle)).toBe('translated 700abc')
  })

  it.each([
    ['valid, of the last device of the table', 0xff, 1n, [3]],
    ['not valid', 0xff, 0n, [2]],
    ['valid, of the first device', 0, 1n, [3]],
  ])('stay taken if the entry is %s', (_name, deviceId, valid, ids) => {
    const machine = crashed()
    const at = machine.driver.deviceTable + BigInt(deviceId * 32)
    store64(machine.memory, at, valid)
    store64(machine.memory, at + 8n, 2n)
    const kernel = CrashKernel.started(machine)
    expect(isTaken(kernel)).toBe(true)
    kernel.run(kernel.driver.allocateIdentity())
    expect(kernel.driver.tags.map((tag) => tag.domainId)).toEqual(ids)
  })

  it('run out sooner: ENOMEM, as Linux has it, when all others are taken', () => {
    const kernel = CrashKernel.started(crashed(), { lastDomainId: 2 })
    kernel.run(kernel.driver.allocateHostTable())
    expect(kernel.driver.allocateHostTable()).toMatchObject({
      ok: false,
      errno: 'ENOMEM',
      rule: 'no-domain-id',
    })
  })
})

describe('an entry of before', () => {
  const oldIdFlush = ['PAGES 1 all PDE', 'WAIT']
  const update = ['00:03.0 upper', '00:03.0 lower', 'DEVTAB 00:03.0', 'WAIT', 'DEVTAB 00:03.0', 'WAIT']

  function probed(machine = crashed()): CrashKernel {
    const kernel = CrashKernel.started(machine)
    kernel.run(kernel.driver.probe(busy, 1))
    kernel.run(kernel.driver.probe(idle, 2))
    return kernel
  }

  it('goes when its device is attached, and what is cached under its ID with it', () => {
    const kernel = probed()
    const { driver, machine } = kernel
    const domain = kernel.run(driver.allocateHostTable())
    kernel.dma(busy)
    expect(machine.iommu.iotlbEntries().some(({ domainId: id }) => id === 1)).toBe(true)
    expect(kernel.tell(driver.attach(busy, domain))).toEqual([...update, ...oldIdFlush])
    expect(machine.iommu.iotlbEntries()).toEqual([])
    expect(kernel.dma(busy)).toBe('fault')
  })

  it('goes when its device is blocked, though the books have it blocked already', () => {
    const kernel = probed()
    expect(kernel.tell(kernel.driver.detach(busy))).toEqual([...update, ...oldIdFlush])
    expect(kernel.dma(busy)).toBe('fault')
    expect(kernel.tell(kernel.driver.detach(busy))).toEqual([])
  })

  it('without an ID needs no flush of pages', () => {
    const kernel = probed()
    const domain = kernel.run(kernel.driver.allocateHostTable())
    const idleUpdate = update.map((line) => line.replace('00:03.0', '00:03.1'))
    expect(kernel.tell(kernel.driver.attach(idle, domain))).toEqual(idleUpdate)
  })

  it('keeps its interrupt fields', () => {
    const machine = crashed()
    const interrupts = encodeDte({
      interruptValid: true,
      interruptTableRoot: spa(0x900000n),
      interruptControl: 2,
    })
    const at = machine.driver.deviceTable + BigInt(busy * 32 + 16)
    store64(machine.memory, at, interrupts[2]!)
    const kernel = probed(machine)
    kernel.run(kernel.driver.detach(busy))
    expect(machine.entry(busy)[2]).toBe(interrupts[2])
  })

  it('under an ID that other entries have too, takes their cached translations along, which are filled again', () => {
    const machine = crashed()
    machine.run(machine.driver.attach(idle, 1))
    const kernel = probed(machine)
    kernel.dma(idle)
    const lines = kernel.tell(kernel.driver.detach(busy))
    expect(lines).toEqual([...update, ...oldIdFlush])
    expect(kernel.dma(idle)).toBe('translated 700abc')
    const domain = kernel.run(kernel.driver.allocateHostTable())
    expect(kernel.driver.tags.map((tag) => tag.domainId)).toEqual([2])
    expect(withoutTables(kernel.tell(kernel.driver.attach(idle, domain))).slice(-2)).toEqual(oldIdFlush)
  })

  it('of a device with an alias goes in both places', () => {
    const machine = Machine.create()
    machine.run(machine.driver.probe(busy, 1, 0, { aliases: [0x20] }))
    const old = machine.run(machine.driver.allocateIdentity())
    machine.run(machine.driver.attach(busy, old))
    const kernel = CrashKernel.started(machine)
    kernel.run(kernel.driver.probe(busy, 1, 0, { aliases: [0x20] }))
    expect([busy, 0x20].map((id) => kernel.dma(id))).toEqual(['translated 5abc', 'translated 5abc'])
    const lines = kernel.tell(kernel.driver.detach(busy))
    expect(lines.filter((line) => line.startsWith('PAGES'))).toEqual(['PAGES 1 all PDE'])
    expect([busy, 0x20].map((id) => kernel.dma(id))).toEqual(['fault', 'fault'])
  })

  it('V=0, which lets everything pass, goes as soon as its device is probed', () => {
    const machine = crashed()
    store64(machine.memory, machine.driver.deviceTable + 0x42n * 32n, 0n)
    const kernel = probed(machine)
    expect(kernel.dma(0x42)).toBe('forwarded')
    kernel.run(kernel.driver.probe(0x42, 3))
    expect(kernel.dma(0x42)).toBe('fault')
  })

  it('is in force until the device is given back to its default domain, which has its unity maps by then', () => {
    const machine = crashed()
    const kernel = CrashKernel.started(machine, { systemDefault: 'identity' })
    kernel.run(kernel.driver.probe(busy, 1))
    expect(kernel.dma(busy)).toBe('translated 700abc')
    kernel.run(kernel.driver.attachDefault(busy))
    expect(kernel.dma(busy)).toBe('translated 5abc')
  })
})

describe('IOMMUs that cannot be taken over are brought up anew', () => {
  const fresh = (machine: Machine, options: Partial<DriverOptions> = {}): void => {
    const kernel = CrashKernel.started(machine, options)
    expect(isTaken(kernel)).toBe(false)
    expect(kernel.dma(busy)).toBe('fault')
    kernel.run(kernel.driver.allocateHostTable())
    expect(kernel.driver.tags.map((tag) => tag.domainId)).toEqual([1])
  }

  it('they are off', () => {
    const machine = crashed()
    machine.iommu.writeMmio(registers.control.offset, 8, 0n)
    fresh(machine)
  })

  it('this is no crash kernel', () => fresh(crashed(), { takesOver: false }))

  it('their table has another size', () => fresh(crashed(), { lastDeviceId: 0x1ff }))

  it('one of two has another table, or is off', () => {
    const other = crashed({ iommus: 2 })
    const base = encode(deviceTableBaseLayout, { base: spa(0x3000000n), size: 1 })[0]!
    other.iommus[1]!.writeMmio(registers.deviceTableBase.offset, 8, base)
    fresh(other)
    const off = crashed({ iommus: 2 })
    off.iommus[1]!.writeMmio(registers.control.offset, 8, 0n)
    fresh(off)
  })

  it('the table is in segments', () => {
    const machine = crashed()
    const control = machine.iommu.readMmio(registers.control.offset, 8)
    machine.iommu.writeMmio(registers.control.offset, 8, control | (1n << 34n))
    fresh(machine)
  })

  it('the table lies where there is no memory', () => {
    const memory = SparseMemory.create(1 << 28)
    const machine = crashed({ memory })
    const base = encode(deviceTableBaseLayout, { base: spa(1n << 40n), size: 1 })[0]!
    machine.iommu.writeMmio(registers.deviceTableBase.offset, 8, base)
    fresh(machine)
  })
})

it('two IOMMUs with one table are taken over together', () => {
  const machine = crashed({ iommus: 2 })
  const kernel = CrashKernel.started(machine)
  expect(isTaken(kernel)).toBe(true)
  expect(kernel.dma(busy)).toBe('translated 700abc')
})

it('a fork of a kernel that has taken over goes on as the kernel does', () => {
  const machine = crashed()
  const kernel = CrashKernel.started(machine)
  kernel.run(kernel.driver.probe(busy, 1))
  const memory = machine.memory.fork()
  const iommus = machine.iommus.map((iommu) => iommu.forkOnto(memory))
  const fork = kernel.driver.fork({ memory, ports: iommus })
  const blocked = fork.detach(busy)
  if (!blocked.ok) throw new Error(blocked.why)
  runEffects(fork, blocked.effects, () => iommus.map((iommu) => iommu.step()).includes(true))
  const ask = (iommu: Iommu): string => answer(iommu.request({ deviceId: busy, iova: page, write: true }))
  expect([ask(iommus[0]!), ask(machine.iommu)]).toEqual(['fault', 'translated 700000'])
  expect(decodeDte(BigUint64Array.from(machine.entry(busy))).domainId).toBe(1)
})
