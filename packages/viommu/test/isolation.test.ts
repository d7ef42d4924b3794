/** What a guest sees, and what it cannot: features, the host's DomainIDs, other VMs, other forks. */
import { decodeEfr, nestingFeatures } from '@nestwalk/hardware'
import { describe, expect, it } from 'vitest'
import { guestFeatures } from '../src/index.js'
import { blocked, command, nestedEntry, passing, place, register, v1, v2, Vm } from './vm.js'

describe('the feature registers', () => {
  it('show guest tables and what they need of the host, no host tables, and nothing else', () => {
    const vm = Vm.create()
    const host = decodeEfr(nestingFeatures.efr)
    const shown = Object.entries(decodeEfr(vm.read(register.efr))).filter(([, value]) => Number(value) !== 0)
    expect(Object.fromEntries(shown)).toEqual({
      gtSup: true,
      gIoSup: true,
      nxSup: true,
      usSup: true,
      gats: host.gats,
      glxSup: host.glxSup,
      pasMax: host.pasMax,
      hats: 3,
      iaSup: true,
    })
    expect(vm.read(register.efr2)).toBe(0n)
    expect(guestFeatures(nestingFeatures)).toEqual({ efr: vm.read(register.efr), efr2: 0n })
  })

  it('promise nothing that the host lacks', () => {
    const { efr, efr2 } = guestFeatures({ efr: 0n, efr2: 0n })
    expect(Object.entries(decodeEfr(efr)).filter(([, value]) => Number(value) !== 0)).toEqual([
      ['iaSup', true],
      ['hats', 3],
    ])
    expect(efr2).toBe(0n)
  })

  it('cannot be written', () => {
    const vm = Vm.create()
    const before = vm.read(register.efr)
    vm.write(register.efr, ~0n & ((1n << 64n) - 1n))
    vm.write(register.efr2, 8n)
    expect([vm.read(register.efr), vm.read(register.efr2)]).toEqual([before, 0n])
  })
})

describe('the host’s DomainIDs', () => {
  /** A guest's life: it uses many IDs, invalidates them, makes a mistake. */
  function live(vm: Vm): Vm {
    for (const id of [7, 8, 9, 1, 2, 0xffff]) {
      vm.setEntry(v1, nestedEntry(id, place.gcr3[id & 1]))
      vm.setEntry(v2, id === 9 ? blocked : id === 1 ? passing : nestedEntry(7))
      vm.enqueue(command.devtab(v1), command.devtab(v2), command.pages(id), command.wait(BigInt(id)))
      vm.settle()
    }
    vm.enqueue(command.all, [0n, 0n])
    vm.settle()
    return vm
  }

  it('cannot be seen: the guest’s registers and memory are the same under any', () => {
    const [one, other] = [0, 11].map((tablesBefore) =>
      live(Vm.boot([[v1, nestedEntry(5)]], { tablesBefore })),
    )
    expect(one!.hostDomainId(v1)).not.toBe(other!.hostDomainId(v1))
    expect(one!.seen()).toBe(other!.seen())
  })

  it('cannot be named: an invalidation of the number that another table has sends nothing', () => {
    const vm = Vm.boot([[v1, nestedEntry(500)]], { tablesBefore: 5 })
    vm.enqueue(...Array.from({ length: 32 }, (_, id) => command.pages(id)))
    expect(vm.settle().flatMap(({ effects }) => effects)).toEqual([])
  })

  it('are given back: a guest that walks through all of its own uses few', () => {
    const vm = Vm.boot([])
    const before = vm.driver.tags.length
    const used = new Set<number>()
    for (let id = 0; id < 300; id++) {
      vm.setEntry(v1, nestedEntry(id * 200))
      vm.enqueue(command.devtab(v1))
      vm.settle()
      used.add(vm.hostDomainId(v1))
    }
    expect(used.size).toBeLessThanOrEqual(2)
    expect(vm.driver.tags).toHaveLength(before + 1)
  })

  it('are one for each guest DomainID, and two devices with the same one share it', () => {
    const vm = Vm.boot([
      [v1, nestedEntry(7)],
      [v2, nestedEntry(7, place.gcr3[1])],
    ])
    expect(vm.hostDomainId(v1)).toBe(vm.hostDomainId(v2))
    vm.setEntry(v2, nestedEntry(8, place.gcr3[1]))
    vm.enqueue(command.devtab(v2))
    vm.settle()
    expect(vm.hostDomainId(v1)).not.toBe(vm.hostDomainId(v2))
  })
})

