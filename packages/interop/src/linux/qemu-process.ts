/**
 * One run of QEMU with a guest in it: its console line by line, and its end, whatever happens.
 *
 * @packageDocumentation
 */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { InteropError } from '../interop-error.js'
import type { QemuBinary } from '../qemu/qemu-binary.js'

export interface QemuRun {
  readonly qemu: QemuBinary
  readonly args: readonly string[]
  readonly timeoutSeconds: number
  readonly onLine: (line: string) => void
}

/**
 * Runs until QEMU ends.
 *
 * @throws InteropError if it does not start, fails, or takes longer than the timeout: then it is ended
 */
export async function runQemu(
  { qemu, args, timeoutSeconds, onLine }: QemuRun,
  stop: AbortSignal,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const child = spawn(qemu.program, [...qemu.leadingArgs, ...args], {
      env: { ...process.env, ...qemu.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let lastError = ''
    let isLate = false
    const end = (): void => void child.kill('SIGKILL')
    const timer = setTimeout(() => {
      isLate = true
      end()
    }, timeoutSeconds * 1000)
    // Whatever ends this process must not leave QEMU behind.
    process.once('exit', end)
    stop.addEventListener('abort', end)
    const lines = createInterface({ input: child.stdout })
    lines.on('line', (line) => {
      onLine(line.replace(/\r$/, ''))
    })
    createInterface({ input: child.stderr }).on('line', (line) => (lastError = line))
    const finish = (error?: InteropError): void => {
      clearTimeout(timer)
      process.removeListener('exit', end)
      stop.removeEventListener('abort', end)
      if (error === undefined) resolve()
      else reject(error)
    }
    child.on('error', (error) => {
      finish(
        new InteropError(`QEMU cannot be started (${error.message}): see that ${qemu.program} runs here`),
      )
    })
    child.on('close', (code) => {
      if (isLate) {
        const why = `the guest was not done after ${timeoutSeconds} s`
        finish(new InteropError(`${why}: give it longer with --timeout, or read its console with --console`))
      } else if (stop.aborted || code === 0) finish()
      else
        finish(
          new InteropError(
            `QEMU ended with ${String(code)} (${lastError}): see that it runs on this machine`,
          ),
        )
    })
  })
}
