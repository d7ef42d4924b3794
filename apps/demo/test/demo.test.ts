import { stripVTControlCharacters } from 'node:util'
import { policies } from '@nestwalk/driver'
import { shownPolicies } from '../src/verdict-table.js'
import { scenarios } from '@nestwalk/scenario'
import { beforeAll, describe, expect, it } from 'vitest'
import { runCommandLine } from '../src/command-line.js'
import { plain } from '../src/paint.js'
import { tellDevices, tellStory } from '../src/story.js'
import { judge } from '../src/verdict.js'

interface Run {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

async function run(args: readonly string[], terminal?: boolean): Promise<Run> {
  let stdout = ''
  let stderr = ''
  const code = await runCommandLine(args, {
    stdout: (text) => (stdout += text),
    stderr: (text) => (stderr += text),
    ...(terminal === undefined ? {} : { isStdoutTerminal: terminal }),
  })
  return { code, stdout, stderr }
}

const escape = '\u001B['

const longest = (text: string): number => Math.max(...text.split('\n').map((line) => line.length))

const storyOf = (text: string): string => text.slice(0, text.indexOf('Every scenario under every policy'))

/** What `nestwalk demo` and `nestwalk demo --json` print. */
let [founding, json] = [
  { code: -1, stdout: '', stderr: '' },
  { code: -1, stdout: '', stderr: '' },
]
beforeAll(async () => {
  founding = await run(['demo'])
  json = await run(['demo', '--json'])
})

describe('nestwalk demo', () => {
  it('tells the founding story: what was filled, who hit it, what it got and should have got', () => {
    const { code, stdout, stderr } = founding
    expect([code, stderr]).toEqual([0, ''])
    expect(stdout).toContain(
      'S01, one group, two guest domains\nPolicy G: one DomainID for each IOMMU group\n',
    )
    expect(stdout).toContain(`
  D1         reads 0x40203000
             walks the tables, fills tag (DomainID 1, PASID 0, 0x40203000)
             gets SPA 0x2345000, should get SPA 0x2345000: ok

  D2         reads 0x40203000
             HITS tag (DomainID 1, PASID 0, 0x40203000), filled by D1
             gets SPA 0x2345000, should get SPA 0x2567000: cross
`)
  })

  it('tells which entries guest and host write', () => {
    const { stdout } = founding
    expect(stdout).toMatch(/VM1 guest {2}DTE 00:02\.0 := DomainID 2, GCR3 at GPA (0x[0-9a-f]+)\n/)
    expect(stdout).toMatch(/host {7}DTE 00:04\.0 := DomainID 1, GCR3 at GPA (0x[0-9a-f]+), nested\n/)
  })

  it('has a table with every scenario and every policy', () => {
    const lines = founding.stdout.split('\n')
    const head = lines.findIndex((line) => line.trimStart().startsWith('G  '))
    expect(lines[head]?.trim().split(/\s+/)).toEqual(shownPolicies.map(({ letter }) => letter))
    expect(lines.slice(head + 1, head + 6).map((line) => line.split(/ {2,}|(?<=^S\d\d) /))).toEqual(
      scenarios.map(({ id }) => [
        id,
        ...shownPolicies.map((): unknown => expect.stringMatching(/^[a-z]+ \d+\/\d+$/)),
      ]),
    )
  })

  it.each(policies.map(({ letter }) => letter))('fits 80 columns under %s', async (letter) => {
    const { code, stdout } = await run(['demo', '--policy', letter])
    expect(code).toBe(0)
    expect(longest(stdout)).toBeLessThanOrEqual(80)
  })

  it.each(scenarios)('tells $id in 80 columns under every policy', (scenario) => {
    for (const policy of shownPolicies) {
      const judgement = judge(scenario, policy)
      const lines = [...tellDevices(judgement), ...tellStory(judgement, plain)]
      expect(longest(lines.join('\n'))).toBeLessThanOrEqual(80)
    }
  })

  it('has colours for a terminal only, and the same text', async () => {
    const [file, terminal] = [await run(['demo'], false), await run(['demo'], true)]
    expect(founding.stdout).not.toContain(escape)
    expect(file.stdout).toBe(founding.stdout)
    expect(terminal.stdout).toContain(escape)
    expect(stripVTControlCharacters(terminal.stdout)).toBe(file.stdout)
  })

  it('prints the same bytes every time', async () => {
    expect(await run(['demo'])).toEqual(founding)
    expect(await run(['demo', '--json'], true)).toEqual(json)
  })

  it('takes a policy by letter, in lower case, and by name', async () => {
    const [letter, lower, name] = [
      await run(['demo', '--policy', 'M7']),
      await run(['demo', '--policy=m7']),
      await run(['demo', '--policy', 'viommu-map-linux-7.3']),
    ]
    expect(letter.stdout).toContain('\nPolicy M7: ')
    expect(storyOf(letter.stdout)).not.toContain('cross')
    expect(storyOf(letter.stdout)).not.toBe(storyOf(founding.stdout))
    expect(lower).toEqual(letter)
    expect(name).toEqual(letter)
  })

  it('takes a scenario by its number, in upper or lower case', async () => {
    const [upper, lower] = [
      await run(['demo', '--scenario', 'S07', '--policy', 'M7']),
      await run(['demo', '--scenario', 's07', '--policy', 'M7']),
    ]
    expect(upper.stdout).toContain('\nS07, a freed DomainID is handed to another VM\n')
    expect(storyOf(upper.stdout)).toMatch(/HITS tag .* filled by D1\n.*: leak\n/)
    expect(lower).toEqual(upper)
  })
})

it('--json is one object with the verdicts and nothing else', () => {
  const { code, stdout, stderr } = json
  expect([code, stderr]).toEqual([0, ''])
  const rows = shownPolicies.map(({ letter }) => letter)
  const cell = { verdict: expect.any(String) as unknown, domainIds: expect.any(Number) as unknown }
  expect(JSON.parse(stdout)).toEqual({
    verdicts: scenarios.flatMap(({ id }) =>
      rows.map((policy) => ({ scenario: id, policy, ...cell, commands: expect.any(Number) as unknown })),
    ),
  })
})

it('--json says what the table says', () => {
  const { verdicts } = JSON.parse(json.stdout) as {
    verdicts: readonly Record<'verdict' | 'domainIds' | 'commands', string | number>[]
  }
  const cells = [...founding.stdout.matchAll(/(?<= )([a-z]+ \d+\/\d+)(?= |\n)/g)].map(([cell]) => cell)
  expect(cells).toEqual(verdicts.map((each) => `${each.verdict} ${each.domainIds}/${each.commands}`))
})

describe('wrong usage: exit code 2, one sentence on stderr, nothing on stdout', () => {
  it.each([
    { args: ['demo', '--policy', 'Z'], says: 'there is no policy Z: choose one of G (per-group)' },
    { args: ['demo', '--policy', ''], says: 'there is no policy' },
    { args: ['demo', '--json', '--policy', 'Z'], says: 'there is no policy Z' },
    { args: ['demo', '--scenario', 'S99'], says: 'there is no scenario S99: choose one of S01, S02' },
    { args: ['demo', '--colour'], says: "Unknown option '--colour'" },
    { args: ['demo', '-x'], says: "Unknown option '-x'" },
    { args: ['demo', '--policy'], says: "'--policy <value>' argument missing" },
    { args: ['demo', '--policy', '--json'], says: "'--policy' argument is ambiguous" },
    { args: ['demo', '--json=yes'], says: "'--json' does not take an argument" },
    { args: ['demo', 'S01'], says: "Unexpected argument 'S01'" },
    { args: ['replay', 'a', 'b'], says: 'one folder at a time' },
    { args: ['dance'], says: 'there is no command dance' },
    { args: ['--json'], says: 'there is no command --json' },
    { args: ['toString'], says: 'there is no command toString' },
  ])('$args', async ({ args, says }) => {
    const { code, stdout, stderr } = await run(args)
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toContain(says)
    expect(stderr).toMatch(/^nestwalk[^\n]*\n$/)
  })

  it('no command at all: the usage', async () => {
    const { code, stdout, stderr } = await run([])
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toBe((await run(['--help'])).stdout)
  })
})

it.each([[['--help']], [['-h']], [['help']], [['demo', '--help']], [['replay', '--help']]])(
  '%j shows the usage with exit code 0',
  async (args) => {
    const { code, stdout, stderr } = await run(args)
    expect([code, stderr]).toEqual([0, ''])
    expect(stdout).toContain('nestwalk demo [--policy P] [--scenario S] [--json]\n')
    expect(longest(stdout)).toBeLessThanOrEqual(80)
  },
)
