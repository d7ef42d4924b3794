import { describe, expect, it } from 'vitest'
import { Iommu, nestingFeatures, SparseMemory } from '../src/index.js'
import { Chip, controlBit, place, quietControl, register, statusBit } from './chip.js'

const all = (1n << 64n) - 1n
const illegalCommand = [0n, 0n] as const

describe('the registers', () => {
  it('of a new chip are zero but for the features, Coherent, and the lengths of the rings, which are 8', () => {
    const iommu = Iommu.create({ memory: SparseMemory.create(1 << 20) })
    const values = Object.values(register).map((offset) => [offset, iommu.readMmio(offset, 8)])
    expect(values.filter(([, value]) => value !== 0n)).toEqual([
      [register.commandBase, 8n << 56n],
      [register.eventBase, 8n << 56n],
      [register.control, 1n << 10n],
      [register.efr, nestingFeatures.efr],
      [register.efr2, nestingFeatures.efr2],
    ])
  })

  it.each([
    ['deviceTableBase', 0xffffffffff1ffn],
    ['commandBase', 0xf0ffffffffff000n],
    ['eventBase', 0xf0ffffffffff000n],
    ['segment1Base', 0xffffffffff1ffn],
    ['commandHead', 0x7fff0n],
    ['commandTail', 0x7fff0n],
    ['eventHead', 0x7fff0n],
    ['eventTail', 0x7fff0n],
    ['efr', nestingFeatures.efr],
    ['efr2', nestingFeatures.efr2],
    ['status', 0n],
  ] as const)(
    'read their reserved and read-only bits as ever after a write of ones: %s',
    (name, expected) => {
      const chip = Chip.create({ control: 0n })
      chip.write(register[name], all)
      expect(chip.read(register[name])).toBe(expected)
    },
  )

  it('may be written and read by halves', () => {
    const { iommu } = Chip.create({ control: 0n })
    iommu.writeMmio(register.commandBase, 4, 0x12345000n)
    iommu.writeMmio(register.commandBase + 4, 4, 0x09000001n)
    expect(iommu.readMmio(register.commandBase, 8)).toBe(0x0900000112345000n)
    expect(iommu.readMmio(register.commandBase, 4)).toBe(0x12345000n)
    expect(iommu.readMmio(register.commandBase + 4, 4)).toBe(0x09000001n)
    iommu.writeMmio(register.control + 4, 4, controlBit.gcr3TrpMode >> 32n)
    iommu.writeMmio(register.control, 4, controlBit.gtEn)
    expect(iommu.readMmio(register.control, 8)).toBe(controlBit.gcr3TrpMode | controlBit.gtEn)
  })

  it('ignore an access that is not aligned, and one to a register that is not there', () => {
    const chip = Chip.create()
    const before = chip.fingerprint()
    for (const offset of [0x1, 0x2, 0x4, 0x1c, 0x58, 0x1ff8, 0x2024, 0x3000, 0x7fff8, 0x12345678]) {
      chip.write(offset, all)
      expect(chip.read(offset)).toBe(0n)
    }
    chip.iommu.writeMmio(register.control + 2, 4, all)
    expect(chip.iommu.readMmio(register.control + 2, 4)).toBe(0n)
    expect(chip.fingerprint()).toBe(before)
  })

  it('that are a ring base take its head and tail back to zero, once the ring does not run', () => {
    const chip = Chip.create()
    chip.write(register.control, 0n)
    for (const [base, head, tail] of [
      [register.commandBase, register.commandHead, register.commandTail],
      [register.eventBase, register.eventHead, register.eventTail],
    ] as const) {
      chip.write(head, 0x40n)
      chip.write(tail, 0x80n)
      chip.write(base, 0x0900000000123000n)
      expect([chip.read(base), chip.read(head), chip.read(tail)]).toEqual([0x0900000000123000n, 0n, 0n])
    }
  })

  it('that hardware uses keep their values while their ring runs; what software moves can be moved', () => {
    const chip = Chip.create()
    for (const name of ['commandBase', 'commandHead', 'eventBase', 'eventTail'] as const) {
      const before = chip.read(register[name])
      chip.write(register[name], 0x0900000000123450n)
      expect(chip.read(register[name])).toBe(before)
    }
    chip.write(register.eventHead, 0x30n)
    chip.write(register.deviceTableBase, 0x8000n)
    expect(chip.read(register.eventHead)).toBe(0x30n)
    expect(chip.read(register.deviceTableBase)).toBe(0x8000n)
  })
})

