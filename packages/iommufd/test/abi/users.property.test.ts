/** Random programs: every object counts its users right, what fails changes nothing, and all comes back at the end. */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { Context, Iommufd } from '../../src/index.js'
import { MockProgram } from '../mock-program.js'
import { beginning, RandomProgram, randomSteps } from './random-program.js'
import type { RandomStep } from './random-program.js'
import { countUsers, usersOf } from './references.js'

/** Calls that may have done something when they fail: they take areas or pages one after the other. */
const inParts = new Set(['unmap'])

function run(random: RandomProgram, steps: readonly RandomStep[]): void {
  const { program } = random
  for (const step of [...beginning, ...steps]) {
    const before = random.state()
    const errno = random.run(step)
    if (errno !== undefined && !inParts.has(step[0])) {
      expect([step, errno, random.state()]).toEqual([step, errno, before])
    }
    const expected = countUsers(random.context, random.held)
    expect([step, usersOf(random.context)]).toEqual([step, expected])
    // One process pays for all that is pinned.
    expect(program.kernel.pinned(program.process.memory.key)).toBe(program.host.pinned)
  }
}

const fork = ({ program }: RandomProgram): Iommufd => program.kernel.iommufd.fork(program.backend.fork())

it('an object has as many users as refer to it, and a call that fails leaves all as it was', () => {
  fc.assert(
    fc.property(randomSteps, (steps) => {
      const random = new RandomProgram()
      run(random, steps)
    }),
    { numRuns: 60 },
  )
})

it('closing what is open gives all back', () => {
  const fresh = new MockProgram()
  fresh.close(fresh.iommu)
  fc.assert(
    fc.property(randomSteps, (steps) => {
      const random = new RandomProgram()
      for (const step of [...beginning, ...steps]) random.run(step)
      random.close()
      expect(random.program.backend.snapshot()).toEqual(fresh.backend.snapshot())
      expect(random.program.kernel.iommufd.snapshot()).toEqual(fresh.kernel.iommufd.snapshot())
      expect(random.program.host.pinned).toBe(0)
    }),
    { numRuns: 40 },
  )
})

it('an object can be destroyed if and only if nothing uses it; tried in forks, of which the program feels nothing', () => {
  fc.assert(
    fc.property(randomSteps, (steps) => {
      const random = new RandomProgram()
      for (const step of [...beginning, ...steps]) random.run(step)
      const before = random.state()
      const pinned = random.program.host.pinned
      const users = countUsers(random.context, random.held)
      for (const [id, count] of users) {
        const twin = fork(random)
        expect(twin.snapshot()).toEqual((before as unknown[])[0])
        const destroyed = twin.context(random.context.number)!.destroy(id)
        expect([id, destroyed.ok ? 'ok' : destroyed.errno]).toEqual([id, count === 0 ? 'ok' : 'EBUSY'])
      }
      expect(random.state()).toEqual(before)
      expect(random.program.host.pinned).toBe(pinned)
    }),
    { numRuns: 20 },
  )
})

/** Destroys all that can be destroyed, devices too. */
function destroyAll(context: Context): void {
  for (const [id, { kind }] of context.objects.entries()) if (kind === 'selftest') context.destroy(id)
  let left = Number.POSITIVE_INFINITY
  while (context.objectCount < left) {
    left = context.objectCount
    for (const [id] of context.objects.entries()) context.destroy(id)
  }
}

it('a fork goes its own way, and so does the original', () => {
  fc.assert(
    fc.property(randomSteps, randomSteps, (steps, more) => {
      const random = new RandomProgram()
      for (const step of [...beginning, ...steps]) random.run(step)
      const twin = fork(random)
      const there = twin.snapshot()
      expect(there).toEqual(random.program.kernel.iommufd.snapshot())
      for (const step of more) random.run(step)
      expect(twin.snapshot()).toEqual(there)
      const here = random.state()
      destroyAll(twin.context(random.context.number)!)
      expect(twin.snapshot()).not.toEqual(there)
      expect(random.state()).toEqual(here)
    }),
    { numRuns: 20 },
  )
})
