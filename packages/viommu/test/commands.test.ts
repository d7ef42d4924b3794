/** The guest's command ring, registers and log: what happens when, and what stops it. */
import { describe, expect, it } from 'vitest'
import {
  blocked,
  command,
  controlBit,
  nestedEntry,
  on,
  passing,
  place,
  register,
  statusBit,
  targets,
  v1,
  v2,
  Vm,
} from './vm.js'

const first = nestedEntry(7)
const second = nestedEntry(8, place.gcr3[1])
const whats = (steps: readonly { readonly what: string }[]): string[] => steps.map(({ what }) => what)

describe('INVALIDATE_DEVTAB_ENTRY', () => {
  it('takes effect when it is stepped, and not by the stores before it', () => {
    const vm = Vm.boot([[v1, first]])
    vm.setEntry(v1, second)
    expect(vm.settle()).toEqual([])
    expect(vm.leads(v1)).toBe('105000')
    vm.enqueue(command.devtab(v1))
    expect(vm.viommu.isIdle).toBe(false)
    expect(vm.leads(v1)).toBe('105000')
    vm.settle()
    expect(vm.leads(v1)).toBe('205000')
  })

  it('reads the entry of its device alone', () => {
    const vm = Vm.boot([
      [v1, first],
      [v2, first],
    ])
    vm.setEntry(v1, second)
    vm.setEntry(v2, second)
    vm.enqueue(command.devtab(v2))
    vm.settle()
    expect([vm.leads(v1), vm.leads(v2)]).toEqual(['105000', '205000'])
  })

  it('allocates and attaches the new nested HWPT before it destroys the old one', () => {
    const vm = Vm.boot([[v1, first]])
    const old = vm.attachedTo(v1)
    vm.setEntry(v1, second)
    vm.enqueue(command.devtab(v1))
    const seen: unknown[] = []
    for (let step = vm.step(); step !== undefined; step = vm.step()) {
      seen.push([step.what, vm.nestedCount(), vm.attachedTo(v1) === old, vm.leads(v1)])
    }
    expect(seen).toEqual([
      ['guest INVALIDATE_DEVTAB_ENTRY', 1, true, '105000'],
      ['allocate a nested HWPT', 2, true, '105000'],
      ['attach to the nested HWPT', 2, false, '205000'],
      [`destroy HWPT ${old!}`, 1, false, '205000'],
      ['guest command done', 1, false, '205000'],
    ])
  })

  it('leaves the device where it is if the entry is as before', () => {
    const vm = Vm.boot([[v1, first]])
    const at = vm.attachedTo(v1)
    vm.enqueue(command.devtab(v1))
    const steps = vm.settle()
    expect(steps.flatMap(({ effects }) => effects)).toEqual([])
    expect(vm.attachedTo(v1)).toBe(at)
  })

  it('for a device that the guest does not have does nothing', () => {
    const vm = Vm.boot([[v1, first]])
    vm.enqueue(command.devtab(0x77), command.wait(3n))
    vm.settle()
    expect(vm.load(place.completion)).toBe(3n)
  })

  it('tells the errno when the kernel refuses the entry, and the device is blocked', () => {
    const vm = Vm.boot([[v1, first]])
    vm.setEntry(v1, [first[0]! | (3n << 56n), 7n, 0n, 0n])
    vm.enqueue(command.devtab(v1))
    const steps = vm.settle()
    expect(steps.map(({ errno }) => errno).filter((errno) => errno !== undefined)).toEqual(['EINVAL'])
    expect([vm.leads(v1), vm.nestedCount()]).toEqual(['fault', 0])
  })
})

