/**
 * Why mutants survive, as `test/mutation/survivors.json` of their package says: lists of mutants that share a reason.
 *
 * A mutant is known by its file, the line of source where it begins, and what it makes of that line. A line that is
 * written anew has no reason until somebody looks at it again.
 */
import { readFileSync } from 'node:fs'

/**
 * @param paths - each of an array of `{file, reason, mutants: [{line, becomes: [...]}]}`
 * @returns `reasonOf(survivor)`, undefined if there is none; and `unused(files)`, the mutants of those files that no
 *   survivor asked for
 */
export function readReasons(paths) {
  const reasons = new Map()
  for (const { file, reason, mutants } of paths.flatMap(listIn)) {
    for (const { line, becomes } of mutants) {
      for (const text of becomes) reasons.set(keyOf(file, line, text), { file, reason, line, becomes: text })
    }
  }
  const asked = new Set()
  return {
    reasonOf({ file, line, becomes }) {
      const key = keyOf(file, line, becomes)
      asked.add(key)
      return reasons.get(key)?.reason
    },
    unused: (files) =>
      [...reasons].filter(([key, { file }]) => files.has(file) && !asked.has(key)).map(([, one]) => one),
  }
}

const listIn = (path) => JSON.parse(readFileSync(path, 'utf8'))

const keyOf = (...words) => words.join('\n')

/** The line where a mutant begins, and what becomes of it, each with its blanks made one. */
export function shownMutant(source, { start, end }, replacement) {
  const lines = source.split('\n')
  const first = lines[start.line - 1]
  const last = lines[end.line - 1]
  const becomes = first.slice(0, start.column - 1) + replacement + last.slice(end.column - 1)
  return { line: oneLine(first), becomes: oneLine(becomes) }
}

const oneLine = (text) => text.replace(/\s+/g, ' ').trim()
