/**
 * `nestwalk replay DIR`: holds the chip against the recorded translations below a folder.
 *
 * @packageDocumentation
 */
import { stat } from 'node:fs/promises'
import { replay } from '@nestwalk/hardware'
import type { Replay } from '@nestwalk/hardware'
import { exitCode } from './output.js'
import type { Output } from './output.js'
import {
  disagrees,
  ReplayTable,
  snapshotName,
  tellMismatches,
  tellVerdict,
  totalsOf,
} from './replay-report.js'
import type { TraceReplay } from './replay-report.js'
import { DamagedFileError, findSnapshots, readSnapshotFile } from './snapshot-files.js'
import { replayTraceOf } from './trace-files.js'
import type { SnapshotFile } from './snapshot-files.js'

/** What the command line said. */
export interface ReplayArgs {
  /** DIR; undefined if it was not given. */
  readonly directory: string | undefined
  readonly json: boolean
}

/** Back to the first column, and the line cleared. */
const clearLine = '\r\u001b[K'

/**
 * Runs the command.
 *
 * @returns the exit code: 0 all agree, 1 a mismatch, 2 wrong usage, 3 unreadable or damaged input
 */
export async function replayCommand({ directory, json }: ReplayArgs, out: Output): Promise<number> {
  const refuse = (code: number, sentence: string): number => {
    out.stderr(`nestwalk replay: ${sentence}\n`)
    return code
  }
  if (directory === undefined || directory === '') {
    return refuse(
      exitCode.wrongUsage,
      'no folder is named: give one with snapshots below it, nestwalk replay DIR',
    )
  }
  if (!(await isDirectory(directory))) {
    return refuse(exitCode.wrongUsage, `${directory} is no folder: give one with snapshots below it`)
  }
  try {
    const files = await findSnapshots(directory)
    if (files.length > 0) return await replayFiles(files, json, out)
    const advice = 'give a folder with files snap-NAME.json and snap-NAME.pages.gz somewhere below it'
    return refuse(exitCode.wrongUsage, `${directory} holds no snapshots: ${advice}`)
  } catch (error) {
    if (error instanceof DamagedFileError) return refuse(exitCode.unreadableInput, error.message)
    throw error
  }
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch {
    return false
  }
}

async function replayFiles(files: readonly SnapshotFile[], json: boolean, out: Output): Promise<number> {
  const tell = json ? (): void => undefined : (text: string): void => out.stdout(text)
  const progress = (text: string): void => {
    if (out.isStderrTerminal === true) out.stderr(clearLine + text)
  }
  const table = new ReplayTable(files)
  const replays: Replay[] = []
  const traces: TraceReplay[] = []
  tell(table.heading())
  try {
    for (const file of files) {
      progress(`${replays.length} of ${files.length}: ${snapshotName(file)}`)
      const result = replay(await readSnapshotFile(file))
      replays.push(result)
      progress('')
      tell(table.row(file, result))
      if (file.caseName === files[replays.length]?.caseName) continue
      const ofCase = files.filter(({ caseName }) => caseName === file.caseName)
      const trace = await replayTraceOf(ofCase)
      if (trace === undefined) continue
      traces.push(trace)
      tell(table.traceRow(trace))
    }
  } finally {
    progress('')
  }
  const totals = totalsOf(files, replays, traces)
  tell(table.total(totals) + tellMismatches(totals) + tellVerdict(totals))
  if (json) out.stdout(`${JSON.stringify(totals)}\n`)
  return disagrees(totals) ? exitCode.no : exitCode.yes
}