describe('INVALIDATE_IOMMU_PAGES', () => {
  it('goes out under the host’s DomainID, with the guest’s range, and is waited for', () => {
    const vm = Vm.boot([[v1, first]], { tablesBefore: 3 })
    vm.enqueue(command.pages(7, 0x5006n))
    const effects = vm.settle().flatMap((step) => step.effects)
    const hostId = vm.hostDomainId(v1)
    expect(hostId).not.toBe(7)
    expect(effects).toMatchObject([
      {
        kind: 'command',
        command: {
          kind: 'InvalidateIommuPages',
          domainId: hostId,
          address: 0x5000n,
          size: false,
          directories: true,
          guestNested: true,
          pasid: 0,
        },
      },
      { kind: 'wait' },
    ])
  })

  it('makes a changed guest table seen', () => {
    const vm = Vm.boot([[v1, first]])
    expect(vm.request(v1)).toBe('105000')
    vm.store(place.gcr3[0] + 0x4000n + 40n, targets[1] | 7n)
    expect(vm.request(v1)).toBe('105000')
    vm.enqueue(command.pages(7, 0x5004n), command.wait(1n))
    vm.settle()
    expect(vm.request(v1)).toBe('205000')
  })

  it('by one ID for two devices reaches both', () => {
    const vm = Vm.boot([
      [v1, first],
      [v2, first],
    ])
    for (const device of [v1, v2]) expect(vm.request(device)).toBe('105000')
    vm.store(place.gcr3[0] + 0x4000n + 40n, targets[1] | 7n)
    vm.enqueue(command.pages(7))
    vm.settle()
    for (const device of [v1, v2]) expect(vm.request(device)).toBe('205000')
  })

  it('for an ID that no entry has, or that a blocked device had, sends nothing', () => {
    const vm = Vm.boot([[v1, first]])
    vm.setEntry(v1, blocked)
    vm.enqueue(command.devtab(v1))
    vm.settle()
    vm.enqueue(command.pages(7), command.pages(0xffff))
    expect(vm.settle().flatMap(({ effects }) => effects)).toEqual([])
  })
})

describe('COMPLETION_WAIT', () => {
  it('stores only after everything before it is done on the chip', () => {
    const vm = Vm.boot([[v1, first]])
    vm.setEntry(v1, second)
    vm.enqueue(command.devtab(v1), command.pages(8), command.wait(0x1234_5678_9abc_def0n))
    for (let step = vm.step(); step !== undefined; step = vm.step()) {
      const isLast = step.what === 'guest COMPLETION_WAIT'
      expect(vm.load(place.completion)).toBe(isLast ? 0x1234_5678_9abc_def0n : 0n)
      if (isLast) expect([vm.leads(v1), vm.nestedCount()]).toEqual(['205000', 1])
    }
    expect(vm.read(register.commandHead)).toBe(vm.read(register.commandTail))
  })

  it('moves the head of a command only when its last call is done', () => {
    const vm = Vm.boot([[v1, first]])
    vm.setEntry(v1, second)
    vm.enqueue(command.devtab(v1))
    const heads: bigint[] = []
    for (let step = vm.step(); step !== undefined; step = vm.step()) heads.push(vm.read(register.commandHead))
    expect(heads.slice(0, -1).every((head) => head === 0n)).toBe(true)
    expect(heads.at(-1)).toBe(16n)
  })

  it('with i=1 sets ComWaitInt, and interrupts if ComWaitIntEn', () => {
    for (const enabled of [false, true]) {
      const vm = Vm.create()
      vm.turnOn(enabled ? on | controlBit.comWaitIntEn : on)
      vm.enqueue(command.wait(0n, 2n))
      vm.settle()
      expect(vm.read(register.status) & statusBit.comWaitInt).toBe(statusBit.comWaitInt)
      expect(vm.viommu.takeInterrupt()?.cause).toBe(enabled ? 'general' : undefined)
      expect(vm.viommu.takeInterrupt()).toBeUndefined()
      vm.write(register.status, statusBit.comWaitInt)
      expect(vm.read(register.status) & statusBit.comWaitInt).toBe(0n)
    }
  })

  it('with s=0 stores nothing', () => {
    const vm = Vm.boot([])
    vm.enqueue(command.wait(5n, 0n))
    vm.settle()
    expect(vm.load(place.completion)).toBe(0n)
    expect(vm.read(register.commandHead)).toBe(16n)
  })
})

