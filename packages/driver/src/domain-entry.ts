/**
 * Entering domains into the books and taking them out, with the tag that a domain holds for as long as it lives.
 *
 * @packageDocumentation
 */
import { taggedDomain } from './books.js'
import type { Books } from './books.js'
import type { DomainNumber, NumberedDomain } from './domain.js'
import type { Refusal } from './outcome.js'
import type { Plan } from './plan.js'
import { dropTag, holdTag } from './tag-holding.js'

/** Enters a domain that carries the next number. ENOSPC or ENOMEM if its tag finds no DomainID. */
export function enterDomain(books: Books, plan: Plan, domain: NumberedDomain): DomainNumber | Refusal {
  const key = books.policy.keyOfDomain(taggedDomain(domain))
  const held = key === undefined ? undefined : holdTag(books, plan, key, domain)
  // Linux's allocation of a domain with a table of its own returns NULL, whatever it lacked.
  if (held !== undefined && 'ok' in held) return 'root' in domain ? { ...held, errno: 'ENOMEM' } : held
  books.nextDomain += 1
  books.domains.set(domain.number, domain)
  return domain.number
}

/** Takes a domain that nothing uses out, and gives its tag back. */
export function removeDomain(books: Books, plan: Plan, domain: NumberedDomain): void {
  const key = books.policy.keyOfDomain(taggedDomain(domain))
  if (key !== undefined) dropTag(books, plan, key, domain)
  books.domains.delete(domain.number)
}
