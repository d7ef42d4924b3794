/**
 * Runs a program of this machine to its end.
 *
 * @packageDocumentation
 */
import { spawn } from 'node:child_process'
import { InteropError } from './interop-error.js'

export interface ProgramOptions {
  readonly cwd?: string
  readonly input?: Uint8Array
  /** What to do where the program is missing, for the error's text: "install it with ...". */
  readonly cure: string
}

/**
 * Its standard output.
 *
 * @throws InteropError if it is not there or says no, with the last line of what it said
 */
export async function runProgram(
  program: string,
  args: readonly string[],
  options: ProgramOptions,
): Promise<Buffer> {
  return await new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: options.cwd, stdio: ['pipe', 'pipe', 'pipe'] })
    const out: Buffer[] = []
    const err: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk))
    child.on('error', () => {
      reject(new InteropError(`${program} cannot be run: ${options.cure}`))
    })
    child.on('close', (code) => {
      if (code === 0) {
        resolve(Buffer.concat(out))
        return
      }
      const said = Buffer.concat(err).toString().trim().split('\n').at(-1) ?? ''
      reject(new InteropError(`${program} failed (${said || `exit ${String(code)}`}): ${options.cure}`))
    })
    // A program that does not read its input may close it.
    child.stdin.on('error', () => undefined)
    child.stdin.end(options.input)
  })
}