it('makes a new entry live before it forwards the invalidation behind it (S06)', () => {
  const vm = Vm.boot([[v1, first]])
  const hostId = vm.hostDomainId(v1)
  vm.request(v1)
  vm.setEntry(v1, nestedEntry(7, place.gcr3[1]))
  vm.enqueue(command.devtab(v1), command.pages(7), command.wait(1n))
  const effects = vm
    .settle()
    .flatMap((step) => step.effects)
    .map((effect) => (effect.kind === 'command' ? effect.command.kind : effect.kind))
  const [lastStore, lastEntry] = [effects.lastIndexOf('store'), effects.lastIndexOf('InvalidateDevtabEntry')]
  const pages = effects.lastIndexOf('InvalidateIommuPages')
  expect(lastStore).toBeLessThan(lastEntry)
  expect(effects.slice(lastEntry, pages)).toContain('wait')
  expect(effects.at(-1)).toBe('wait')
  expect([vm.hostDomainId(v1), vm.request(v1)]).toEqual([hostId, '205000'])
})

describe('INVALIDATE_IOMMU_ALL', () => {
  it('reads every entry anew and leaves no translation of any guest ID', () => {
    const vm = Vm.boot([
      [v1, first],
      [v2, first],
    ])
    for (const device of [v1, v2]) vm.request(device)
    vm.setEntry(v1, second)
    vm.store(place.gcr3[0] + 0x4000n + 40n, 0x300007n)
    vm.enqueue(command.all, command.wait(1n))
    vm.settle()
    expect([vm.request(v1), vm.request(v2)]).toEqual(['205000', '300000'])
    expect(vm.load(place.completion)).toBe(1n)
  })

  it('invalidates the IDs that stand in the entries now, those of before having gone with them', () => {
    const vm = Vm.boot([[v1, first]])
    vm.setEntry(v1, second)
    vm.enqueue(command.all)
    const steps = vm.settle()
    const forwarded = steps.filter(({ what }) => what === 'forward the invalidation')
    expect(forwarded.flatMap(({ effects }) => effects)).toMatchObject([
      { command: { domainId: vm.hostDomainId(v1) } },
      { kind: 'wait' },
    ])
  })
})

describe('a command that is not legal', () => {
  const wait = 1n << 60n
  const pages = 3n << 60n
  const illegal: readonly (readonly [string, bigint, bigint])[] = [
    ...[0n, 4n, 6n, 7n, 9n, 10n, 11n, 12n, 13n, 14n, 15n].map((opcode): [string, bigint, bigint] => [
      `opcode ${opcode}`,
      opcode << 60n,
      0n,
    ]),
    ['COMPLETION_WAIT with bit 52', wait | (1n << 52n), 0n],
    ['COMPLETION_WAIT with bit 59', wait | (1n << 59n), 0n],
    ['INVALIDATE_DEVTAB_ENTRY with bit 16', (2n << 60n) | (1n << 16n), 0n],
    ['INVALIDATE_DEVTAB_ENTRY with bit 64', 2n << 60n, 1n],
    ['INVALIDATE_IOMMU_PAGES with bit 20', pages | (1n << 20n), 0n],
    ['INVALIDATE_IOMMU_PAGES with bit 48', pages | (1n << 48n), 0n],
    ['INVALIDATE_IOMMU_PAGES with bit 67', pages, 8n],
    ['INVALIDATE_IOMMU_PAGES with a PASID but no GN', pages | 5n, 0n],
    ['INVALIDATE_INTERRUPT_TABLE with bit 59', (5n << 60n) | (1n << 59n), 0n],
    ['INVALIDATE_IOMMU_ALL with bit 0', (8n << 60n) | 1n, 0n],
    ['INVALIDATE_IOMMU_ALL with bit 127', 8n << 60n, 1n << 63n],
  ]
  it.each(illegal)(
    '%s: halts with the head on it and ILLEGAL_COMMAND_ERROR in the guest’s log',
    (_what, lo, hi) => {
      const vm = Vm.boot([[v1, first]])
      vm.enqueue(command.devtab(v1), [lo, hi], command.wait(1n))
      vm.settle()
      expect(vm.read(register.commandHead)).toBe(16n)
      expect(vm.read(register.status) & statusBit.cmdBufRun).toBe(0n)
      expect(vm.takeEvents()).toEqual([[5n << 60n, place.commandRing + 16n]])
      expect(vm.load(place.completion)).toBe(0n)
      expect(vm.leads(v1)).toBe('105000')
    },
  )

  it('can be overwritten, and the queue started again by CmdBufEn', () => {
    const vm = Vm.boot([])
    vm.enqueue([0n, 0n], command.wait(2n))
    vm.settle()
    vm.write(register.commandTail, 48n)
    expect(vm.settle()).toEqual([])
    vm.store(place.commandRing, ...command.interrupts(v1))
    vm.write(register.control, on & ~controlBit.cmdBufEn)
    vm.write(register.commandTail, 32n)
    vm.write(register.control, on)
    vm.settle()
    expect(vm.load(place.completion)).toBe(2n)
    expect(vm.takeEvents()).toHaveLength(1)
  })

  it('is reported with an interrupt if EventIntEn, and not at all without an event log', () => {
    const vm = Vm.create()
    vm.turnOn(on | controlBit.eventIntEn)
    vm.enqueue([0n, 0n])
    vm.settle()
    expect(vm.viommu.takeInterrupt()).toBeDefined()
    expect(vm.read(register.status) & statusBit.eventLogInt).toBe(statusBit.eventLogInt)
    const silent = Vm.create()
    silent.turnOn(on & ~controlBit.eventLogEn)
    silent.enqueue([0n, 0n])
    silent.settle()
    expect([silent.viommu.takeInterrupt(), silent.read(register.eventTail)]).toEqual([undefined, 0n])
  })

  it.each([command.interrupts(v1), command.wait(0n, 0n), command.wait(0n, 4n)])('unlike %s', (...words) => {
    const vm = Vm.boot([])
    vm.enqueue(words)
    vm.settle()
    expect(vm.read(register.commandHead)).toBe(16n)
    expect(vm.takeEvents()).toEqual([])
  })
})

