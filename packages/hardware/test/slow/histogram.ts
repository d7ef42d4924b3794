import { choices } from './switches.js'
import type { SwitchName, Switches } from './switches.js'
import { machineOf, randomCase } from './random-machine.js'
import { answerText } from './corpus.js'
import { slowTranslate } from './translate.js'

/** Prints what the requests of so many random machines come to, by cause. */
export function histogram(cases: number): void {
  const causes = new Map<string, number>()
  const moved = new Map<string, number>()
  let requests = 0
  let granted = 0
  let words = 0
  let stores = 0
  let high = 0
  for (let seed = 1; seed <= cases; seed++) {
    const each = randomCase(seed)
    const machine = machineOf(each)
    words += each.words.size
    for (const address of each.words.keys()) {
      if (address >= 1n << 52n || address % 8n !== 0n) throw new Error(`bad address in seed ${seed}`)
      if (address >= 1n << 34n) high++
    }
    for (const request of each.requests) {
      requests++
      const result = slowTranslate(machine, request)
      let cause: string = result.kind
      if (result.kind === 'fault')
        cause = `fault ${result.cause}${result.event === null ? ' (suppressed)' : ''}`
      if (result.kind === 'translated') {
        const regime =
          result.sizeLog2 === undefined ? 'identity' : `${Math.min(result.reads.length, 15)} reads`
        cause = `translated, ${regime}`
        if (result.stores.length > 0) stores++
      }
      if (result.kind === 'translated' || result.kind === 'forwarded') granted++
      causes.set(cause, (causes.get(cause) ?? 0) + 1)

      const actual = answerText(result, true)
      for (const [key, values] of Object.entries(choices)) {
        for (const choice of values.slice(1)) {
          const switches = { [key as SwitchName]: choice } as Partial<Switches>
          if (answerText(slowTranslate(machine, request, switches), true) === actual) continue
          moved.set(`${key}=${choice}`, (moved.get(`${key}=${choice}`) ?? 0) + 1)
        }
      }
    }
  }
  console.log(
    `${cases} random cases, ${requests} requests, ${Math.round((granted / requests) * 100)} % granted`,
  )
  console.log(
    `${Math.round(words / cases)} words a case, ${high} of ${words} at or above 2^34, ${stores} with stores`,
  )
  for (const [cause, times] of [...causes].sort((a, b) => b[1] - a[1])) console.log(`${times}\t${cause}`)
  console.log('answers that a switch changes:')
  for (const [key, values] of Object.entries(choices)) {
    for (const choice of values.slice(1))
      console.log(`${moved.get(`${key}=${choice}`) ?? 0}\t${key}=${choice}`)
  }
}
