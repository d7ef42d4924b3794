/**
 * Traces on disk: `trace.jsonl.gz` beside the snapshots of a case tells what happened while the machine ran.
 *
 * @packageDocumentation
 */
import { readdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { readInterruptRecords, RecordingError, replayInterrupts } from '@nestwalk/hardware'
import type { TraceReplay } from './replay-report.js'
import { DamagedFileError, orDamaged, readSnapshotFile, unpack } from './snapshot-files.js'
import type { SnapshotFile } from './snapshot-files.js'

const traceName = 'trace.jsonl.gz'

/**
 * Replays the interrupts of a case; undefined where it has no trace, or one without interrupts.
 *
 * @param files - the snapshots of one case
 * @throws DamagedFileError naming the file and what is wrong with it
 */
export async function replayTraceOf(files: readonly SnapshotFile[]): Promise<TraceReplay | undefined> {
  const [first] = files
  if (first === undefined) return undefined
  const folder = dirname(first.path)
  const names = await orDamaged(folder, () => readdir(folder))
  if (!names.includes(traceName)) return undefined
  const path = join(folder, traceName)
  const packed = await orDamaged(path, () => readFile(path))
  const text = new TextDecoder().decode(unpack(path, packed))
  const interrupts = recordsOf(path, text)
  if (interrupts.length === 0) return undefined
  const snapshots = await Promise.all(files.map((file) => readSnapshotFile(file)))
  return { trace: first.caseName, replay: replayInterrupts(snapshots, interrupts) }
}

function recordsOf(path: string, text: string): ReturnType<typeof readInterruptRecords> {
  try {
    return readInterruptRecords(text)
  } catch (error) {
    if (error instanceof RecordingError) throw new DamagedFileError(`${path}:`, error.message, error)
    throw error
  }
}
