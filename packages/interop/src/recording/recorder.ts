/**
 * Writes a run with a real kernel as a recording that `nestwalk replay` reads.
 *
 * At each mark the tables and registers are copied while the guest's processor waits; what the kernel had mapped by then
 * comes from the lines that it printed before the mark, which may reach us later.
 *
 * @packageDocumentation
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import type { GuestMapping } from '../linux/console.js'
import { engineDeviceId } from '../machine/served-machine.js'
import type { ServedMachine } from '../machine/served-machine.js'
import { makeFolder } from '../make-folder.js'
import { reachablePages } from './reachable-pages.js'

const recordedRegisters = [
  ...[0x0, 0x8, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x1a0, 0x2000, 0x2008, 0x2010, 0x2018, 0x2020],
  ...[0x2030, 0x2038],
]

/** The machine at a mark. */
interface Moment {
  readonly registers: Readonly<Record<string, string>>
  readonly pages: readonly number[]
  readonly kinds: Readonly<Record<string, number>>
  readonly bytes: Buffer
}

/** What the kernel has mapped at a mark, and what it had mapped before and has no more. */
interface Mappings {
  readonly live: readonly GuestMapping[]
  readonly gone: readonly GuestMapping[]
}

const hex = (value: bigint | number): string => `0x${value.toString(16)}`

/** See the file's comment. */
export class Recorder {
  private readonly moments = new Map<number, Moment>()
  private readonly mappings = new Map<number, Mappings>()
  private readonly console: string[] = []

  constructor(
    private readonly folder: string,
    private readonly memoryBytes: number,
  ) {}

  line(text: string): void {
    this.console.push(text)
  }

  /** Copies the machine, while its processors wait. */
  moment(mark: number, { iommu, ram }: ServedMachine): void {
    const page = (address: number): Uint8Array | undefined => {
      const bytes = new Uint8Array(4096)
      return ram.read(address, bytes) ? bytes : undefined
    }
    const found = [...reachablePages(iommu, page, [engineDeviceId])].sort(([a], [b]) => a - b)
    const kinds: Record<string, number> = {}
    for (const [, kind] of found) kinds[kind] = (kinds[kind] ?? 0) + 1
    const pages = found.map(([address]) => address)
    this.moments.set(mark, {
      registers: Object.fromEntries(recordedRegisters.map((at) => [hex(at), hex(iommu.readMmio(at, 8))])),
      pages,
      kinds,
      bytes: Buffer.concat(pages.map((address) => page(address) ?? new Uint8Array(4096))),
    })
  }

  /** The console has come to a mark. */
  mapped(mark: number, live: readonly GuestMapping[], gone: readonly GuestMapping[]): void {
    this.mappings.set(mark, { live, gone })
  }

  /** Writes what was recorded; `label` says of what. */
  write(label: string): void {
    makeFolder(this.folder)
    const snaps: object[] = []
    for (const [mark, { registers, pages, kinds, bytes }] of this.moments) {
      const { live, gone } = this.mappings.get(mark) ?? { live: [], gone: [] }
      const name = `mark${mark}`
      const queries = [
        ...live.map((each) => queryOf(each, true)),
        ...gone.map((each) => queryOf(each, false)),
      ]
      const snapshot = {
        name,
        memBytes: this.memoryBytes,
        regs: registers,
        pages: pages.map(hex),
        kinds,
        queries,
      }
      writeFileSync(join(this.folder, `snap-${name}.json`), `${JSON.stringify(snapshot)}\n`)
      writeFileSync(join(this.folder, `snap-${name}.pages.gz`), gzipSync(bytes))
      snaps.push({ name, pages: pages.length, kinds, guest: queries.length })
    }
    writeFileSync(join(this.folder, 'case.json'), `${JSON.stringify({ label, snaps }, null, 1)}\n`)
    writeFileSync(join(this.folder, 'console.txt'), `${this.console.join('\n')}\n`)
  }
}

function queryOf({ iova, sizeBytes, physical, readable, writable }: GuestMapping, isLive: boolean): object {
  const range = { src: 'guest', devid: engineDeviceId, iova: hex(iova), size: Number(sizeBytes) }
  return { ...range, pa: isLive ? hex(physical) : null, r: readable ? 1 : 0, wr: writable ? 1 : 0 }
}
