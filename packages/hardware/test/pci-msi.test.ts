import { describe, expect, it } from 'vitest'
import { PciFunction } from '../src/pci/index.js'
import {
  efrBit,
  featuresWith,
  memoryOf,
  newFunction,
  at,
  iommuId,
  msiId,
  mappingId,
  ones,
} from './pci-rig.js'

describe('the MSI capability', () => {
  it('has 64-bit addresses and the messages of the function', () => {
    for (let log2 = 0; log2 <= 5; log2++) {
      const pci = newFunction({ msiMessagesLog2: log2 })
      expect(pci.readConfig(at(pci, msiId) + 2, 2)).toBe(0x80 | (log2 << 1))
    }
  })

  it('is off after reset, and tells the address and the message that software stores', () => {
    const pci = newFunction()
    const msi = at(pci, msiId)
    expect([
      pci.msiEnabled(),
      pci.msiAddressLo(),
      pci.msiAddressHi(),
      pci.msiData(),
      pci.msiVectorsLog2(),
    ]).toEqual([false, 0, 0, 0, 0])
    pci.writeConfig(msi + 4, 4, 0xfee01000)
    pci.writeConfig(msi + 8, 4, 0x80000001)
    pci.writeConfig(msi + 12, 4, 0x4031)
    pci.writeConfig(msi + 2, 2, 0x11)
    expect(pci.msiEnabled()).toBe(true)
    expect(pci.msiAddressLo()).toBe(0xfee01000 | 0)
    expect(pci.msiAddressHi()).toBe(0x80000001 | 0)
    expect(pci.msiData()).toBe(0x4031)
    expect(pci.msiVectorsLog2()).toBe(1)
    pci.reset()
    expect(pci.msiEnabled()).toBe(false)
    expect(pci.msiData()).toBe(0)
  })

  it('keeps its reserved and read-only bits', () => {
    const pci = newFunction({ msiMessagesLog2: 5 })
    const msi = at(pci, msiId)
    const header = pci.readConfig(msi, 4)
    for (let offset = 0; offset < 16; offset += 4) pci.writeConfig(msi + offset, 4, ones)
    // MsiEn; MultMessEn is at most 5.
    expect(pci.readConfig(msi, 4)).toBe((header | 0x510000) >>> 0)
    expect(pci.readConfig(msi + 4, 4)).toBe(0xfffffffc)
    expect(pci.readConfig(msi + 8, 4)).toBe(0xffffffff)
    expect(pci.readConfig(msi + 12, 4)).toBe(0xffff)
  })

  it.each([0, 1, 2, 3, 4, 5, 6, 7])('allows no more messages than there are: 2^%d', (wanted) => {
    const pci = newFunction({ msiMessagesLog2: 2 })
    pci.writeConfig(at(pci, msiId) + 2, 2, wanted << 4)
    expect(pci.msiVectorsLog2()).toBe(Math.min(wanted, 2))
    expect(pci.msiEnabled()).toBe(false)
  })
})

describe('the MSI-mapping capability', () => {
  it('is on after reset, at the fixed address, and can be switched', () => {
    const pci = newFunction()
    const mapping = at(pci, mappingId)
    expect(pci.readConfig(mapping + 2, 2)).toBe(0xa803)
    pci.writeConfig(mapping, 4, 0)
    expect(pci.readConfig(mapping, 4)).toBe(0xa8020008)
  })
})

describe('the shadows of the MSI registers in MMIO', () => {
  const shadows = featuresWith(efrBit.msiCapMmioSup)

  it('show the registers', () => {
    const pci = newFunction({ features: shadows, msiNum: 1, msiNumGa: 2 })
    const [capability, msi, mapping] = [at(pci, iommuId), at(pci, msiId), at(pci, mappingId)]
    pci.writeConfig(msi, 4, 0x00110000)
    pci.writeConfig(msi + 4, 4, 0xfee00000)
    pci.writeConfig(msi + 8, 4, 0xffffffff)
    pci.writeConfig(msi + 12, 4, 0x31)
    const shown = [capability + 0x10, capability + 0x14, msi, msi + 4, msi + 8, msi + 12, mapping]
    const offsets = [0x150, 0x154, 0x158, 0x15c, 0x160, 0x164, 0x168]
    expect(offsets.map((offset) => pci.readMsiShadow(offset))).toEqual(
      shown.map((offset) => pci.readConfig(offset, 4)),
    )
  })

  it('are written as the registers are', () => {
    const pci = newFunction({ features: shadows })
    const before = [0x150, 0x154].map((offset) => pci.readMsiShadow(offset))
    for (let offset = 0x150; offset <= 0x168; offset += 4) pci.writeMsiShadow(offset, ones)
    expect([0x150, 0x154].map((offset) => pci.readMsiShadow(offset))).toEqual(before)
    expect([pci.msiEnabled(), pci.msiVectorsLog2()]).toEqual([true, 2])
    expect([pci.msiAddressLo(), pci.msiAddressHi(), pci.msiData()]).toEqual([-4, -1, 0xffff])
    pci.writeMsiShadow(0x168, 0)
    expect(pci.readConfig(at(pci, mappingId) + 2, 2)).toBe(0xa802)
  })

  it('are not there without MsiCapMmioSup, but for the MSI numbers', () => {
    const pci = newFunction({ features: featuresWith(0n, efrBit.msiCapMmioSup), msiNum: 3, msiNumGa: 1 })
    for (let offset = 0x158; offset <= 0x168; offset += 4) {
      pci.writeMsiShadow(offset, ones)
      expect(pci.readMsiShadow(offset)).toBe(0)
    }
    expect(pci.msiEnabled()).toBe(false)
    expect(pci.readMsiShadow(0x150) & 31).toBe(3)
    expect(pci.readMsiShadow(0x154)).toBe(1)
  })

  it.each([0, 0x14c, 0x151, 0x15a, 0x16c, -1, Number.NaN])('are nowhere else: %d', (offset) => {
    const memory = memoryOf()
    const pci = PciFunction.create(memory.words, { features: shadows })
    const before = memory.words.fingerprint()
    pci.writeMsiShadow(offset, ones)
    expect(pci.readMsiShadow(offset)).toBe(0)
    expect(memory.words.fingerprint()).toEqual(before)
  })

  it('show no MSI mapping where there is none', () => {
    const pci = newFunction({ features: shadows, hasMsiMapping: false })
    pci.writeMsiShadow(0x168, ones)
    expect(pci.readMsiShadow(0x168)).toBe(0)
  })
})
