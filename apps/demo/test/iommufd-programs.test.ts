/** Programs that use `/dev/iommu` by `nestwalk exec` and `nestwalk serve iommufd`. */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runCommandLine } from '../src/command-line.js'

const folder = mkdtempSync(join(tmpdir(), 'nw-programs-'))
const at = (name: string): string => join(folder, name)
const hasCompiler = spawnSync('cc', ['--version']).status === 0

/** Ends with 10 times the ID of the second IOAS it made, plus the errno of destroying what is not there. */
const program = `
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>
int main(void)
{
  uint32_t alloc[3] = {12, 0, 0}, destroy[2] = {8, 77};
  int fd = open("/dev/iommu", O_RDWR);

  if (fd < 0)
    return 99;
  if (ioctl(fd, 0x3b81, alloc) || ioctl(fd, 0x3b81, alloc))
    return 98;
  return 10 * alloc[2] + (ioctl(fd, 0x3b80, destroy) ? errno : 0);
}
`
const ENOENT = 2

const vmmSource = fileURLToPath(
  new URL('../../../packages/interop/examples/two-guest-domains.c', import.meta.url),
)

beforeAll(() => {
  writeFileSync(at('program.c'), program)
  if (hasCompiler) spawnSync('cc', ['-o', at('program'), at('program.c')])
  process.env['NESTWALK_CACHE'] = at('cache')
})
afterAll(() => {
  rmSync(folder, { recursive: true })
  delete process.env['NESTWALK_CACHE']
})

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

describe.skipIf(!hasCompiler)('nestwalk exec', () => {
  it.each(['mock', 'amd'])(
    'runs a program with a kernel of its own behind /dev/iommu: %s',
    async (backend) => {
      expect(await run(['exec', '--backend', backend, '--', at('program')])).toEqual({
        ...{ code: 20 + ENOENT, stdout: '', stderr: '' },
      })
    },
  )

  it('explains what is refused', async () => {
    const { stderr } = await run(['exec', '--explain', '--', at('program')])
    expect(stderr).toMatch(/^\d+ ioctl 0x3b80: ENOENT by rule no-such-object: .+\n$/)
  })

  it('ends as the program ends', async () => {
    expect((await run(['exec', '--', 'sh', '-c', 'exit 7'])).code).toBe(7)
    expect((await run(['exec', '--', 'sh', '-c', 'kill -9 $$'])).code).toBe(128 + 9)
  })

  it('says when there is no such program', async () => {
    const { code, stderr } = await run(['exec', '--', at('no-such-program')])
    expect(code).toBe(3)
    expect(stderr).toContain('no-such-program cannot be run')
  })
})

describe.skipIf(!hasCompiler)('two-guest-domains.c, a VMM with two devices of a group', () => {
  beforeAll(() => {
    const built = spawnSync('cc', ['-Wall', '-Wextra', '-Werror', '-o', at('vmm'), vmmSource])
    expect(built).toMatchObject({ status: 0 })
  })

  it.each([
    ['G', 1],
    ['S', 1],
    ['D', 0],
    ['N', 0],
    ['M', 0],
    ['M7', 0],
    ['X', 0],
  ])('under %s ends with %i: 1 if a device was served the other’s page', async (policy, code) => {
    const words = ['--backend', 'amd', '--extensions', '--policy', policy]
    const ended = await run(['exec', ...words, '--', 'sh', '-c', `${at('vmm')} > /dev/null`])
    expect(ended).toEqual({ code, stdout: '', stderr: '' })
  })

  it('prints under G what the README shows', async () => {
    const words = ['--backend', 'amd', '--extensions', '--policy', 'G']
    await run(['exec', ...words, '--', 'sh', '-c', `${at('vmm')} > ${at('vmm.txt')}`])
    const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8')
    expect(readme).toContain(`\`\`\`text\n${readFileSync(at('vmm.txt'), 'utf8')}\`\`\``)
  })

  it('cannot make a nested HWPT where Linux 7.3 cannot', async () => {
    const ended = await run([
      'exec',
      ...['--backend', 'amd', '--explain'],
      ...['--', 'sh', '-c', `${at('vmm')} > /dev/null`],
    ])
    expect(ended.code).toBe(2)
    expect(ended.stderr).toContain('EOPNOTSUPP by rule amd-nested-unwired')
  })
})

describe.skipIf(!hasCompiler)('nestwalk serve iommufd', () => {
  it('serves one program after the other, until it is interrupted', async () => {
    const codes: unknown[] = []
    const programs = async (told: string): Promise<void> => {
      const library = /LD_PRELOAD=(\S+)/.exec(told)?.[1]
      const env = { ...process.env, LD_PRELOAD: library, IOMMUFD_SHIM_SOCKET: at('socket') }
      for (let round = 0; round < 2; round++) {
        const child = spawn(at('program'), { env })
        codes.push(await new Promise((resolve) => child.on('exit', resolve)))
      }
      process.emit('SIGTERM')
    }
    const { code, stderr } = await run(
      ['serve', 'iommufd', '--socket', at('socket')],
      (told) => void programs(told),
    )
    expect({ code, stderr, codes }).toEqual({ code: 0, stderr: '', codes: [22, 22] })
    expect(existsSync(at('socket'))).toBe(false)
  })

  it('says when the socket cannot be', async () => {
    const { code, stderr } = await run(['serve', 'iommufd', '--socket', at('no-such-folder/socket')])
    expect(code).toBe(3)
    expect(stderr).toContain('choose another path')
  })
})
