/**
 * What trace hooks cost once they are off: walks of processes that were never watched, and of processes that were
 * watched for a while.
 *
 * Compiled code remembers that hooks were on, whatever machine had them, so each kind needs processes of its own. Two
 * processes of one kind differ by more than the limit, too: there are several of each, the kinds take turns, and the
 * fastest round of a kind stands for it.
 */
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { cold, time } from './cases.mjs'
import { buildMachine } from './image.mjs'
import { lineProcess } from './native.mjs'

const trees = 16
const warmUpMilliseconds = 400
/** Short, so that some rounds are not disturbed. */
const roundMilliseconds = 20
const thisFile = fileURLToPath(import.meta.url)

/** Nanoseconds of a cold walk in processes never watched and once watched. */
export async function hooksOff(processes, rounds) {
  const kinds = ['never', 'once']
  const children = kinds.flatMap((kind) =>
    Array.from({ length: processes }, () => ({
      kind,
      times: [],
      ...lineProcess(process.execPath, [thisFile, kind]),
    })),
  )
  // One of each kind at a time, next to each other.
  const turns = Array.from({ length: processes }, (_, n) => [children[n], children[processes + n]]).flat()
  for (let round = 0; round < rounds; round++) {
    for (const child of turns) child.times.push(Number(await child.ask(String(roundMilliseconds))))
  }
  children.forEach(({ stop }) => stop())
  const fastest = (wanted) =>
    Math.min(...children.filter(({ kind }) => kind === wanted).flatMap(({ times }) => times))
  return { never: fastest('never'), once: fastest('once') }
}

async function serve(kind) {
  const machine = buildMachine(trees)
  time(cold, machine, warmUpMilliseconds)
  if (kind === 'once') {
    let seen = 0
    machine.iommu.watch({ read: () => seen++, store: () => seen++ })
    time(cold, machine, warmUpMilliseconds)
    machine.iommu.watch(null)
    if (seen === 0) throw new Error('the hooks saw nothing')
  }
  time(cold, machine, warmUpMilliseconds)
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(time(cold, machine, Number(line)))
  }
}

if (process.argv[1] === thisFile) await serve(process.argv[2])
