/**
 * `nestwalk exec`: an unmodified program runs, and what it takes for the kernel's `/dev/iommu` is ours.
 *
 * @packageDocumentation
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { ParseArgsConfig } from 'node:util'
import { cacheFolder } from './cache-folder.js'
import { explainer, kernelOf, kernelOptions } from './iommufd-kernel.js'
import { exitCode, UsageError } from './output.js'
import type { Output } from './output.js'

const text = { type: 'string' } as const
const yes = { type: 'boolean' } as const
const options = {
  ...kernelOptions,
  ...{ 'grant-caps': text, 'plain-huge-pages': yes, 'fail-nth': yes },
} satisfies ParseArgsConfig['options']

/** A program that was ended by a signal, as a shell tells it. */
const signalCode = 128

/**
 * Runs the program to its end.
 *
 * @returns its exit code; 3 if it could not be run
 * @throws UsageError for an option that cannot be, or no program
 */
export async function execCommand(args: string[], out: Output): Promise<number> {
  const end = args.indexOf('--')
  const [program, ...programArgs] = end < 0 ? [] : args.slice(end + 1)
  if (program === undefined) throw new UsageError('no program was named: it is exec [OPTIONS] -- PROGRAM')
  const { values } = parseArgs({ args: args.slice(0, end), options, strict: true })
  const grantCapabilities = maskOf(values['grant-caps'])
  const kernel = kernelOf(values)
  const interop = await import('@nestwalk/interop')
  const report = (line: string): void => out.stderr(`nestwalk exec: ${line}\n`)
  const folder = mkdtempSync(join(tmpdir(), 'nestwalk-exec-'))
  try {
    const socket = join(folder, 'socket')
    const library = await interop.buildShim(cacheFolder())
    const server = await interop.serveIommufd({
      ...{ path: socket, kernel, report, onRefused: explainer(values, out) },
    })
    const shim = {
      ...{ library, socket, grantCapabilities },
      ...{ plainForHugePages: values['plain-huge-pages'], failNth: values['fail-nth'] },
    }
    const code = await run(program, programArgs, interop.shimEnvironment(shim, process.env))
    await server.close()
    if (typeof code === 'number') return code
    report(`${program} cannot be run (${code.message})`)
    return exitCode.unreadableInput
  } catch (error) {
    if (!(error instanceof interop.InteropError)) throw error
    report(error.message)
    return exitCode.unreadableInput
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** The exit code of a program, or why it did not start. */
function run(program: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<number | Error> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { env, stdio: 'inherit' })
    // Ctrl-C reaches the program by itself, and it is for the program to end.
    const wait = (): void => undefined
    const pass = (): void => void child.kill('SIGTERM')
    process.on('SIGINT', wait)
    process.on('SIGTERM', pass)
    const settle = (outcome: number | Error): void => {
      process.off('SIGINT', wait)
      process.off('SIGTERM', pass)
      resolve(outcome)
    }
    child.on('error', settle)
    child.on('exit', (code, signal) => {
      settle(code ?? signalCode + (signal === null ? 0 : constants.signals[signal]))
    })
  })
}

/** A mask of capabilities, in hexadecimal. */
function maskOf(word: string | undefined): bigint | undefined {
  if (word === undefined) return undefined
  if (!/^(0x)?[0-9a-f]{1,16}$/i.test(word)) {
    throw new UsageError(`--grant-caps ${word}: it takes a mask in hexadecimal, 1000000 for CAP_SYS_RESOURCE`)
  }
  return BigInt(`0x${word.replace(/^0x/i, '')}`)
}
