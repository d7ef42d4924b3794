import { spa } from '@nestwalk/bits'
import {
  decodeCommand,
  deviceId,
  encodeCommand,
  Iommu,
  load64,
  registers,
  SparseMemory,
  store64,
} from '@nestwalk/hardware'
import type { CommandFields } from '@nestwalk/hardware'
import { runEffects } from '@nestwalk/driver'
import type { Effect } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { CommandRing, ringEntries, ringLengthLog2 } from '../src/command-ring.js'
import { asText, Machine } from './machine.js'

const [ring, completion] = [spa(0x10000n), spa(0x20000n)]
const devtab = (n: number): CommandFields => ({ kind: 'InvalidateDevtabEntry', deviceId: deviceId(n) })

/** A ring on a chip that carries commands out only when it is stepped. */
class Bench {
  readonly memory = SparseMemory.create(1 << 20)
  readonly iommu = Iommu.create({ memory: this.memory })
  readonly ring = CommandRing.create({ ring, completion })

  constructor() {
    this.write(registers.commandBufferBase.offset, ring | (BigInt(ringLengthLog2) << 56n))
    this.write(registers.control.offset, 1n | (1n << 12n))
  }

  write(offset: number, value: bigint): void {
    this.iommu.writeMmio(offset, 8, value)
  }

  push(command: CommandFields): boolean {
    return this.ring.push(this.iommu, this.memory, command)
  }

  wait(): boolean {
    return this.ring.wait(this.iommu, this.memory)
  }

  pointers(): readonly [head: bigint, tail: bigint] {
    const { commandHead, commandTail } = registers
    return [this.iommu.readMmio(commandHead.offset, 8), this.iommu.readMmio(commandTail.offset, 8)]
  }

  /** Commands that stand in the ring, not yet taken by hardware. */
  get queued(): number {
    const [head, tail] = this.pointers()
    return (Number(tail - head) / 16 + ringEntries) % ringEntries
  }

  get completed(): bigint {
    return load64(this.memory, completion)!
  }

  commandAt(slot: number): CommandFields {
    const at = ring + BigInt(slot * 16)
    const words = [load64(this.memory, at)!, load64(this.memory, at + 8n)!]
    return decodeCommand(BigUint64Array.from(words)) as CommandFields
  }

  drain(): void {
    while (this.iommu.step());
  }
}

describe('the command ring', () => {
  it('has 512 entries of 16 bytes, and the tail moves with each command', () => {
    const bench = new Bench()
    expect([ringEntries, 1 << ringLengthLog2]).toEqual([512, 512])
    bench.push(devtab(7))
    expect(bench.pointers()).toEqual([0n, 16n])
    expect(bench.commandAt(0)).toMatchObject(devtab(7))
  })

  it('keeps two slots free: the next command waits until hardware has taken one', () => {
    const bench = new Bench()
    let pushed = 0
    while (bench.push(devtab(pushed & 0xff))) pushed += 1
    expect([pushed, bench.queued]).toEqual([510, 510])
    const before = bench.pointers()
    expect(bench.push(devtab(1))).toBe(false)
    expect(bench.pointers()).toEqual(before)
    bench.iommu.step()
    expect(bench.push(devtab(1))).toBe(true)
    expect(bench.push(devtab(1))).toBe(false)
  })

  it('wraps: commands come out in order, however far hardware lags', () => {
    const bench = new Bench()
    for (let n = 0; n < 2000; n++) {
      while (!bench.push(devtab(n))) bench.iommu.step()
      expect(bench.commandAt(n % ringEntries)).toMatchObject(devtab(n))
      if (n % 3 === 0) bench.iommu.step()
    }
    bench.drain()
    const [head, tail] = bench.pointers()
    expect([head, tail]).toEqual([BigInt((2000 % 512) * 16), head])
  })
})

