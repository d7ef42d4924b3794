/**
 * What a device should get: the guest's device table entry as it is now, on the host table as it is now, walked without
 * any cache and whatever the host's books say.
 *
 * @packageDocumentation
 */
import { encode, iova } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'
import type { Driver } from '@nestwalk/driver'
import {
  controlLayout,
  deviceTableBaseLayout,
  encodeDte,
  Iommu,
  registers,
  store64,
} from '@nestwalk/hardware'
import type { Dte, SparseMemory } from '@nestwalk/hardware'
import { isEnabled, readGuestEntry } from './guest-view.js'
import type { VirtualMachine } from './virtual-machine.js'

/** What a request leads to: an address, or a refusal. */
export type Answer = { readonly kind: 'frame'; readonly address: Spa } | { readonly kind: 'refused' }

export const refused: Answer = { kind: 'refused' }

/** Whether two answers are the same. */
export const isSameAnswer = (a: Answer, b: Answer): boolean =>
  a.kind === 'refused' || b.kind === 'refused' ? a.kind === b.kind : a.address === b.address

/** A chip that is never used but for fresh walks, with a device table of one entry on a page of its own. */
export class FreshView {
  private constructor(
    private readonly chip: Iommu,
    private readonly page: Spa,
  ) {}

  /** @param page - a page of the host's memory that nothing else uses */
  static create(memory: SparseMemory, page: Spa): FreshView {
    const chip = Iommu.create({ memory })
    const write = (offset: number, value: bigint | undefined): void => chip.writeMmio(offset, 8, value ?? 0n)
    write(registers.deviceTableBase.offset, encode(deviceTableBaseLayout, { base: page, size: 0 })[0])
    write(
      registers.control.offset,
      encode(controlLayout, { iommuEn: true, gtEn: true, gcr3TrpMode: true, ephEn: true })[0],
    )
    return new FreshView(chip, page)
  }

  /** What a request without PASID should get now. */
  answer(vm: VirtualMachine, device: string, gva: bigint, write: boolean, host: Driver): Answer {
    const virtualId = vm.virtualIdOf(device)
    if (virtualId === undefined) throw new RangeError(`${vm.name} has no device ${device}`)
    const entry = entryFor(vm, virtualId, host)
    if (entry === undefined) return refused
    const words = [...entry]
    this.put(words)
    const translation = this.chip.walkFresh({ deviceId: 0, iova: iova(gva), write })
    this.put(words.map(() => 0n))
    return translation.kind === 'translated' ? { kind: 'frame', address: translation.spa } : refused
  }

  forkOnto(memory: SparseMemory): FreshView {
    return new FreshView(this.chip.forkOnto(memory), this.page)
  }

  private put(words: readonly bigint[]): void {
    words.forEach((word, i) => store64(this.chip.memory, this.page + BigInt(i * 8), word))
  }
}

/** The entry that gives a device what its guest asks for; `undefined` where the guest blocks it. */
function entryFor(vm: VirtualMachine, virtualId: number, host: Driver): BigUint64Array | undefined {
  const table = host.domain(vm.hostTable)
  if (table?.kind !== 'host-table') return undefined
  const whole: Partial<Dte> = {
    valid: true,
    translationValid: true,
    readAllowed: true,
    writeAllowed: true,
    mode: table.mode,
    hostRoot: table.root,
  }
  const guest = isEnabled(vm) ? readGuestEntry(vm, virtualId) : undefined
  if (guest === undefined) return isEnabled(vm) ? undefined : encodeDte(whole)
  if (!guest.valid) return encodeDte(whole)
  if (!guest.translationValid) return undefined
  const { readAllowed, writeAllowed, guestValid, guestIoValid, gcr3Levels, gcr3Root, guestPagingMode } = guest
  return encodeDte({
    ...whole,
    readAllowed,
    writeAllowed,
    ...(guestValid ? { guestValid, guestIoValid, gcr3Levels, gcr3Root, guestPagingMode } : {}),
  })
}