describe('two devices of one group', () => {
  it('each have their own tables if each member moves alone (S01)', () => {
    const vm = Vm.boot([
      [v1, nestedEntry(7)],
      [v2, nestedEntry(8, place.gcr3[1])],
    ])
    expect([vm.request(v1), vm.request(v2)]).toEqual(['105000', '205000'])
  })

  it('by the kernel’s rule move together: the second one’s tables win (U16)', () => {
    const entries = [
      [v1, nestedEntry(7)],
      [v2, nestedEntry(8, place.gcr3[1])],
    ] as const
    const vm = Vm.create({ groupRule: 'whole-group' })
    for (const [virtualId, entry] of entries) vm.setEntry(virtualId, entry)
    vm.settle()
    vm.turnOn()
    vm.settle()
    expect([vm.leads(v1), vm.leads(v2)]).toEqual(['205000', '205000'])
  })

  it('by the kernel’s rule: a second one that comes from blocked is refused, and stays where the group is', () => {
    const vm = Vm.boot(
      [
        [v1, nestedEntry(7)],
        [v2, blocked],
      ],
      { groupRule: 'whole-group' },
    )
    vm.setEntry(v2, nestedEntry(8, place.gcr3[1]))
    vm.enqueue(command.devtab(v2))
    expect(vm.settle().map(({ errno }) => errno)).toContain('EINVAL')
    expect([vm.leads(v1), vm.attachedTo(v2), vm.nestedCount()]).toEqual(['105000', undefined, 1])
  })

  it('leave no nested HWPT behind when one goes while the other is still on it', () => {
    const vm = Vm.boot([], { groupRule: 'whole-group' })
    for (let round = 0; round < 5; round++) {
      for (const [virtualId, entry] of [
        [v1, nestedEntry(7 + round)],
        [v1, blocked],
        [v2, nestedEntry(9, place.gcr3[1])],
        [v2, passing],
        [v1, passing],
      ] as const) {
        vm.setEntry(virtualId, entry)
        vm.enqueue(command.devtab(virtualId))
        vm.settle()
        expect(vm.nestedCount()).toBeLessThanOrEqual(2)
      }
      expect(vm.nestedCount()).toBe(0)
    }
  })
})

describe('a fork', () => {
  it('at any step of any command ends as its original, and neither sees the other', () => {
    const vm = Vm.boot([[v1, nestedEntry(7)]])
    vm.setEntry(v1, nestedEntry(8, place.gcr3[1]))
    vm.setEntry(v2, nestedEntry(9))
    vm.enqueue(command.devtab(v1), command.devtab(v2), command.all, command.pages(8), command.wait(5n, 3n))
    const twins: Vm[] = []
    do twins.push(vm.fork())
    while (vm.step() !== undefined)
    const end = vm.state()
    expect(vm.viommu.takeInterrupt()).toBeUndefined()
    for (const twin of twins) {
      twin.settle()
      expect(twin.state()).toBe(end)
    }
    expect(twins.length).toBeGreaterThan(10)
    twins[0]!.write(register.control, 0n)
    twins[0]!.settle()
    expect([twins[0]!.leads(v1), vm.leads(v1)]).toEqual(['5000', '205000'])
    expect(vm.state()).toBe(end)
  })

  it('has interrupts of its own', () => {
    const vm = Vm.create()
    vm.turnOn(0x1101dn)
    vm.enqueue(command.wait(0n, 2n))
    const twin = vm.fork()
    twin.settle()
    expect(vm.viommu.takeInterrupt()).toBeUndefined()
    expect(vm.viommu.isIdle).toBe(false)
    expect(twin.viommu.takeInterrupt()).toBeDefined()
    expect(twin.viommu.isIdle).toBe(true)
    expect(vm.viommu.isIdle).toBe(false)
  })
})
