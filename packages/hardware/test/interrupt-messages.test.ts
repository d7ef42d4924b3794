import { describe, expect, it } from 'vitest'
import {
  at,
  bit,
  capability,
  fault,
  fullChip,
  interrupts,
  is,
  on,
  passing,
  quietControl,
  setMsi,
} from './rig-chip.js'
import type { Chip } from './rig-chip.js'

const device = 0x600
const everyInterrupt =
  quietControl |
  on.eventIntEn |
  on.comWaitIntEn |
  on.pprEn |
  on.pprLogEn |
  on.pprIntEn |
  on.gaEn |
  on.guestApicMode |
  on.gaLogEn |
  on.gaIntEn

/** What makes the IOMMU interrupt its processor: the cause, who provokes it, the enable, the status bit. */
const provocations = [
  ['an event', 'general', (chip: Chip) => void fault(chip, 1, 1), on.eventIntEn, is.eventLogInt],
  [
    'COMPLETION_WAIT with i',
    'general',
    (chip: Chip) => void chip.command([0x1000000000000002n, 0n]),
    on.comWaitIntEn,
    is.comWaitInt,
  ],
  [
    'a page request',
    'ppr',
    (chip: Chip) => {
      chip.setDte(device, [passing, 0x42n | bit(32)])
      chip.iommu.pageRequest({ deviceId: device, address: 0n, read: true, group: 1 })
    },
    on.pprIntEn,
    is.pprInt,
  ],
  [
    'a GA log entry',
    'ga',
    (chip: Chip) => {
      chip.setDte(0x700, [0n, 0x42n, 0x2000000117840013n])
      chip.put([0x117840000n, 0x85n], [0x117840008n, 0x123456051n])
      chip.iommu.requestInterrupt({ deviceId: 0x700, address: 0xfee00000n, data: 0 })
    },
    on.gaIntEn,
    is.gaInt,
  ],
] as const

const numbers = { msiNum: 1, msiNumPpr: 2, msiNumGa: 3, msiMessagesLog2: 2 } as const
const numberOf = { general: 1, ppr: 2, ga: 3 } as const
const registerOf = { general: at.x2ApicGeneral, ppr: at.x2ApicPpr, ga: at.x2ApicGa } as const

const chipWith = (control = everyInterrupt): Chip => {
  const chip = fullChip(0n, { pci: numbers })
  chip.write(at.control, control)
  return chip
}

describe.each(provocations)('%s', (_, cause, provoke, enable, status) => {
  it('sends the MSI message, its number in the low bits that MultMessEn gives away', () => {
    const chip = chipWith()
    setMsi(chip, { address: 0x1_fee01000n, data: 0x4038, messagesLog2: 2 })
    provoke(chip)
    const data = 0x4038 | numberOf[cause]
    expect(interrupts(chip)).toEqual([{ kind: 'msi', cause, address: 0x1_fee01000n, data }])
  })

  it('sends the message as software wrote it when there is only one', () => {
    const chip = chipWith()
    setMsi(chip, { address: 0xfee02000n, data: 0x403b, messagesLog2: 0 })
    provoke(chip)
    expect(interrupts(chip)).toEqual([{ kind: 'msi', cause, address: 0xfee02000n, data: 0x403b }])
  })

  it('leaves the bits alone that MultMessEn does not give away', () => {
    const chip = chipWith()
    setMsi(chip, { data: 0x4038, messagesLog2: 1 })
    provoke(chip)
    const [message] = interrupts(chip)
    expect(message).toMatchObject({ kind: 'msi', cause })
    expect(message?.kind === 'msi' && message.data >>> 1).toBe(0x4038 >>> 1)
  })

  it('is lost while MSI is off, and does not come later; the status bit is set all the same', () => {
    const chip = chipWith()
    setMsi(chip, { enabled: false })
    provoke(chip)
    expect(chip.hasStatus(status)).toBe(true)
    expect(interrupts(chip)).toEqual([])
    setMsi(chip)
    expect(interrupts(chip)).toEqual([])
    chip.write(at.status, status)
    provoke(chip)
    expect(interrupts(chip)).toMatchObject([{ cause }])
  })

  it('is silent without its enable, though the status bit is set', () => {
    const chip = chipWith(everyInterrupt & ~enable)
    provoke(chip)
    expect(chip.hasStatus(status)).toBe(true)
    expect(interrupts(chip)).toEqual([])
  })

  it('goes by the register of its kind with IntCapXTEn, MSI or not', () => {
    for (const enabled of [true, false]) {
      const chip = chipWith(everyInterrupt | on.intCapXtEn)
      setMsi(chip, { enabled })
      for (const offset of [at.x2ApicGeneral, at.x2ApicPpr, at.x2ApicGa])
        chip.write(offset, 0xdead00eeff00ff00n)
      // Destination 12345678, logical, vector A5, lowest priority.
      chip.write(registerOf[cause], 0x120001a534567804n)
      provoke(chip)
      expect(interrupts(chip)).toEqual([
        {
          kind: 'x2apic',
          cause,
          destination: 0x12345678,
          logicalDestination: true,
          lowestPriority: true,
          vector: 0xa5,
        },
      ])
    }
  })

  it('goes to a physical destination with DestMode 0, as a fixed interrupt with DM 0', () => {
    const chip = chipWith(everyInterrupt | on.intCapXtEn)
    chip.write(registerOf[cause], 0xff00003100000100n)
    provoke(chip)
    expect(interrupts(chip)).toMatchObject([
      { destination: 0xff000001, logicalDestination: false, lowestPriority: false, vector: 0x31 },
    ])
  })

  it('goes where it is to go at the time, in each fork for itself', () => {
    const chip = chipWith()
    setMsi(chip, { data: 0x40 })
    provoke(chip)
    const fork = chip.fork()
    expect(interrupts(fork)).toMatchObject([{ cause }])
    expect(interrupts(fork)).toEqual([])
    expect(interrupts(chip)).toMatchObject([{ cause }])
  })
})

describe('several causes at once', () => {
  it('send a message each', () => {
    const chip = chipWith()
    for (const [, , provoke] of provocations) provoke(chip)
    const causes = new Set(interrupts(chip).map(({ cause }) => cause))
    expect([...causes].sort()).toEqual(['ga', 'general', 'ppr'])
  })
})

describe('the MSI capability in MMIO', () => {
  it('enables MSI as configuration space does', () => {
    const chip = chipWith()
    const header = chip.iommu.readMmio(0x158, 4)
    chip.iommu.writeMmio(0x158, 4, header & ~bit(16))
    fault(chip)
    expect(interrupts(chip)).toEqual([])
    chip.iommu.writeMmio(0x158, 4, header | bit(16))
    chip.iommu.writeMmio(0x15c, 4, 0xfee05000n)
    chip.iommu.writeMmio(0x164, 4, 0x61n)
    fault(chip)
    expect(interrupts(chip)).toMatchObject([{ address: 0xfee05000n, data: 0x61 }])
    expect(chip.iommu.readConfig(capability(chip, 5) + 12, 2)).toBe(0x61)
  })
})
