/**
 * The command line of `nestwalk`: which command, with which options.
 *
 * @packageDocumentation
 */
import { parseArgs } from 'node:util'
import type { ParseArgsConfig } from 'node:util'
import { costCommand } from './cost.js'
import { demoCommand } from './demo.js'
import { explainCommand } from './explain.js'
import { execCommand } from './exec.js'
import { linuxCommand } from './linux.js'
import { exitCode, UsageError } from './output.js'
import type { Output } from './output.js'
import { replayCommand } from './replay.js'
import { serveCommand } from './serve.js'

const usage = `nestwalk: nested translation on the AMD IOMMU, run and judged

  nestwalk demo [--policy P] [--scenario S] [--json]
      the founding story step by step, then every scenario under every policy;
      P is a policy's letter or name, S a scenario's number
  nestwalk replay DIR [--json]
      holds the chip against the recorded translations below a folder
  nestwalk cost [--devices N] [--groups N] [--iommus N] [--ats N] [--sharing N]
                [--pasids N] [--worked-example] [--json]
      DomainIDs, GCR3 pages and commands of each policy, counted by running it
  nestwalk explain [ERRNO] [CALL] [--json]
      why a call of /dev/iommu can fail: every rule that gives this errno
  nestwalk linux [--kernel 7|6.12] [--tables v1|v2] [--levels 4|5]
                 [--features EFR[,EFR2]] [--timeout SECONDS] [--record DIR]
                 [--qemu PROGRAM] [--console] [--json]
      an unmodified Linux kernel boots on the chip and copies through it
  nestwalk serve vfio-user --iommu SOCK --engine SOCK --ram FILE
                 [--features EFR[,EFR2]] [--ivrs FILE]
      serves the chip and a copy engine behind it to a VMM, until interrupted
  nestwalk serve iommufd --socket SOCK [--backend mock|amd] [--extensions]
                 [--policy P] [--explain]
      serves /dev/iommu to programs on this machine, until interrupted
  nestwalk exec [--backend mock|amd] [--extensions] [--policy P] [--explain]
                [--grant-caps MASK] [--plain-huge-pages] [--fail-nth]
                -- PROGRAM [ARGS]
      runs a program whose /dev/iommu is the model's, and ends as it ends

Exit codes: 0 yes, 1 the answer is no, 2 wrong usage, 3 unreadable input,
or something that is needed cannot be had.
`

const json = { type: 'boolean' } as const
const text = { type: 'string' } as const

/** Runs a command line, without the name of the program, and returns the exit code. */
export async function runCommandLine(args: readonly string[], out: Output): Promise<number> {
  const [command, ...rest] = args
  try {
    switch (command) {
      case 'demo':
        return demo(rest, out)
      case 'replay':
        return await replay(rest, out)
      case 'cost':
        return isHelp(rest) ? showUsage(out) : costCommand(rest, out)
      case 'explain':
        return isHelp(rest) ? showUsage(out) : explainCommand(rest, out)
      case 'linux':
        return isHelp(rest) ? showUsage(out) : await linuxCommand(rest, out)
      case 'serve':
        return isHelp(rest) ? showUsage(out) : await serveCommand(rest, out)
      case 'exec':
        return isHelp(ownArgs(rest)) ? showUsage(out) : await execCommand(rest, out)
      case 'help':
      case '--help':
      case '-h':
        out.stdout(usage)
        return exitCode.yes
      case undefined:
        out.stderr(usage)
        return exitCode.wrongUsage
      default:
        out.stderr(`nestwalk: there is no command ${command}: try nestwalk --help\n`)
        return exitCode.wrongUsage
    }
  } catch (error) {
    if (!isUsageError(error) && !(error instanceof UsageError)) throw error
    out.stderr(`nestwalk ${command ?? ''}: ${firstSentence(error.message)}: try nestwalk --help\n`)
    return exitCode.wrongUsage
  }
}

function demo(args: string[], out: Output): number {
  const options = { policy: text, scenario: text, json, help: json } satisfies ParseArgsConfig['options']
  const { values } = parseArgs({ args, options, strict: true })
  if (values.help === true) return showUsage(out)
  return demoCommand({ policy: values.policy, scenario: values.scenario, json: values.json ?? false }, out)
}

async function replay(args: string[], out: Output): Promise<number> {
  const options = { json, help: json } satisfies ParseArgsConfig['options']
  const { values, positionals } = parseArgs({ args, options, strict: true, allowPositionals: true })
  if (values.help === true) return showUsage(out)
  if (positionals.length > 1) {
    out.stderr(`nestwalk replay: one folder at a time, not ${positionals.length}\n`)
    return exitCode.wrongUsage
  }
  return await replayCommand({ directory: positionals[0], json: values.json ?? false }, out)
}

function showUsage(out: Output): number {
  out.stdout(usage)
  return exitCode.yes
}

const isHelp = (args: readonly string[]): boolean => args.includes('--help')

/** Those before `--`, after which come a program's. */
const ownArgs = (args: readonly string[]): readonly string[] =>
  args.includes('--') ? args.slice(0, args.indexOf('--')) : args

/** Errors of `parseArgs` carry codes of their own. */
const isUsageError = (error: unknown): error is Error =>
  error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS')

const firstSentence = (message: string): string => message.split(/\.\s/)[0] ?? message
