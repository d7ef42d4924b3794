/** The commands that real software needs: what they refuse, and a chip that is served and goes again. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { decodeIvrs } from '@nestwalk/hardware'
import { afterAll, describe, expect, it } from 'vitest'
import { runCommandLine } from '../src/command-line.js'

const folder = mkdtempSync(join(tmpdir(), 'nw-command-'))
afterAll(() => {
  rmSync(folder, { recursive: true })
})
const at = (name: string): string => join(folder, name)

async function run(args: readonly string[], onOutput: (text: string) => void = () => undefined) {
  let [stdout, stderr] = ['', '']
  const code = await runCommandLine(args, {
    stdout: (text) => {
      stdout += text
      onOutput(stdout)
    },
    stderr: (text) => (stderr += text),
  })
  return { code, stdout, stderr }
}

describe('wrong usage is told in one line, with exit code 2:', () => {
  it.each([
    [['linux', '--kernel', '5'], '--kernel 5: it takes 7 or 6.12'],
    [['linux', '--tables', 'v3'], '--tables v3: it takes v1 or v2'],
    [['linux', '--levels', '5'], '--levels is for --tables v2'],
    [['linux', '--tables', 'v2', '--levels', '3'], '--levels 3: it takes 4 or 5'],
    [['linux', '--timeout', 'soon'], '--timeout soon: it takes seconds, 1 to 86400'],
    [['linux', '--features', 'many'], '--features many: it takes EFR, or EFR,EFR2, in hexadecimal'],
    [['linux', '--kernels', '7'], 'kernels'],
    [['serve'], 'nothing cannot be served: it is serve vfio-user or serve iommufd'],
    [['serve', 'tea'], 'tea cannot be served: it is serve vfio-user or serve iommufd'],
    [['serve', 'vfio-user', '--iommu', 'a', '--engine', 'b'], '--ram FILE are all needed'],
    [['serve', 'iommufd'], '--socket SOCK is needed'],
    [['serve', 'iommufd', '--socket', 's', '--backend', 'arm'], '--backend arm: it takes mock or amd'],
    [['serve', 'iommufd', '--socket', 's', '--extensions'], '--extensions is for --backend amd'],
    [['exec', 'true'], 'no program was named: it is exec [OPTIONS] -- PROGRAM'],
    [['exec', '--'], 'no program was named'],
    [['exec', '--grant-caps', 'all', '--', 'true'], '--grant-caps all: it takes a mask in hexadecimal'],
  ])('%j', async (args, told) => {
    const { code, stdout, stderr } = await run(args)
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toContain(told)
    expect(stderr.trim().split('\n')).toHaveLength(1)
  })
})

describe('what cannot be had is told in one line, with exit code 3:', () => {
  it('a QEMU that is not there', async () => {
    const { code, stderr } = await run(['linux', '--qemu', at('no-such-qemu')])
    expect(code).toBe(3)
    expect(stderr).toContain('no-such-qemu')
  })

  it('guest RAM that is not there', async () => {
    const { code, stderr } = await run([
      ...['serve', 'vfio-user', '--iommu', at('i'), '--engine', at('e'), '--ram', at('no-such-ram')],
    ])
    expect(code).toBe(3)
    expect(stderr).toContain('no-such-ram')
    expect(stderr).toContain('memory-backend-file')
  })

  it('a second socket: then the first one is gone too', async () => {
    writeFileSync(at('ram'), new Uint8Array(4096))
    const { code } = await run([
      ...['serve', 'vfio-user', '--iommu', at('first'), '--engine', at('no/such'), '--ram', at('ram')],
    ])
    expect([code, existsSync(at('first'))]).toEqual([3, false])
  })

  it('a socket whose path is too long', async () => {
    writeFileSync(at('ram'), new Uint8Array(4096))
    const { code, stderr } = await run([
      ...['serve', 'vfio-user', '--iommu', at('x'.repeat(120)), '--engine', at('e'), '--ram', at('ram')],
    ])
    expect(code).toBe(3)
    expect(stderr).toContain('may have 1 to 107: choose another')
  })
})

it('serve vfio-user serves both functions, writes the IVRS table, and ends when it is interrupted', async () => {
  writeFileSync(at('ram'), new Uint8Array(4096))
  const connected: boolean[] = []
  const tryBoth = async (): Promise<void> => {
    for (const name of ['iommu', 'engine']) {
      const socket = connect(at(name))
      connected.push(
        await new Promise<boolean>((resolve) => {
          socket.once('connect', () => {
            resolve(true)
          })
          socket.once('error', () => {
            resolve(false)
          })
        }),
      )
      socket.destroy()
    }
    process.emit('SIGTERM')
  }
  const { code, stdout } = await run(
    [
      ...['serve', 'vfio-user', '--iommu', at('iommu'), '--engine', at('engine'), '--ram', at('ram')],
      ...['--ivrs', at('ivrs'), '--features', '1000f000049d1'],
    ],
    () => void tryBoth(),
  )
  expect(code).toBe(0)
  expect(stdout).toContain('end it with Ctrl-C')
  expect(connected).toEqual([true, true])
  const table = decodeIvrs(new Uint8Array(readFileSync(at('ivrs'))))
  expect(table.blocks[0]).toMatchObject({ kind: 'ivhd', efr: 0x1000f000049d1n })
  expect([existsSync(at('iommu')), existsSync(at('engine'))]).toEqual([false, false])
})
