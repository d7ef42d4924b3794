/** The random machines of `slow/` as chips. */
import { SparseMemory } from '../src/index.js'
import type { SwitchChoices } from '../src/index.js'
import { Chip, controlBit, register } from './chip.js'
import type { RandomCase } from './slow/random-machine.js'
import type { Request as SlowRequest } from './slow/types.js'

/** A page that no table of the case uses, for the event log. */
function freePage(words: ReadonlyMap<bigint, bigint>): bigint {
  for (let page = 0x300000000n; ; page += 0x100000n) {
    let isFree = true
    for (let offset = 0n; offset < 0x1000n; offset += 8n) isFree &&= !words.has(page + offset)
    if (isFree) return page
  }
}

/** The machine of a case, with an event log besides. */
export function chipOf(each: RandomCase, switches: Partial<SwitchChoices> = {}): Chip {
  const memory = SparseMemory.create(Number(each.memorySize))
  const chip = Chip.create({ memory, features: each.features, switches, control: 0n })
  chip.put(...each.words)
  each.registers.deviceTableBases.forEach((base, n) => {
    chip.write(n === 0 ? register.deviceTableBase : register.segment1Base + (n - 1) * 8, base)
  })
  chip.write(0x20, each.registers.exclusionBase)
  chip.write(0x28, each.registers.exclusionLimit)
  chip.write(register.eventBase, freePage(each.words) | (8n << 56n))
  chip.write(register.control, each.registers.control | controlBit.eventLogEn)
  return chip
}

/** Whether a request goes to the HyperTransport hole. */
export const isInHole = (each: RandomCase, { iova }: SlowRequest): boolean =>
  iova >= 0xfd00000000n && iova <= 0xffffffffffn && (each.features.efr2 & 0x800n) === 0n
