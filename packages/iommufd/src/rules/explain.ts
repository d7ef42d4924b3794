/**
 * Why a call can fail: the rules of the catalogue for an errno, a call, or both.
 *
 * @packageDocumentation
 */
import { errnoNumbers } from '../outcome.js'
import type { Errno } from '../outcome.js'
import type { CallName, Rule } from './rule.js'
import { rules } from './rules.js'

/** A rule with its name in the catalogue. */
export interface NamedRule extends Rule {
  readonly name: string
}

/** The rules that give an errno to a call, in the order of the catalogue; without one of them, for all of its kind. */
export function rulesFor({ errno, call }: { readonly errno?: Errno; readonly call?: CallName }): NamedRule[] {
  return Object.entries(rules)
    .map(([name, rule]) => ({ name, ...rule }))
    .filter((rule) => errno === undefined || rule.errno === errno)
    .filter((rule) => call === undefined || rule.calls.includes(call))
}

/** All calls that a rule of the catalogue can fail. */
export const callNames: readonly CallName[] = [
  ...new Set(Object.values(rules).flatMap(({ calls }) => calls)),
].sort()

/** An errno by its name in any case, or its number on Linux. */
export function parseErrno(text: string): Errno | undefined {
  const entries = Object.entries(errnoNumbers) as [Errno, number][]
  const wanted = text.toUpperCase()
  return entries.find(([name, number]) => name === wanted || String(number) === text)?.[0]
}

/** A call by its name, with or without `IOMMU_` or `VFIO_`, in any case, with dashes or underscores. */
export function parseCall(text: string): CallName | undefined {
  const plain = text.toLowerCase().replaceAll('-', '_')
  return callNames.find((name) => name === plain || name === plain.replace(/^iommu_/, ''))
}
