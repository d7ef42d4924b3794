/**
 * An unmodified Linux kernel on our chip: boots it, has it program the IOMMU and copy through it, and says what came of it.
 *
 * @packageDocumentation
 */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FeatureRegisters } from '@nestwalk/hardware'
import { InteropError } from '../interop-error.js'
import { firstBarAddress, ivrsOf, ServedMachine } from '../machine/served-machine.js'
import type { QemuBinary } from '../qemu/qemu-binary.js'
import { Recorder } from '../recording/recorder.js'
import { readConsoleLine, tellsOf } from './console.js'
import type { ConsoleLine, GuestMapping } from './console.js'
import { initramfsFor } from './initramfs.js'
import type { Kernel } from './kernel.js'
import { runQemu } from './qemu-process.js'

export interface LinuxRunOptions {
  readonly qemu: QemuBinary
  readonly kernel: Kernel
  /** Which tables the driver is asked to use: `amd_iommu=pgtbl_v1` or `pgtbl_v2`. */
  readonly tables: 'v1' | 'v2'
  /** Levels of v2 tables. */
  readonly levels: 4 | 5
  /** Default: {@link featuresFor} the tables. */
  readonly features?: FeatureRegisters | undefined
  readonly timeoutSeconds: number
  /** Takes each line of the console, and what the chip had seen by then. */
  readonly onLine?: (line: string, parsed: ConsoleLine, machine: ServedMachine) => void
  /** Takes one sentence about whatever a peer did wrong. */
  readonly report: (line: string) => void
  /** Where to write the run as a recording; absent: nowhere. */
  readonly recordFolder?: string | undefined
  /** Ends the run early. */
  readonly stop?: AbortSignal | undefined
}

/** What came of a run. */
export interface LinuxRun {
  /** As `uname -r` says. */
  readonly kernel: string
  readonly tables: 'v1' | 'v2'
  readonly levels: number
  /** Copies that were right, refusals that were expected and came, and whatever was not so. */
  readonly copies: { readonly good: number; readonly faulted: number; readonly bad: number }
  readonly commands: number
  readonly commandsByKind: Readonly<Record<string, number>>
  readonly translations: number
  /** Requests that the chip refused. */
  readonly faults: number
  /** Interrupts that the chip sent, and those that the guest's kernel counted: edges close together merge. */
  readonly interrupts: number
  readonly interruptsCounted: number
  /** Faults that the driver printed, and those whose address, domain and flags are the chip's. */
  readonly eventLines: { readonly printed: number; readonly matched: number }
  /** Lines of the guest's program about what went wrong. */
  readonly trouble: readonly string[]
}

const ramMegabytes = 384

/** PreF, IA, GA and HE, six levels of host table; for v2 also GT and GIOSup, with PPR and X2APIC left out. */
const v1Efr = 0x9c1n
const v2Efr = { 4: 0x1000f000049d1n, 5: 0x1000f000059d1n } as const

export function featuresFor(tables: 'v1' | 'v2', levels: 4 | 5): FeatureRegisters {
  return { efr: tables === 'v1' ? v1Efr : v2Efr[levels], efr2: 0n }
}

const commandNames = [
  ...['', 'COMPLETION_WAIT', 'INVALIDATE_DEVTAB_ENTRY', 'INVALIDATE_IOMMU_PAGES', 'INVALIDATE_IOTLB_PAGES'],
  ...['INVALIDATE_INTERRUPT_TABLE', 'PREFETCH_IOMMU_PAGES', 'COMPLETE_PPR_REQUEST', 'INVALIDATE_IOMMU_ALL'],
]

/**
 * Boots, and runs the guest's program to its end.
 *
 * @throws InteropError if it cannot be run, does not end in time, or the guest does not find the IOMMU
 */
