/**
 * The kernel whose `/dev/iommu` is served, by the words of a command line.
 *
 * @packageDocumentation
 */
import { amdMachine, mockKernel } from '@nestwalk/iommufd'
import type { OpenableKernel } from '@nestwalk/iommufd'
import type { RefusedCall } from '@nestwalk/interop'
import { UsageError } from './output.js'
import type { Output } from './output.js'

const text = { type: 'string' } as const
const yes = { type: 'boolean' } as const

/** What chooses the kernel, for `parseArgs`. */
export const kernelOptions = { backend: text, extensions: yes, explain: yes } as const

export interface KernelWords {
  readonly backend?: string | undefined
  readonly extensions?: boolean | undefined
  readonly explain?: boolean | undefined
}

/**
 * Boots the kernel.
 *
 * @throws UsageError for words that go with no kernel
 */
export function kernelOf({ backend = 'mock', extensions = false }: KernelWords): OpenableKernel {
  if (backend === 'amd') return amdMachine({ extensions }).kernel
  if (backend !== 'mock') throw new UsageError(`--backend ${backend}: it takes mock or amd`)
  if (extensions)
    throw new UsageError('--extensions is for --backend amd: the mock IOMMU has all it can have')
  return mockKernel()
}

/** Tells of each refused call where that is wanted. */
export function explainer({ explain = false }: KernelWords, out: Output): (call: RefusedCall) => void {
  if (!explain) return () => undefined
  return ({ pid, call, errno, rule, why }) => {
    out.stderr(`${pid} ${call}: ${errno}${rule === undefined ? '' : ` by rule ${rule}`}: ${why ?? ''}\n`)
  }
}
