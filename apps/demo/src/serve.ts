/**
 * `nestwalk serve`: the model as a server that other programs use.
 *
 * @packageDocumentation
 */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { ParseArgsConfig } from 'node:util'
import { featuresOf } from './feature-words.js'
import { exitCode, UsageError } from './output.js'
import type { Output } from './output.js'

const text = { type: 'string' } as const
const options = {
  ...{ iommu: text, engine: text, ram: text, features: text, ivrs: text },
} satisfies ParseArgsConfig['options']

/**
 * Serves until interrupted.
 *
 * @returns the exit code: 0 interrupted, 3 it could not be served
 * @throws UsageError for an option that is missing or cannot be
 */
export async function serveCommand(args: string[], out: Output): Promise<number> {
  const { values, positionals } = parseArgs({ args, options, strict: true, allowPositionals: true })
  const [what, ...more] = positionals
  if (what !== 'vfio-user' || more.length > 0) {
    throw new UsageError(`${positionals.join(' ') || 'nothing'} cannot be served: it is serve vfio-user`)
  }
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
    await new Promise<void>((resolve) => {
      process.once('SIGINT', resolve)
      process.once('SIGTERM', resolve)
    })
    await machine.close()
    return exitCode.yes
  } catch (error) {
    if (!(error instanceof interop.InteropError) && !(error instanceof RangeError)) throw error
    out.stderr(`nestwalk serve: ${error.message}\n`)
    return exitCode.unreadableInput
  }
}