export async function runLinux(options: LinuxRunOptions): Promise<LinuxRun> {
  // Paths of sockets are short: so is this folder's.
  const folder = mkdtempSync(join(tmpdir(), 'nw-'))
  try {
    return await runIn(folder, options)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

async function runIn(folder: string, options: LinuxRunOptions): Promise<LinuxRun> {
  const { qemu, kernel, tables, levels, timeoutSeconds, report } = options
  const features = options.features ?? featuresFor(tables, levels)
  const at = (name: string): string => join(folder, name)
  writeFileSync(at('ram'), '')
  truncateSync(at('ram'), ramMegabytes << 20)
  writeFileSync(at('ivrs'), ivrsOf(features))
  writeFileSync(at('initramfs'), await initramfsFor(kernel, folder))
  const machine = await ServedMachine.serve({
    ...{ iommuSocket: at('iommu'), engineSocket: at('engine'), ramFile: at('ram'), features, report },
  })
  const stop = new AbortController()
  options.stop?.addEventListener('abort', () => {
    stop.abort()
  })
  const watch = new RunWatch(machine, options)
  machine.onPlaced = (address) => {
    if (address === firstBarAddress) return
    const hex = (value: number): string => `0x${value.toString(16)}`
    watch.fatal ??= `the registers were moved to ${hex(address)}, and the IVRS says ${hex(firstBarAddress)}: use QEMU's own SeaBIOS`
    stop.abort()
  }
  try {
    const args = qemuArgs(options, at)
    await runQemu({ qemu, args, timeoutSeconds, onLine: (line) => watch.take(line) }, stop.signal)
  } finally {
    await machine.close()
  }
  const run = watch.result()
  watch.record(run)
  return run
}

function qemuArgs({ kernel, tables, levels }: LinuxRunOptions, at: (name: string) => string): string[] {
  const device = (socket: string, address: string): string =>
    JSON.stringify({ driver: 'vfio-user-pci', socket: { path: at(socket), type: 'unix' }, addr: address })
  const words = ['console=ttyS0', 'panic=-1', 'intremap=off', 'iommu=nopt', `amd_iommu=pgtbl_${tables}`]
  return [
    ...['-accel', 'tcg', '-cpu', tables === 'v2' && levels === 5 ? 'EPYC-v4,+la57' : 'EPYC-v4'],
    ...['-machine', 'q35,memory-backend=ram', '-m', `${ramMegabytes}`],
    ...['-object', `memory-backend-file,id=ram,size=${ramMegabytes}M,mem-path=${at('ram')},share=on`],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-serial', 'stdio'],
    ...['-acpitable', `file=${at('ivrs')}`],
    ...['-device', device('iommu', '0x3'), '-device', device('engine', '0x4')],
    ...['-kernel', kernel.vmlinuz, '-initrd', at('initramfs'), '-append', words.join(' ')],
  ]
}

/** Follows a run by the lines of its console. */
class RunWatch {
  /** Why the run was given up. */
  fatal: string | undefined
  private readonly live = new Map<bigint, GuestMapping>()
  private readonly gone = new Map<bigint, GuestMapping>()
  private readonly recorder: Recorder | undefined
  private copies: LinuxRun['copies'] | undefined
  private interruptsCounted = 0
  private printed = 0
  private matched = 0
  private readonly trouble: string[] = []

  constructor(
    private readonly machine: ServedMachine,
    private readonly options: LinuxRunOptions,
  ) {
    const { recordFolder } = options
    this.recorder = recordFolder === undefined ? undefined : new Recorder(recordFolder, ramMegabytes << 20)
    machine.onMark = (mark) => this.recorder?.moment(Number(mark), machine)
  }

  take(text: string): void {
    const line = readConsoleLine(text)
    this.recorder?.line(text)
    switch (line.kind) {
      case 'fault':
        this.printed += 1
        if (this.machine.account.events.some((event) => tellsOf(line, event))) this.matched += 1
        break
      case 'mapped':
        this.live.set(line.mapping.iova, line.mapping)
        for (const [iova, each] of this.gone) if (overlap(each, line.mapping)) this.gone.delete(iova)
        break
      case 'unmapped':
        for (const [iova, mapping] of this.live) {
          if (iova < line.iova || iova >= line.iova + line.sizeBytes) continue
          this.live.delete(iova)
          this.gone.set(iova, mapping)
        }
        break
      case 'mark':
        this.recorder?.mapped(line.mark, [...this.live.values()], [...this.gone.values()])
        break
      case 'copies':
        this.copies = { good: line.good, faulted: line.refused, bad: line.bad }
        break
      case 'interrupts':
        this.interruptsCounted = line.count
        break
      case 'trouble':
        this.trouble.push(line.text)
        break
      default:
    }
    this.options.onLine?.(text, line, this.machine)
  }

  /** Writes the recording, if there is to be one. */
  record({ kernel, tables }: LinuxRun): void {
    this.recorder?.write(`Linux ${kernel}, amd_iommu=pgtbl_${tables}, on the modelled chip`)
  }

  /** @throws InteropError if the guest's program did not come to its end */
  result(): LinuxRun {
    if (this.fatal !== undefined) throw new InteropError(this.fatal)
    if (this.copies === undefined) {
      const said = this.trouble.at(-1)
      throw new InteropError(
        said === undefined
          ? 'the guest ended before its program was done: read its console with --console'
          : `the guest gave up (${said}): read its console with --console`,
      )
    }
    const { commands, translations, interrupts, events } = this.machine.account
    const named = [...commands].sort(([a], [b]) => a - b)
    return {
      kernel: this.options.kernel.version,
      tables: this.options.tables,
      levels: this.options.tables === 'v1' ? 6 : this.options.levels,
      copies: this.copies,
      commands: named.reduce((sum, [, count]) => sum + count, 0),
      commandsByKind: Object.fromEntries(
        named.map(([opcode, count]) => [commandNames[opcode] ?? `opcode ${opcode}`, count]),
      ),
      translations,
      faults: events.length,
      interrupts,
      interruptsCounted: this.interruptsCounted,
      eventLines: { printed: this.printed, matched: this.matched },
      trouble: this.trouble,
    }
  }
}

const overlap = (a: GuestMapping, b: GuestMapping): boolean =>
  a.iova < b.iova + b.sizeBytes && b.iova < a.iova + a.sizeBytes
