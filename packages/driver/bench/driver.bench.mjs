/**
 * `pnpm bench driver`: how long a kernel's large operations take here. Absolute times: they differ from machine to machine.
 * What came of each is checked; a wrong result ends with exit code 1.
 */
import { spa } from '@nestwalk/bits'
import { Driver, runEffects, sharedGcr3 } from '@nestwalk/driver'
import { Iommu, nestingFeatures, SparseMemory } from '@nestwalk/hardware'

const [devices, pasids] = [1000, 64]
const readWrite = { read: true, write: true }

function machine() {
  const memory = SparseMemory.create(2 ** 34)
  const iommu = Iommu.create({ memory, features: nestingFeatures })
  const pages = { first: spa(0x10_0000n), pages: 0x10_0000 }
  const made = Driver.create({ ports: [iommu], memory, pages, policy: sharedGcr3 })
  const driver = made.value
  const run = (outcome) => {
    if (!outcome.ok) throw new Error(`${outcome.errno}: ${outcome.why}`)
    runEffects(driver, outcome.effects, () => iommu.step())
    return outcome.value
  }
  run(made)
  return { driver, run }
}

function timed(what, limitMs, work) {
  const start = process.cpuUsage()
  const problem = work()
  const { user, system } = process.cpuUsage(start)
  const ms = (user + system) / 1000
  if (problem) process.exitCode = 1
  console.log(
    `${what.padEnd(58)}${ms.toFixed(0).padStart(6)} ms  ${problem || (ms > limitMs ? 'OVER' : '')}`.trimEnd(),
  )
}

{
  const { driver, run } = machine()
  const ids = Array.from({ length: devices }, (_, n) => n + 1)
  for (const id of ids) run(driver.probe(id, id, 0, { maxPasids: 0x10000 }))
  const domain = run(driver.allocateGuestTable())
  const processes = Array.from({ length: pasids }, () => run(driver.allocateProcess()))
  timed(`${devices} devices with ${pasids} PASIDs each, equal tables shared`, 1000, () => {
    for (const id of ids) run(driver.attach(id, domain))
    processes.forEach((process, n) => run(driver.attachPasid(ids, n + 1, process)))
    const [table, ...others] = driver.gcr3Tables
    return others.length > 0 || table?.entries.size !== pasids + 1 ? 'more than one table' : ''
  })
}

{
  const { driver, run } = machine()
  const domain = run(driver.allocateHostTable())
  const bytes = 1n << 30n
  timed('1 GiB mapped in pages of 4 KiB', 1000, () => {
    // Odd multiples of 4 KiB: no larger page fits.
    run(driver.map(domain, 0x1000n, spa(0x4000_2000n), bytes, readWrite))
    return driver.translate(domain, bytes) === 0x8000_1000n ? '' : 'not mapped'
  })
  timed('and unmapped', 1000, () =>
    run(driver.unmap(domain, 0x1000n, bytes)) === bytes ? '' : 'not unmapped',
  )
}
