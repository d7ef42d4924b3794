/**
 * Nesting: vIOMMUs, nested domains, and the invalidations of a guest.
 *
 * Linux drivers/iommu/amd/nested.c and iommufd.c. The invalidations are what Linux 7.3 has not wired yet; the founding
 * mail's requirement R4 says how they must go: by the guest's DomainID, to the tag that stands for it.
 *
 * @packageDocumentation
 */
import { decodeCommand, decodeEfr, domainId as asDomainId, registers } from '@nestwalk/hardware'
import type { Command, IommuPort } from '@nestwalk/hardware'
import { reservedBits } from '@nestwalk/bits'
import { commandLayouts } from '@nestwalk/hardware'
import { isAttached } from './books.js'
import type { Books } from './books.js'
import { guestEntryOf } from './device-entry.js'
import type { DomainNumber, NestedDomain } from './domain.js'
import { enterDomain, removeDomain } from './domain-entry.js'
import { refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import type { Plan } from './plan.js'

/** Makes a vIOMMU on a nest parent and returns its number. */
export function createViommu(books: Books, parent: DomainNumber): number | Refusal {
  const domain = books.domains.get(parent)
  if (domain === undefined) return refuse('ENOENT', 'no-such-domain', `there is no domain ${parent}`)
  if (domain.kind !== 'host-table' || !domain.nestParent) {
    return refuse('EINVAL', 'nest-parent-required', `domain ${parent} was not allocated as a nest parent`)
  }
  const number = books.nextViommu
  books.nextViommu += 1
  books.viommus.set(number, { number, parent, slots: new Map() })
  return number
}

/** Removes a vIOMMU that no nested domain needs any more. */
export function destroyViommu(books: Books, number: number): Refusal | undefined {
  if (!books.viommus.has(number)) return refuse('ENOENT', 'no-such-viommu', `there is no vIOMMU ${number}`)
  const user = [...books.domains.values()].find(
    (domain) => domain.kind === 'nested' && domain.viommu === number,
  )
  if (user !== undefined) {
    return refuse('EBUSY', 'viommu-in-use', `nested domain ${user.number} is on the vIOMMU`)
  }
  books.viommus.delete(number)
  return undefined
}

/** What is wrong with a guest's device table entry, by the rules and in the order of nested.c. */
export function checkGuestEntry(guestEntry: readonly bigint[], port: IommuPort): Refusal | undefined {
  const entry = guestEntryOf({ guestEntry })
  if (entry.mode !== 0 || entry.hostRoot !== 0n) {
    return refuse('EINVAL', 'guest-entry-without-host-table', 'Mode and host root of a guest entry must be 0')
  }
  if (entry.valid && entry.guestValid && entry.gcr3Root === 0n) {
    return refuse('EINVAL', 'gcr3-root-required', 'a valid guest entry with GV needs a GCR3 root')
  }
  if (entry.guestPagingMode > 1) {
    return refuse('EINVAL', 'guest-paging-mode', `GuestPagingMode ${entry.guestPagingMode} is reserved`)
  }
  if (entry.gcr3Levels === 3) return refuse('EINVAL', 'gcr3-levels', 'GLX 3 is reserved')
  const { gats } = decodeEfr(port.readMmio(registers.efr.offset, 8))
  if (entry.guestPagingMode === 1 && gats !== 1) {
    return refuse('EOPNOTSUPP', 'five-level-guest-tables', 'the IOMMU has no five-level guest tables')
  }
  return undefined
}

/** Makes a nested domain of a checked guest entry and returns its number. */
export function allocateNested(
  books: Books,
  viommuNumber: number,
  guestEntry: readonly bigint[],
): DomainNumber | Refusal {
  const viommu = books.viommus.get(viommuNumber)
  if (viommu === undefined) return refuse('ENOENT', 'no-such-viommu', `there is no vIOMMU ${viommuNumber}`)
  const domain: NestedDomain = {
    kind: 'nested',
    number: books.nextDomain,
    parent: viommu.parent,
    viommu: viommuNumber,
    guestEntry: guestEntry.slice(0, 4),
    guestDomainId: guestEntryOf({ guestEntry }).domainId,
  }
  return enterDomain(books, domain)
}

/** Frees a nested domain that no device is attached to. */
export function freeNested(books: Books, plan: Plan, domain: NestedDomain): Refusal | undefined {
  if (isAttached(books, domain.number)) {
    return refuse('EBUSY', 'domain-in-use', `a device is attached to nested domain ${domain.number}`)
  }
  removeDomain(books, plan, domain)
  return undefined
}

/** What came of a guest's commands: how many took effect, and why the next one did not. */
export interface GuestInvalidation {
  readonly handled: number
  readonly refusal: Refusal | undefined
}

/**
 * Carries a guest's invalidation commands out under the host's DomainIDs, then waits.
 *
 * A guest DomainID that no nested domain has stands for nothing that could be cached.
 *
 * @param commands - two quad-words each, as the guest wrote them
 */
export function invalidateForGuest(
  books: Books,
  plan: Plan,
  viommuNumber: number,
  commands: readonly (readonly [bigint, bigint])[],
): GuestInvalidation | Refusal {
  const viommu = books.viommus.get(viommuNumber)
  if (viommu === undefined) return refuse('ENOENT', 'no-such-viommu', `there is no vIOMMU ${viommuNumber}`)
  const waiting = new Set<number>()
  let handled = 0
  let refusal: Refusal | undefined
  for (const words of commands) {
    const command = checkedInvalidation(words)
    if ('ok' in command) {
      refusal = command
      break
    }
    const keys = [...(viommu.slots.get(command.domainId)?.keys() ?? [])]
    for (const key of books.policy.guestInvalidation === 'first' ? keys.slice(0, 1) : keys) {
      const tag = books.tags.get(key)
      for (const iommu of tag?.iommus ?? []) {
        if (tag === undefined) continue
        plan.command(
          iommu,
          { ...command, domainId: asDomainId(tag.domainId) },
          `the guest invalidates its DomainID ${command.domainId}`,
        )
        waiting.add(iommu)
      }
    }
    handled += 1
  }
  for (const iommu of [...waiting].sort((a, b) => a - b)) plan.wait(iommu)
  return { handled, refusal }
}

/** A guest's command if it is an INVALIDATE_IOMMU_PAGES without reserved bits. */
function checkedInvalidation(words: readonly [bigint, bigint]): Command<'InvalidateIommuPages'> | Refusal {
  const raw = BigUint64Array.from(words, (word) => BigInt.asUintN(64, word))
  const command = decodeCommand(raw)
  if (command.kind !== 'InvalidateIommuPages') {
    return refuse(
      'EOPNOTSUPP',
      'guest-command-kind',
      `a guest command of kind ${command.kind} is not forwarded`,
    )
  }
  if (reservedBits(commandLayouts.InvalidateIommuPages, raw).length > 0) {
    return refuse('EINVAL', 'guest-command-reserved-bits', 'reserved bits of a guest command are set')
  }
  if (!command.guestNested && command.pasid !== 0) {
    return refuse('EINVAL', 'guest-command-pasid', 'a guest command has a PASID but no GN')
  }
  return command
}
