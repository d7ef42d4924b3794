/**
 * The kernel whose `/dev/iommu` is served, by the words of a command line.
 *
 * @packageDocumentation
 */
import { findPolicy, policies } from '@nestwalk/driver'
import type { DomainIdPolicy } from '@nestwalk/driver'
import { amdMachine, mockKernel } from '@nestwalk/iommufd'
import type { OpenableKernel } from '@nestwalk/iommufd'
import type { RefusedCall } from '@nestwalk/interop'
import { UsageError } from './output.js'
import type { Output } from './output.js'

const text = { type: 'string' } as const
const yes = { type: 'boolean' } as const

/** What chooses the kernel, for `parseArgs`. */
export const kernelOptions = { backend: text, extensions: yes, policy: text, explain: yes } as const

export interface KernelWords {
  readonly backend?: string | undefined
  readonly extensions?: boolean | undefined
  readonly policy?: string | undefined
  readonly explain?: boolean | undefined
}

/**
 * Boots the kernel.
 *
 * @throws UsageError for words that go with no kernel
 */
export function kernelOf({ backend = 'mock', extensions = false, policy }: KernelWords): OpenableKernel {
  if (backend === 'amd') {
    const machine = { extensions, seesPrograms: true }
    return amdMachine(policy === undefined ? machine : { ...machine, policy: policyOf(policy) }).kernel
  }
  if (backend !== 'mock') throw new UsageError(`--backend ${backend}: it takes mock or amd`)
  if (extensions)
    throw new UsageError('--extensions is for --backend amd: the mock IOMMU has all it can have')
  if (policy !== undefined)
    throw new UsageError('--policy is for --backend amd: the mock IOMMU has no DomainIDs')
  return mockKernel()
}

function policyOf(words: string): DomainIdPolicy {
  const policy = findPolicy(words)
  if (policy !== undefined) return policy
  throw new UsageError(`--policy ${words}: it takes ${policies.map(({ letter }) => letter).join(', ')}`)
}

/** Tells of each refused call where that is wanted. */
export function explainer({ explain = false }: KernelWords, out: Output): (call: RefusedCall) => void {
  if (!explain) return () => undefined
  return ({ pid, call, errno, rule, why }) => {
    out.stderr(`${pid} ${call}: ${errno}${rule === undefined ? '' : ` by rule ${rule}`}: ${why ?? ''}\n`)
  }
}