describe('outside the guest’s memory', () => {
  const hardwareError = (6n << 60n) | (1n << 57n)

  it.each([0x100_0000n, 1n << 40n, 0xf_ffff_ffff_f000n])(
    'a ring at %s halts with COMMAND_HARDWARE_ERROR',
    (base) => {
      const vm = Vm.boot([])
      vm.write(register.control, on & ~controlBit.cmdBufEn)
      vm.write(register.commandBase, base | (8n << 56n))
      vm.write(register.commandTail, 32n)
      vm.write(register.control, on)
      vm.settle()
      expect(vm.takeEvents()).toEqual([[hardwareError, base]])
      expect(vm.read(register.status) & statusBit.cmdBufRun).toBe(0n)
      expect(vm.read(register.commandHead)).toBe(0n)
    },
  )

  it('a store of COMPLETION_WAIT halts with the address of the store', () => {
    const vm = Vm.boot([])
    vm.enqueue([(1n << 60n) | 0x100_0000n | 1n, 5n], command.wait(1n))
    vm.settle()
    expect(vm.takeEvents()).toEqual([[hardwareError, 0x100_0000n]])
    expect(vm.read(register.commandHead)).toBe(0n)
    expect(vm.load(place.completion)).toBe(0n)
  })

  it('an event log loses its events, and nothing else happens', () => {
    const vm = Vm.boot([])
    vm.write(register.control, on & ~controlBit.eventLogEn)
    for (const base of [0x100_0000n, 0xf_ffff_ffff_f000n]) {
      vm.write(register.eventBase, base | (15n << 56n))
      vm.write(register.eventTail, 0x7_fff0n - 16n)
      vm.write(register.control, on & ~controlBit.cmdBufEn)
      vm.write(register.control, on)
      vm.enqueue([0n, 0n])
      vm.settle()
      vm.write(register.control, on & ~(controlBit.cmdBufEn | controlBit.eventLogEn))
    }
  })
})

