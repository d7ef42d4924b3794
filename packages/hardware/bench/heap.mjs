/** What many translations leave on the heap. */
import { PerformanceObserver } from 'node:perf_hooks'
import { setTimeout } from 'node:timers/promises'
import { cold, hit } from './cases.mjs'

/** Bytes by which memory grew over so many translations, a tenth of them walks, and collections meanwhile. */
export async function heapGrowth(machine, translations) {
  let collections = 0
  const observer = new PerformanceObserver((list) => (collections += list.getEntries().length))
  const run = (count) => {
    for (let done = 0; done < count; done += machine.trees * 10) {
      cold(machine)
      for (let n = 1; n < 10; n++) hit(machine)
    }
  }
  run(translations / 10)
  // Twice: buffers are freed one collection after their arrays.
  globalThis.gc()
  globalThis.gc()
  observer.observe({ entryTypes: ['gc'] })
  const before = process.memoryUsage()
  run(translations)
  const after = process.memoryUsage()
  // The collections are told of in a task of their own.
  await setTimeout(0)
  observer.disconnect()
  const bytes = after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers
  return { bytes, collections }
}
