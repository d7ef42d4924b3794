/**
 * `nestwalk serve`: the model as a server that other programs use.
 *
 * @packageDocumentation
 */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { ParseArgsConfig } from 'node:util'
import { cacheFolder } from './cache-folder.js'
import { featuresOf } from './feature-words.js'
import { explainer, kernelOf, kernelOptions } from './iommufd-kernel.js'
import { exitCode, UsageError } from './output.js'
import type { Output } from './output.js'

const text = { type: 'string' } as const
const machineOptions = {
  ...{ iommu: text, engine: text, ram: text, features: text, ivrs: text },
} satisfies ParseArgsConfig['options']
const iommufdOptions = { socket: text, ...kernelOptions } satisfies ParseArgsConfig['options']

/**
 * Serves until interrupted.
 *
 * @returns the exit code: 0 interrupted, 3 it could not be served
 * @throws UsageError for an option that is missing or cannot be
 */
export async function serveCommand(args: string[], out: Output): Promise<number> {
  const [what = 'nothing', ...rest] = args
  if (what === 'vfio-user') return await serveMachine(rest, out)
  if (what === 'iommufd') return await serveKernel(rest, out)
  throw new UsageError(`${what} cannot be served: it is serve vfio-user or serve iommufd`)
}

/** `/dev/iommu` for programs on this machine. */
async function serveKernel(args: string[], out: Output): Promise<number> {
  const { values } = parseArgs({ args, options: iommufdOptions, strict: true })
  const { socket: path } = values
  if (path === undefined) throw new UsageError('--socket SOCK is needed')
  const kernel = kernelOf(values)
  const interop = await import('@nestwalk/interop')
  const report = (line: string): void => out.stderr(`${line}\n`)
  try {
    const library = await interop.buildShim(cacheFolder())
    const server = await interop.serveIommufd({
      ...{ path, kernel, report, onRefused: explainer(values, out) },
    })
    out.stdout(
      `serving /dev/iommu at ${path}: end it with Ctrl-C\n` +
        `a program uses it when started with IOMMUFD_SHIM_SOCKET=${path} LD_PRELOAD=${library}\n`,
    )
    await interrupted()
    await server.close()
    return exitCode.yes
  } catch (error) {
    if (!(error instanceof interop.InteropError)) throw error
    out.stderr(`nestwalk serve: ${error.message}\n`)
    return exitCode.unreadableInput
  }
}

/** The chip, and a copy engine behind it, for a VMM. */
async function serveMachine(args: string[], out: Output): Promise<number> {
  const { values } = parseArgs({ args, options: machineOptions, strict: true })
  const { iommu: iommuSocket, engine: engineSocket, ram: ramFile } = values
  if (iommuSocket === undefined || engineSocket === undefined || ramFile === undefined) {
    throw new UsageError('--iommu SOCK, --engine SOCK and --ram FILE are all needed')
  }
  const interop = await import('@nestwalk/interop')
  const features = values.features === undefined ? interop.featuresFor('v1', 4) : featuresOf(values.features)
  const report = (line: string): void => out.stderr(`${line}\n`)
  try {
    const machine = await interop.ServedMachine.serve({
      iommuSocket,
      engineSocket,
      ramFile,
      features,
      report,
    })
    if (values.ivrs !== undefined) writeFileSync(values.ivrs, interop.ivrsOf(features))
    out.stdout(
      `serving the IOMMU at ${iommuSocket} and the copy engine at ${engineSocket}: end it with Ctrl-C\n`,
    )
    await interrupted()
    await machine.close()
    return exitCode.yes
  } catch (error) {
    if (!(error instanceof interop.InteropError) && !(error instanceof RangeError)) throw error
    out.stderr(`nestwalk serve: ${error.message}\n`)
    return exitCode.unreadableInput
  }
}

function interrupted(): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      process.off('SIGINT', end)
      process.off('SIGTERM', end)
      resolve()
    }
    process.on('SIGINT', end)
    process.on('SIGTERM', end)
  })
}