describe('the ring', () => {
  it('wraps', () => {
    const vm = Vm.boot([[v1, first]])
    for (let round = 0; round < 5; round++) {
      vm.enqueue(...Array.from({ length: 100 }, (_, i) => command.wait(BigInt(round * 100 + i))))
      vm.settle()
      expect(vm.load(place.completion)).toBe(BigInt(round * 100 + 99))
    }
    expect(vm.read(register.commandHead)).toBe((500n * 16n) % 4096n)
  })

  it('does not run with a reserved length, nor before IommuEn and CmdBufEn', () => {
    for (const [length, control] of [
      [7n, on],
      [8n, on & ~controlBit.iommuEn],
      [8n, on & ~controlBit.cmdBufEn],
    ] as const) {
      const vm = Vm.create()
      vm.write(register.commandBase, place.commandRing | (length << 56n))
      vm.write(register.control, control)
      vm.enqueue(command.wait(1n))
      vm.settle()
      expect(vm.load(place.completion)).toBe(0n)
      expect(vm.read(register.status) & statusBit.cmdBufRun).toBe(0n)
    }
  })

  it('pointed elsewhere while a command is in work, begins at its new head', () => {
    const vm = Vm.boot([[v1, first]])
    vm.setEntry(v1, second)
    vm.enqueue(command.devtab(v1))
    vm.step()
    vm.write(register.control, on & ~controlBit.cmdBufEn)
    vm.write(register.commandBase, 0x60000n | (8n << 56n))
    vm.store(0x60000n, ...command.wait(1n), ...command.wait(2n))
    vm.write(register.control, on)
    vm.settle()
    expect(vm.read(register.commandHead)).toBe(0n)
    vm.write(register.commandTail, 16n)
    vm.settle()
    expect([vm.load(place.completion), vm.read(register.commandHead)]).toEqual([1n, 16n])
  })

  it('stopped and started while a command is in work, goes on behind it', () => {
    const vm = Vm.boot([[v1, first]])
    vm.setEntry(v1, second)
    vm.enqueue(command.devtab(v1), command.wait(1n))
    vm.step()
    vm.write(register.control, on & ~controlBit.cmdBufEn)
    vm.write(register.control, on)
    expect(whats(vm.settle()).filter((what) => what.startsWith('guest INVALIDATE'))).toEqual([])
    expect([vm.leads(v1), vm.load(place.completion)]).toEqual(['205000', 1n])
  })
})

describe('IommuEn', () => {
  it('off, an address is a guest-physical one, whatever the entries say', () => {
    const vm = Vm.create()
    vm.setEntry(v1, blocked)
    vm.setEntry(v2, first)
    vm.settle()
    expect([vm.leads(v1), vm.leads(v2)]).toEqual(['5000', '5000'])
    expect([vm.attachedTo(v1), vm.attachedTo(v2)]).toEqual(['parent', 'parent'])
  })

  it('on, the entries count; off again, they do not, and no nested HWPT is left', () => {
    const vm = Vm.boot([
      [v1, blocked],
      [v2, first],
    ])
    for (let round = 0; round < 3; round++) {
      expect([vm.leads(v1), vm.leads(v2), vm.nestedCount()]).toEqual(['fault', '105000', 1])
      vm.write(register.control, 0n)
      vm.settle()
      expect([vm.leads(v1), vm.leads(v2), vm.nestedCount()]).toEqual(['5000', '5000', 0])
      vm.write(register.control, on)
      vm.settle()
    }
  })

  it('takes effect when the VMM steps', () => {
    const vm = Vm.boot([[v1, first]])
    vm.write(register.control, 0n)
    expect(vm.leads(v1)).toBe('105000')
    expect(vm.viommu.isIdle).toBe(false)
    vm.settle()
    expect(vm.leads(v1)).toBe('5000')
  })

  it('flipped a thousand times gives the VMM no more to do than once', () => {
    const vm = Vm.boot([[v1, first]])
    for (let i = 0; i < 1000; i++) {
      vm.write(register.control, 0n)
      vm.write(register.control, on)
    }
    expect(vm.settle().length).toBeLessThan(10)
    expect(vm.leads(v1)).toBe('105000')
  })

  it('leaves a device that never had guest tables in peace', () => {
    const vm = Vm.boot([[v1, passing]])
    vm.write(register.control, 0n)
    expect(vm.settle().flatMap(({ effects }) => effects)).toEqual([])
  })
})
