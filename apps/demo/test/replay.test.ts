import { cp, mkdir, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync, gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { replayCommand } from '../src/replay.js'

const corpus = fileURLToPath(new URL('../../../packages/hardware/corpus/', import.meta.url))

interface Run {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

async function run(
  directory: string | undefined,
  options: { json?: boolean; terminal?: boolean } = {},
): Promise<Run> {
  let stdout = ''
  let stderr = ''
  const code = await replayCommand(
    { directory, json: options.json === true },
    {
      stdout: (text) => (stdout += text),
      stderr: (text) => (stderr += text),
      isStderrTerminal: options.terminal === true,
    },
  )
  return { code, stdout, stderr }
}

let temporary = ''
beforeAll(async () => {
  temporary = await mkdtemp(join(tmpdir(), 'nestwalk-replay-'))
})
afterAll(() => rm(temporary, { recursive: true }))

let folders = 0

/** A new folder with copies of snapshots; `from` is such as `synthetic/segments/s00`. */
async function folderWith(...from: readonly string[]): Promise<string> {
  folders += 1
  const folder = join(temporary, String(folders))
  await mkdir(folder)
  for (const name of from) {
    for (const suffix of ['json', 'pages.gz']) {
      const file = name.replace(/([^/]+)$/, `snap-$1.${suffix}`)
      await mkdir(dirname(join(folder, file)), { recursive: true })
      await cp(join(corpus, file), join(folder, file))
    }
  }
  return folder
}

/** A folder with one snapshot, whose description was edited. */
async function edited(
  edit: (json: { pages: string[]; queries: Record<string, unknown>[] }) => void,
): Promise<string> {
  const folder = await folderWith('synthetic/segments/s00')
  const path = join(folder, 'synthetic/segments/snap-s00.json')
  const json = JSON.parse(await readFile(path, 'utf8')) as Parameters<typeof edit>[0]
  edit(json)
  await writeFile(path, JSON.stringify(json))
  return folder
}

const wrongAddresses = (count: number): Promise<string> =>
  edited(({ queries }) => {
    for (const query of queries.slice(0, count)) query['pa'] = query['pa'] === null ? '0x1000' : null
  })

describe('a replay that agrees', () => {
  it('prints a line per snapshot, in the order of their paths, the total and the verdict', async () => {
    const folder = await folderWith(
      'synthetic/segments/s01',
      'synthetic/segments/s00',
      'qemu-linux/k73-strict/early',
    )
    const { code, stdout, stderr } = await run(folder)
    expect(stdout).toMatchInlineSnapshot(`
      "snapshot                      queries  compared   skipped  mismatches
      qemu-linux/k73-strict/early         0         0         0           0
      synthetic/segments/s00            100       100         0           0
      synthetic/segments/s01            100       100         0           0
      total                             200       200         0           0

      3 snapshots of 2 cases: the chip agrees with every answer compared
      "
    `)
    expect(stderr).toBe('')
    expect(code).toBe(0)
  })

  it('stays within 80 columns, whatever the names', async () => {
    const folder = await folderWith('synthetic/segments/s00')
    const deep = join(folder, ...Array.from({ length: 6 }, (_, i) => `a-folder-with-a-long-name-${i}`))
    await cp(join(folder, 'synthetic'), deep, { recursive: true })
    const { code, stdout } = await run(folder)
    expect(code).toBe(0)
    expect(Math.max(...stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80)
  })

  it('names a snapshot that lies in the folder itself after the folder', async () => {
    const { stdout } = await run(join(corpus, 'synthetic/segments'))
    expect(stdout).toContain('\nsegments/s00 ')
  })

  it('prints one JSON object and nothing else with --json', async () => {
    const { code, stdout, stderr } = await run(join(corpus, 'synthetic/segments'), { json: true })
    expect(JSON.parse(stdout)).toEqual({
      cases: 1,
      snapshots: 2,
      queries: 200,
      compared: 200,
      skipped: {},
      mismatches: 0,
      requests: 200,
      open: { 'above-width': 20, 'devid-beyond-table': 22 },
      firstMismatches: [],
      interrupts: {
        traces: 0,
        interrupts: 0,
        compared: 0,
        skipped: {},
        mismatches: 0,
        firstMismatches: [],
      },
    })
    expect(stderr).toBe('')
    expect(code).toBe(0)
  })

  it('shows progress on stderr only where somebody watches it, and clears it in the end', async () => {
    const { stderr } = await run(join(corpus, 'synthetic/segments'), { json: true, terminal: true })
    expect(stderr).toContain('0 of 2: segments/s00')
    expect(stderr.endsWith('\r\u001b[K')).toBe(true)
  })
})

describe('a replay that does not agree', () => {
  it('tells a mismatch in full and returns 1', async () => {
    const { code, stdout } = await run(await wrongAddresses(1))
    expect(stdout.split('\n').slice(-7).join('\n')).toMatchInlineSnapshot(`
      "mismatches:
        synthetic/segments/s00, query 0 (model): 81:0f.7 reads 0x800000000401abc
          expected  0x1000
          got       refused with IoPageFault 7f8100006d7b0020bc1a400000000008

      1 snapshot of 1 case: the chip disagrees with 1 answer
      "
    `)
    expect(code).toBe(1)
  })

  it('tells the first ten of many', async () => {
    const { code, stdout } = await run(await wrongAddresses(13))
    expect(stdout).toContain('\nthe first 10 of 13 mismatches:\n')
    expect(stdout.match(/expected/g)).toHaveLength(10)
    expect(stdout).toContain(': the chip disagrees with 13 answers\n')
    expect(code).toBe(1)
  })

  it('has them in its JSON, too', async () => {
    const { code, stdout } = await run(await wrongAddresses(1), { json: true })
    const { mismatches, firstMismatches } = JSON.parse(stdout) as {
      mismatches: number
      firstMismatches: object[]
    }
    expect(mismatches).toBe(1)
    expect(firstMismatches[0]).toMatchObject({ snapshot: 'synthetic/segments/s00', query: 0, src: 'model' })
    expect(code).toBe(1)
  })
})

describe('wrong usage returns 2', () => {
  const refused = (stderr: RegExp): object => ({
    code: 2,
    stdout: '',
    stderr: expect.stringMatching(stderr) as string,
  })

  it('without a folder', async () => {
    expect(await run(undefined)).toEqual(refused(/^nestwalk replay: no folder is named: [^\n]+\n$/))
  })

  it('with a folder that does not exist, or a file', async () => {
    expect(await run('/nowhere/at/all')).toEqual(
      refused(/^nestwalk replay: \/nowhere\/at\/all is no folder: [^\n]+\n$/),
    )
    const file = join(corpus, 'synthetic/README.md')
    expect(await run(file)).toEqual(refused(/README\.md is no folder: [^\n]+\n$/))
  })

  it('with a folder without snapshots', async () => {
    expect(await run(await folderWith())).toEqual(refused(/ holds no snapshots: [^\n]+\n$/))
  })
})

describe('damaged input returns 3 and one sentence that names the file', () => {
  const json = 'synthetic/segments/snap-s00.json'
  const pages = 'synthetic/segments/snap-s00.pages.gz'

  async function damaged(damage: (folder: string) => Promise<void>): Promise<string> {
    const folder = await folderWith('synthetic/segments/s00')
    await damage(folder)
    const { code, stdout, stderr } = await run(folder, { json: true })
    expect(code).toBe(3)
    expect(stdout).toBe('')
    return stderr.replaceAll(`${folder}/`, '')
  }

  it('pages cut short', async () => {
    const stderr = await damaged((folder) => truncate(join(folder, pages), 300))
    expect(stderr).toBe(
      `nestwalk replay: ${pages} is not a whole gzip file: it was cut short or edited, so copy it again\n`,
    )
  })

  it('pages that are no gzip', async () => {
    const stderr = await damaged((folder) => writeFile(join(folder, pages), 'pages'))
    expect(stderr).toMatch(/^nestwalk replay: .*snap-s00\.pages\.gz is not a whole gzip file: [^\n]+\n$/)
  })

  it('pages missing', async () => {
    const stderr = await damaged((folder) => rm(join(folder, pages)))
    expect(stderr).toBe(
      `nestwalk replay: ${pages} is missing, but the snapshot cannot do without it: put it there\n`,
    )
  })

  it('a folder in the place of the pages', async () => {
    const stderr = await damaged(async (folder) => {
      await rm(join(folder, pages))
      await mkdir(join(folder, pages))
    })
    expect(stderr).toBe(`nestwalk replay: ${pages} is a folder, where a file belongs: give it another name\n`)
  })

  it('a description cut short', async () => {
    const stderr = await damaged((folder) => truncate(join(folder, json), 300))
    expect(stderr).toBe(
      `nestwalk replay: ${json} is not JSON: it was cut short or edited, so copy it again\n`,
    )
  })

  it('a page list that does not fit the pages', async () => {
    const folder = await edited(({ pages: list }) => list.pop())
    const { code, stderr } = await run(folder)
    expect(code).toBe(3)
    expect(stderr.replaceAll(`${folder}/`, '')).toMatchInlineSnapshot(`
      "nestwalk replay: synthetic/segments/snap-s00.json: pages lists 34 pages, but the page bytes are 143360, not 34 times 4096: take both files from the same recording
      "
    `)
  })

  it('a query that makes no sense', async () => {
    const folder = await edited(({ queries }) => Object.assign(queries[7]!, { pa: 'nowhere' }))
    const { code, stderr } = await run(folder)
    expect(code).toBe(3)
    expect(stderr.replaceAll(`${folder}/`, '')).toMatchInlineSnapshot(`
      "nestwalk replay: synthetic/segments/snap-s00.json: queries[7].pa is "nowhere", which is no number: write a whole number below 2^53, or its hexadecimal digits as "0x..."
      "
    `)
  })
})

describe('the interrupts of a trace', () => {
  /** The smallest case with interrupt remapping, its trace changed. */
  async function withTrace(change: (text: string) => string): Promise<string> {
    const folder = await folderWith('qemu-linux/k612-ir/idle')
    const trace = gunzipSync(await readFile(join(corpus, 'qemu-linux/k612-ir/trace.jsonl.gz'))).toString()
    const changed = gzipSync(Buffer.from(change(trace)))
    await writeFile(join(folder, 'qemu-linux/k612-ir/trace.jsonl.gz'), changed)
    return folder
  }

  it('are compared too, and have a row below the snapshots of their case', async () => {
    const { code, stdout } = await run(await withTrace((text) => text))
    expect(stdout).toContain('\n  interrupts                  927       927         0           0\n')
    expect(code).toBe(0)
  })

  it('are told where they differ, by their line, and make the exit code 1', async () => {
    // The vector of every message that went out for one entry.
    const folder = await withTrace((text) => text.replaceAll('"data":"0x4030"', '"data":"0x4031"'))
    const { code, stdout } = await run(folder)
    expect(stdout).toMatch(
      /interrupts with another answer:\n {2}qemu-linux\/k612-ir, line \d+: .* writes 0x2 to/,
    )
    expect(stdout).toMatch(/expected {2}remapped, 0x4031 to 0xfee00000/)
    expect(code).toBe(1)
  })

  it.each([
    ['is not a whole gzip file', Buffer.from('no gzip')],
    ['line 1', gzipSync(Buffer.from('{"k":"msi"}\n'))],
  ])('are not read from a damaged file: %s', async (problem, bytes) => {
    const folder = await withTrace((text) => text)
    await writeFile(join(folder, 'qemu-linux/k612-ir/trace.jsonl.gz'), bytes)
    const { code, stderr } = await run(folder)
    expect(stderr).toContain('trace.jsonl.gz')
    expect(stderr).toContain(problem)
    expect(code).toBe(3)
  })
})
