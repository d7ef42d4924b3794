/** An ordinary program with the shim in it: `test/shim-probe.c` says what it expects of each call. */
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildShim, serveIommufd, shimEnvironment } from '../src/index.js'
import { FakeKernel } from './fake-kernel.js'

const source = fileURLToPath(new URL('shim-probe.c', import.meta.url))
const hasCompiler = spawnSync('cc', ['--version']).status === 0

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'shim-'))
})
afterAll(() => {
  rmSync(folder, { recursive: true })
})

/** Runs a program, and returns what it printed. */
function outputOf(program: string, env: NodeJS.ProcessEnv): Promise<string> {
  return new Promise((resolve) => {
    const child = spawn(program, { env, stdio: ['pipe', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
    child.on('close', (code, signal) => {
      resolve(`${text}ended with ${String(code ?? signal)}\n`)
    })
  })
}

describe.skipIf(!hasCompiler)('a program with the shim', () => {
  it('finds every call answered as by a kernel, and leaves nothing open', async () => {
    const program = join(folder, 'probe')
    const built = spawnSync('cc', ['-O2', '-D_FORTIFY_SOURCE=2', '-w', '-o', program, source], {
      encoding: 'utf8',
    })
    expect(built).toMatchObject({ status: 0, stderr: '' })
    const [kernel, reports] = [new FakeKernel(), [] as string[]]
    const socket = join(folder, 'socket')
    const server = await serveIommufd({ path: socket, kernel, report: (line) => reports.push(line) })
    const library = await buildShim(join(folder, 'cache'))
    const options = { library, socket, grantCapabilities: 1n << 24n, plainForHugePages: true, failNth: true }
    const output = await outputOf(program, shimEnvironment(options, process.env))
    const lines = output.trim().split('\n')
    expect(lines.filter((line) => !line.startsWith('ok - '))).toEqual(['ended with 0'])
    expect(lines.length).toBeGreaterThan(50)
    expect(kernel.calls.filter((call) => call.startsWith('write'))).toEqual([
      'write 9,8,7 of 3 at -1',
      'write 9,8 of 2 at 16',
    ])
    expect([kernel.openFiles, kernel.mapped, reports]).toEqual([0, 0, []])
    await server.close()
  })

  it('is as before without a server', async () => {
    const library = await buildShim(join(folder, 'cache'))
    const output = await outputOf('/bin/pwd', { ...process.env, LD_PRELOAD: library })
    expect(output).toBe(`${process.cwd()}\nended with 0\n`)
  })

  it('has no /dev/iommu while nobody listens', async () => {
    const library = await buildShim(join(folder, 'cache'))
    const options = { library, socket: join(folder, 'nobody') }
    const output = await outputOf(join(folder, 'probe'), shimEnvironment(options, process.env))
    expect(output).toBe('not ok - it opens: No such file or directory\nended with 1\n')
  })
})