describe('a completion wait', () => {
  it('stores a running number, and is over when that is there', () => {
    const bench = new Bench()
    for (let sequence = 1n; sequence <= 3n; sequence++) {
      expect(bench.wait()).toBe(false)
      expect(bench.completed).toBe(sequence - 1n)
      const [, tail] = bench.pointers()
      const queued = { kind: 'CompletionWait', store: true, storeAddress: completion, storeData: sequence }
      expect(bench.commandAt(Number(tail) / 16 - 1)).toMatchObject(queued)
      bench.drain()
      expect(bench.wait()).toBe(true)
      expect(bench.completed).toBe(sequence)
    }
  })

  it('queues one command, however often it is asked', () => {
    const bench = new Bench()
    for (let i = 0; i < 5; i++) expect(bench.wait()).toBe(false)
    expect(bench.queued).toBe(1)
  })

  it('is over only after all earlier commands', () => {
    const bench = new Bench()
    for (let n = 0; n < 4; n++) bench.push(devtab(n))
    for (let n = 0; n < 5; n++) {
      expect(bench.wait()).toBe(false)
      bench.iommu.step()
    }
    expect(bench.wait()).toBe(true)
  })

  it('waits for a slot first if the ring is full', () => {
    const bench = new Bench()
    while (bench.push(devtab(1)));
    expect(bench.wait()).toBe(false)
    expect(bench.queued).toBe(510)
    bench.iommu.step()
    expect(bench.wait()).toBe(false)
    expect(bench.queued).toBe(510)
    bench.drain()
    expect(bench.wait()).toBe(true)
    expect(bench.completed).toBe(1n)
  })

  it('that was given up does not end a later one: its store comes first and is behind', () => {
    const bench = new Bench()
    bench.wait()
    bench.ring.giveUp()
    expect(bench.wait()).toBe(false)
    expect(bench.queued).toBe(2)
    bench.iommu.step()
    expect(bench.completed).toBe(1n)
    expect(bench.wait()).toBe(false)
    bench.iommu.step()
    expect(bench.wait()).toBe(true)
  })

  it('is over when the stored number is not behind its own', () => {
    const bench = new Bench()
    store64(bench.memory, completion, 5n)
    expect(bench.wait()).toBe(true)
  })

  it('is forked in the middle: both rings carry on', () => {
    const bench = new Bench()
    bench.wait()
    const memory = bench.memory.fork()
    const iommu = bench.iommu.forkOnto(memory)
    const copy = bench.ring.fork()
    expect(copy.snapshot()).toEqual(bench.ring.snapshot())
    iommu.step()
    expect(copy.wait(iommu, memory)).toBe(true)
    expect(bench.wait()).toBe(false)
    bench.drain()
    expect(bench.wait()).toBe(true)
    expect(copy.snapshot()).toEqual(bench.ring.snapshot())
  })
})

describe('a chip that has halted', () => {
  /** A machine whose command queue stopped on a command that is not legal. */
  function halted(): Machine {
    const machine = Machine.create()
    machine.run(machine.driver.probe(0x18, 1))
    machine.run(machine.driver.allocateIdentity())
    const [, hi] = encodeCommand(devtab(1))
    const base = machine.iommu.readMmio(registers.commandBufferBase.offset, 8) & 0xf_ffff_ffff_f000n
    const tail = machine.iommu.readMmio(registers.commandTail.offset, 8)
    store64(machine.memory, base + tail, 0n)
    store64(machine.memory, base + tail + 8n, hi!)
    machine.iommu.writeMmio(registers.commandTail.offset, 8, tail + 16n)
    expect(machine.iommu.step()).toBe(true)
    expect(machine.iommu.step()).toBe(false)
    return machine
  }

  it('is given up on, wait by wait, and the operation comes to its end', () => {
    const machine = halted()
    const attach = machine.driver.attach(0x18, 1)
    if (!attach.ok) throw new Error(attach.why)
    const waits = attach.effects.filter((effect) => effect.kind === 'wait').length
    expect(waits).toBe(2)
    expect(runEffects(machine.driver, attach.effects, machine.advance)).toBe(waits)
    expect(machine.entry(0x18)[0]).toBe(0x6000_0000_0000_0003n)
  })

  it('takes no commands once its ring is full, and those are given up on too', () => {
    const machine = halted()
    const command: Effect = { kind: 'command', iommu: 0, command: devtab(1), why: 'test' }
    // One slot has the illegal command, which the driver does not know of: it puts its next one there.
    const given = runEffects(machine.driver, Array<Effect>(512).fill(command), machine.advance)
    expect(given).toBe(2)
  })
})

it('a wait for hardware that does not move is queued once, and anew only after it was given up', () => {
  const machine = Machine.create()
  const { driver } = machine
  const probed = driver.probe(0x18, 1)
  if (!probed.ok) throw new Error(probed.why)
  const wait = probed.effects.find(({ kind }) => kind === 'wait')!
  const command = probed.effects.find(({ kind }) => kind === 'command')!
  const tail = (): bigint => machine.iommu.readMmio(registers.commandTail.offset, 8)
  const first = tail()
  const queued = (): bigint => (tail() - first) / 16n
  expect([driver.apply(wait), driver.apply(wait), queued()]).toEqual([false, false, 1n])
  driver.giveUp(command)
  expect([driver.apply(wait), queued()]).toEqual([false, 1n])
  const before = asText(driver.snapshot())
  driver.giveUp(wait)
  expect(asText(driver.snapshot())).not.toBe(before)
  expect([driver.apply(wait), queued()]).toEqual([false, 2n])
  while (machine.advance());
  expect([driver.apply(wait), queued()]).toEqual([true, 2n])
})
