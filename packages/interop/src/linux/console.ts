/**
 * What the guest's console says: lines of Linux's AMD IOMMU driver, and lines of our own program.
 *
 * Linux drivers/iommu/amd/iommu.c prints an event as `Event logged [IO_PAGE_FAULT domain=... address=... flags=...]`.
 *
 * @packageDocumentation
 */
import type { LoggedEvent } from '../machine/served-machine.js'

/** One line, taken apart. */
export type ConsoleLine =
  /** Of the driver. */
  | { readonly kind: 'driver'; readonly text: string }
  | {
      readonly kind: 'fault'
      readonly text: string
      readonly domainId: number
      readonly address: bigint
      /** 12 bits, as in the event. */
      readonly flags: number
    }
  /** The guest's program is done. */
  | { readonly kind: 'copies'; readonly good: number; readonly refused: number; readonly bad: number }
  /** Interrupts of the IOMMU that the guest's kernel counted. */
  | { readonly kind: 'interrupts'; readonly count: number }
  /** The guest's program gave up, or a copy was wrong. */
  | { readonly kind: 'trouble'; readonly text: string }
  | { readonly kind: 'mapped'; readonly mapping: GuestMapping }
  | { readonly kind: 'unmapped'; readonly iova: bigint; readonly sizeBytes: bigint }
  /** The guest's program has come to a point where it waits for the engine to note a number. */
  | { readonly kind: 'mark'; readonly mark: number }
  | { readonly kind: 'other' }

/** A contiguous run of memory that the guest's kernel mapped, and where it lies by the kernel's own word. */
export interface GuestMapping {
  readonly iova: bigint
  readonly sizeBytes: bigint
  /** Guest physical address. */
  readonly physical: bigint
  readonly readable: boolean
  readonly writable: boolean
}

const faultLine = /IO_PAGE_FAULT domain=0x([0-9a-f]+) address=0x([0-9a-f]+) flags=0x([0-9a-f]+)/
const driverLine = /AMD-Vi: .*|Adding to iommu group.*|iommu: .*/

export function readConsoleLine(line: string): ConsoleLine {
  const ours = /^NW (\S+) ?(.*)$/.exec(line)
  if (ours !== null) return readOwnLine(ours[1] ?? '', ours[2] ?? '')
  // A line of the kernel may begin with a time in brackets.
  const text = line.replace(/^\[ *[0-9.]+\] /, '')
  const fault = faultLine.exec(text)
  if (fault !== null) {
    const [, domain = '', address = '', flags = ''] = fault
    return {
      ...{ kind: 'fault', text, domainId: parseInt(domain, 16), address: BigInt(`0x${address}`) },
      flags: parseInt(flags, 16),
    }
  }
  return driverLine.test(text) ? { kind: 'driver', text } : { kind: 'other' }
}

function readOwnLine(word: string, rest: string): ConsoleLine {
  const fields = rest.split(' ')
  const hex = (n: number): bigint => BigInt(`0x${/^[0-9a-f]+$/.exec(fields[n] ?? '')?.[0] ?? '0'}`)
  switch (word) {
    case 'ENGINE': {
      const [, good, refused, bad] = /^good (\d+) refused (\d+) bad (\d+)$/.exec(rest) ?? []
      return { kind: 'copies', good: Number(good), refused: Number(refused), bad: Number(bad) }
    }
    case 'INTERRUPTS':
      return { kind: 'interrupts', count: Number(rest) }
    case 'XLATE': {
      const [readable, writable] = [fields[3] === '1', fields[4] === '1']
      const mapping = { iova: hex(0), sizeBytes: hex(1), physical: hex(2), readable, writable }
      return { kind: 'mapped', mapping }
    }
    case 'UNMAP':
      return { kind: 'unmapped', iova: hex(0), sizeBytes: hex(1) }
    case 'MARK':
      return { kind: 'mark', mark: Number(rest) }
    case 'DIED':
    case 'BAD':
    case 'NO-IOMMU':
      return { kind: 'trouble', text: `${word} ${rest}` }
    default:
      return { kind: 'other' }
  }
}

/** Whether a line of the console tells of this entry of the log. */
export function tellsOf(line: Extract<ConsoleLine, { kind: 'fault' }>, [lo, hi]: LoggedEvent): boolean {
  const domainId = Number((lo >> 32n) & 0xffffn)
  const flags = Number((lo >> 48n) & 0xfffn)
  return line.domainId === domainId && line.flags === flags && line.address === hi
}
