/**
 * `nestwalk linux`: an unmodified Linux kernel boots on the chip and programs it.
 *
 * @packageDocumentation
 */
import { parseArgs } from 'node:util'
import type { ParseArgsConfig } from 'node:util'
import type { KernelChoice, LinuxRun, ServedMachine } from '@nestwalk/interop'
import { cacheFolder } from './cache-folder.js'
import { featuresOf } from './feature-words.js'
import { exitCode, UsageError } from './output.js'
import type { Output } from './output.js'

const text = { type: 'string' } as const
const yes = { type: 'boolean' } as const
const options = {
  ...{ kernel: text, tables: text, levels: text, features: text, timeout: text, record: text, qemu: text },
  ...{ json: yes, console: yes },
} satisfies ParseArgsConfig['options']

/**
 * Runs the command.
 *
 * @returns the exit code: 0 all copies right, 1 something was not, 3 it could not be run
 * @throws UsageError for a value that an option cannot have
 */
export async function linuxCommand(args: string[], out: Output): Promise<number> {
  const { values } = parseArgs({ args, options, strict: true })
  const interop = await import('@nestwalk/interop')
  const kernelChoice = oneOf('--kernel', values.kernel ?? '7', interop.kernelChoices)
  const tables = oneOf('--tables', values.tables ?? 'v1', ['v1', 'v2'])
  const levels = Number(oneOf('--levels', values.levels ?? '4', ['4', '5'])) as 4 | 5
  if (tables === 'v1' && values.levels !== undefined) {
    throw new UsageError('--levels is for --tables v2: v1 tables grow by themselves')
  }
  const timeoutSeconds = secondsOf(values.timeout ?? '300')
  const features = values.features === undefined ? undefined : featuresOf(values.features)
  const isQuiet = values.json === true
  const report = (line: string): void => out.stderr(`${line}\n`)
  const tell = isQuiet ? report : (line: string): void => out.stdout(`${line}\n`)
  const fetch = { cacheFolder: cacheFolder(), report }
  const stop = new AbortController()
  process.once('SIGINT', () => {
    stop.abort()
  })
  try {
    const qemu =
      values.qemu === undefined ? await interop.fetchQemu(fetch) : await interop.ownQemu(values.qemu)
    const kernel = await interop.fetchKernel(kernelChoice satisfies KernelChoice, fetch)
    tell(`Linux ${kernel.version} in QEMU ${qemu.version}, ${tables} tables`)
    tell('Under each line of the driver: what the chip has seen by then.')
    const run = await interop.runLinux({
      ...{ qemu, kernel, tables, levels, features, timeoutSeconds, report, stop: stop.signal },
      recordFolder: values.record,
      onLine: (line, parsed, machine) => {
        if (values.console === true) report(line)
        if (parsed.kind === 'driver' || parsed.kind === 'fault')
          tell(besideChip(parsed.text, parsed.kind, machine))
        if (parsed.kind === 'trouble') report(parsed.text)
      },
    })
    if (isQuiet) out.stdout(`${JSON.stringify(run)}\n`)
    else tell(tableOf(run))
    return isRight(run) ? exitCode.yes : exitCode.no
  } catch (error) {
    if (!(error instanceof interop.InteropError) && !(error instanceof RangeError)) throw error
    out.stderr(`nestwalk linux: ${error.message}\n`)
    return exitCode.unreadableInput
  }
}

/** A line of the driver, and beside it what the chip has seen by then. */
function besideChip(line: string, kind: 'driver' | 'fault', { account }: ServedMachine): string {
  const commands = [...account.commands.values()].reduce((sum, count) => sum + count, 0)
  const seen =
    kind === 'fault'
      ? `${account.events.length} faults, ${account.interrupts} interrupts`
      : `${commands} commands, ${account.translations} translations`
  // Shortened to fit 80 columns.
  const said = line.replace(/^(vfio-pci|pci) 0000:00:/, '').replace('Event logged ', '')
  return `  ${said}\n${`| ${seen}`.padStart(78)}`
}

const isRight = ({ copies, eventLines, trouble }: LinuxRun): boolean =>
  copies.bad === 0 && copies.good > 0 && eventLines.matched === eventLines.printed && trouble.length === 0

function tableOf(run: LinuxRun): string {
  const { copies, eventLines } = run
  const rows: readonly (readonly [string, string])[] = [
    ['copies', `${copies.good} right, ${copies.faulted} refused as expected, ${copies.bad} wrong`],
    ['translations', `${run.translations}`],
    ['faults', `${run.faults}`],
    [
      'event lines',
      `${eventLines.printed} printed by the driver, ${eventLines.matched} as the chip logged them`,
    ],
    ['interrupts', `${run.interrupts} sent, ${run.interruptsCounted} counted by the guest`],
    ['commands', `${run.commands}`],
    ...Object.entries(run.commandsByKind).map(([name, count]) => [`  ${name}`, `${count}`] as const),
  ]
  return ['', ...rows.map(([name, value]) => `${name.padEnd(28)}${value}`)].join('\n')
}

function oneOf<const T extends string>(option: string, value: string, choices: readonly T[]): T {
  const found = choices.find((choice) => choice === value)
  if (found === undefined) throw new UsageError(`${option} ${value}: it takes ${choices.join(' or ')}`)
  return found
}

function secondsOf(value: string): number {
  const seconds = Number(value)
  if (Number.isInteger(seconds) && seconds >= 1 && seconds <= 86_400) return seconds
  throw new UsageError(`--timeout ${value}: it takes seconds, 1 to 86400`)
}
