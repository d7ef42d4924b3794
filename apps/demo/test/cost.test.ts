/** `nestwalk cost`: the worked example's figures, the same for people and for programs, and what it refuses. */
import { describe, expect, it } from 'vitest'
import { runCommandLine } from '../src/command-line.js'

async function run(...args: string[]) {
  let [stdout, stderr] = ['', '']
  const code = await runCommandLine(['cost', ...args], {
    stdout: (text) => (stdout += text),
    stderr: (text) => (stderr += text),
  })
  return { code, stdout, stderr }
}

/** Policy, DomainIDs, stage-2 unmap, stage-1 unmap. */
const nested = [
  ['G', 4, 14, 7],
  ['D', 8, 18, 9],
  ['S', 1, 12, 6],
  ['N', 5, 16, 7],
  ['M', 4, 15, 6],
] as const

it('prints the worked example for programs', async () => {
  const { code, stdout } = await run('--worked-example', '--json')
  expect(code).toBe(0)
  const { policies, hostOwned } = JSON.parse(stdout) as { policies: object[]; hostOwned: object[] }
  expect(policies.slice(0, 5)).toEqual(
    nested.map(([policy, domainIds, stage2Unmap, stage1Unmap]) => ({
      ...{ policy, domainIds, gcr3Pages: 0, stage2Unmap, stage1Unmap },
    })),
  )
  expect(hostOwned).toEqual([
    { policy: 'M', domainIds: 9, gcr3Pages: 16, unmap: 18, processUnmap: 24 },
    { policy: 'X', domainIds: 2, gcr3Pages: 2, unmap: 12, processUnmap: 12 },
  ])
})

it('prints the same for people in 80 columns, beside what must come out on paper', async () => {
  const { code, stdout } = await run('--worked-example')
  expect(code).toBe(0)
  const lines = stdout.split('\n')
  expect(Math.max(...lines.map(({ length }) => length))).toBeLessThanOrEqual(80)
  const cells = (letter: string): string[] =>
    lines
      .find((line) => line.startsWith(`${letter} `))
      ?.split(/ {2,}/)
      .slice(1) ?? []
  for (const [letter, ...figures] of nested) {
    expect(cells(letter)).toEqual(figures.map((figure) => `${figure} (${figure})`))
  }
})

it('takes a setting of its own', async () => {
  const { code, stdout } = await run(
    ...['--devices', '3', '--groups', '3', '--iommus', '1', '--ats', '0', '--sharing', '3', '--json'],
  )
  expect(code).toBe(0)
  const { setting, policies } = JSON.parse(stdout) as { setting: object; policies: object[] }
  expect(setting).toMatchObject({ devices: 3, groups: 3, iommus: 1, atsDevices: 0, sharingGroups: 3 })
  expect(policies[1]).toEqual({ policy: 'D', domainIds: 3, gcr3Pages: 0, stage2Unmap: 4, stage1Unmap: 4 })
})

describe('wrong usage is told in one line, with exit code 2:', () => {
  it.each([
    [['--devices', '65'], '--devices 65 is not a whole number from 1 to 64'],
    [['--devices', 'many'], '--devices many: it takes a whole number'],
    [['--groups', '9'], '--groups 9 is not a whole number from 1 to 8'],
    [['--ats', '9'], '--ats 9 is not a whole number from 0 to 8'],
    [['--sharing', '3'], '--sharing 3 is not a whole number from 1 to 2'],
    [['--pasids', '4097'], '--pasids 4097 is not a whole number from 1 to 4096'],
    [['--worked-example', '--ats', '1'], '--ats and --worked-example: it is one or the other'],
    [['--colour'], 'colour'],
  ])('%j', async (args, told) => {
    const { code, stdout, stderr } = await run(...args)
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toContain(told)
    expect(stderr.trim().split('\n')).toHaveLength(1)
  })
})
