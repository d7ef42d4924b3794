/** npx --yes tsx synthetic.check.ts CORPUS/synthetic [cases of the random machine] */
import { answerOf, answerText, readCorpus, requestOf } from './corpus.js'
import { histogram } from './histogram.js'
import { choices } from './switches.js'
import type { SwitchName, Switches } from './switches.js'
import { slowTranslate } from './translate.js'

const [root, randomCases = '300'] = process.argv.slice(2)
if (root === undefined) throw new Error('usage: synthetic.check.ts CORPUS/synthetic [random cases]')

let queries = 0
let mismatches = 0
/** A switch changes an answer that does not name it. */
const unnamed = new Map<string, number>()
/** An answer names a switch that does not change it. */
const unmoved = new Map<string, number>()
const named = new Map<string, number>()
const causes = new Map<string, number>()

function count(map: Map<string, number>, key: string): number {
  const now = (map.get(key) ?? 0) + 1
  map.set(key, now)
  return now
}

for (const { name, machine, queries: list } of readCorpus(root)) {
  for (const query of list) {
    queries++
    const request = requestOf(query)
    const withStores = query.stores !== undefined
    const expected = answerOf(query)
    const result = slowTranslate(machine, request)
    const actual = answerText(result, withStores)
    const text = `${name} ${JSON.stringify(query).slice(0, 400)}`
    const cause = result.kind === 'fault' ? result.cause : result.kind
    count(causes, cause)
    if (actual !== expected) {
      mismatches++
      if (mismatches <= 20)
        console.log(`MISMATCH ${text}\n  expected ${expected}\n  actual   ${actual} (${cause})`)
    }

    const open = query.open?.split(',') ?? []
    for (const each of open) count(named, each)
    for (const [key, values] of Object.entries(choices)) {
      const others = values.slice(1).map((choice) => {
        const switches = { [key as SwitchName]: choice } as Partial<Switches>
        return answerText(slowTranslate(machine, request, switches), withStores)
      })
      const moved = others.some((other) => other !== actual)
      if (moved && !open.includes(key) && count(unnamed, key) <= 3) {
        console.log(`UNNAMED ${key}: ${text}\n  default ${actual}\n  others  ${others.join(' | ')}`)
      }
      if (!moved && open.includes(key) && count(unmoved, key) <= 3) {
        console.log(`UNMOVED ${key}: ${text}\n  default ${actual}`)
      }
      if (moved && query.openIn === 'event' && open.includes(key)) {
        const differs = others.some((other) => !other.startsWith('fault'))
        if (differs) count(unnamed, `${key} (openIn)`)
      }
    }
  }
}

console.log(`${queries} queries, ${mismatches} mismatches`)
for (const key of Object.keys(choices)) {
  const line = [named, unnamed, unmoved].map((map) => map.get(key) ?? 0)
  console.log(
    `${key.padEnd(24)} named ${line[0]}  changes unnamed ${line[1]}  named but no change ${line[2]}`,
  )
}
for (const [key, times] of unnamed) if (key.endsWith('(openIn)')) console.log(`${key}: ${times}`)
console.log('corpus, by cause:')
for (const [cause, times] of [...causes].sort((a, b) => b[1] - a[1])) console.log(`${times}\t${cause}`)
histogram(Number(randomCases))
if (mismatches + unnamed.size + unmoved.size > 0) process.exitCode = 1