describe('the status register', () => {
  const { iommuEn, cmdBufEn, eventLogEn } = controlBit

  it.each([
    ['IommuEn off', cmdBufEn | eventLogEn, 8n, 0n],
    ['the queues off', iommuEn, 8n, 0n],
    ['commands on', iommuEn | cmdBufEn, 8n, statusBit.cmdBufRun],
    ['events on', iommuEn | eventLogEn, 15n, statusBit.eventLogRun],
    ['both on', quietControl, 8n, statusBit.cmdBufRun | statusBit.eventLogRun],
    ['lengths below 8', quietControl, 7n, 0n],
  ])('tells what runs with %s', (_, control, length, expected) => {
    const chip = Chip.create({ control, commandLength: length, eventLength: length })
    expect(chip.read(register.status)).toBe(expected)
  })

  it('is cleared by writing 1, bit by bit, and what runs is read-only', () => {
    const chip = Chip.create()
    chip.iommu.request({ deviceId: 0, iova: 0n, pasid: 1 })
    chip.setDte(1, [1n])
    chip.iommu.request({ deviceId: 1, iova: 0n })
    chip.command([0x1000000000000002n, 0n])
    const running = statusBit.cmdBufRun | statusBit.eventLogRun
    expect(chip.read(register.status)).toBe(running | statusBit.eventLogInt | statusBit.comWaitInt)
    chip.write(register.status, statusBit.eventLogInt | running)
    expect(chip.read(register.status)).toBe(running | statusBit.comWaitInt)
    chip.iommu.writeMmio(register.status + 4, 4, all)
    expect(chip.read(register.status)).toBe(running | statusBit.comWaitInt)
    chip.iommu.writeMmio(register.status, 4, all)
    expect(chip.read(register.status)).toBe(running)
  })
})

describe('the control register', () => {
  it('with IommuEn off lets all requests pass, carries out no command and logs nothing', () => {
    const chip = Chip.create({ control: quietControl & ~controlBit.iommuEn })
    chip.setDte(1, [1n])
    expect(chip.iommu.request({ deviceId: 1, iova: all, pasid: 3 })).toEqual({
      kind: 'forwarded',
      address: all,
    })
    expect(chip.command([0x1000000000000002n, 0n], illegalCommand)).toBe(0)
    expect(chip.iommu.cachedDeviceIds()).toEqual([])
    expect(chip.takeEvents()).toEqual([])
    expect(chip.iommu.takeInterrupt()).toBeUndefined()
    chip.write(register.control, quietControl)
    expect(chip.run()).toBe(2)
  })

  it('decides at once what is reserved in entries that are cached already', () => {
    const chip = Chip.create({ control: quietControl | controlBit.ephEn })
    chip.setDte(1, [0x6010000000000003n])
    expect(chip.iommu.request({ deviceId: 1, iova: 0n })).toMatchObject({ kind: 'translated' })
    chip.write(register.control, quietControl)
    expect(chip.iommu.request({ deviceId: 1, iova: 0n })).toMatchObject({ kind: 'fault' })
    chip.write(register.control, quietControl | controlBit.ephEn)
    expect(chip.iommu.request({ deviceId: 1, iova: 0n })).toMatchObject({ kind: 'translated' })
  })

  it('with DevTblSegEn on spreads the device table over several bases', () => {
    const chip = Chip.create({ control: quietControl | (2n << 34n) })
    const pass = 0x6000000000000003n
    for (let segment = 1; segment < 4; segment++) {
      const base = place.deviceTable + BigInt(segment * 0x100000)
      chip.write(register.segment1Base + (segment - 1) * 8, base)
      chip.put([base + 32n * 5n, pass])
    }
    chip.setDte(5, [pass])
    for (const deviceId of [5, 0x4005, 0x8005, 0xc005]) {
      expect(chip.iommu.request({ deviceId, iova: 0x77n })).toMatchObject({ kind: 'translated', spa: 0x77n })
    }
    expect(chip.iommu.request({ deviceId: 0x4006, iova: 0x77n })).toMatchObject({ kind: 'forwarded' })
    // One page of entries is 128 of them.
    expect(chip.iommu.request({ deviceId: 0x4080, iova: 0x77n })).toMatchObject({ kind: 'fault' })
  })
})
