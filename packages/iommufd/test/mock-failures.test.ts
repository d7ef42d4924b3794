import { describe, expect, it } from 'vitest'
import { aperture, MockProgram } from './mock-program.js'
import type { Called } from './mock-program.js'

const page = 4096n

/** Calls of a program, of which any may fail: as those of the kernel's iommufd_fail_nth.c. */
type Calls = (program: MockProgram, ioas: number) => Generator<Called>

const mapDomain: Calls = function* (program, ioas) {
  const device = program.test(2, ioas)
  yield device
  yield program.map(ioas, aperture, program.buffer(64), 64n * page)
  yield program.map(ioas, aperture + 0x10_0000n, program.buffer(2), page)
  yield program.test(2, ioas)
  yield program.call(0x80, 8, { 4: device.u32(16) })
  yield program.unmap(ioas, aperture, 64n * page)
}

const accessPin: Calls = function* (program, ioas) {
  const buffer = program.buffer(64)
  yield program.map(ioas, aperture, buffer, 64n * page)
  const access = program.test(5, ioas, { 20: 1 })
  yield access
  const fd = access.u32(16)
  yield program.test(7, fd, { 24: aperture, 32: 64n * page, 40: buffer })
  yield program.test(7, fd, { 24: aperture, 32: 3n * page, 40: buffer })
  yield program.test(2, ioas)
  yield program.test(6, fd, { 16: 0 })
  yield program.test(6, fd, { 16: 1 })
}

const accessRw: Calls = function* (program, ioas) {
  const buffer = program.buffer(16)
  yield program.map(ioas, aperture, buffer, 16n * page)
  const access = program.test(5, ioas)
  yield access
  for (const flags of [0, 1, 4, 5]) {
    yield program.test(8, access.u32(16), { 16: aperture + 5n, 24: 9000n, 32: buffer, 40: flags })
  }
}

const device: Calls = function* (program, ioas) {
  const other = program.ioas()
  yield program.map(ioas, aperture, program.buffer(2), 2n * page)
  const made = program.test(12, ioas, { 28: 4 })
  yield made
  const [stdev, id] = [made.u32(16), made.u32(24)]
  const hwpt = program.call(0x89, 48, { 4: 8, 8: id, 12: other })
  yield hwpt
  yield program.test(10, stdev, { 16: hwpt.u32(16) })
  yield program.test(18, stdev, { 16: 5, 20: hwpt.u32(16) })
  yield program.test(20, stdev, { 16: 5 })
  yield program.test(10, stdev, { 16: ioas })
}

/** Runs calls up to the first one that fails. */
function run(program: MockProgram, calls: Calls): string | undefined {
  for (const { errno } of calls(program, program.ioas())) if (errno !== undefined) return errno
  return undefined
}

/** Everything is closed: nothing may be left. */
function tearDown(program: MockProgram): void {
  for (let descriptor = 3; program.process.file(descriptor) !== undefined; descriptor++)
    program.close(descriptor)
  expect(program.host.pinned).toBe(0)
  expect(program.kernel.pinned(program.process.memory.key)).toBe(0)
  expect(program.backend.snapshot()).toEqual(new MockProgram().backend.snapshot())
  expect([...program.kernel.iommufd.contexts]).toEqual([])
}

describe('a step that fails on purpose', () => {
  it.each(Object.entries({ mapDomain, accessPin, accessRw, device }))(
    'leaves nothing behind, whichever it is: %s',
    (_name, calls) => {
      const errnos: string[] = []
      for (let n = 1; ; n++) {
        const program = new MockProgram()
        const key = program.process.memory.key
        program.kernel.armFailure(key, n)
        const errno = run(program, calls)
        const hasFired = program.kernel.failuresLeft(key) === 0
        program.kernel.armFailure(key, 0)
        if (errno !== undefined) errnos.push(errno)
        tearDown(program)
        if (!hasFired) {
          expect(errno).toBeUndefined()
          break
        }
      }
      expect(errnos.length).toBeGreaterThan(0)
      for (const errno of errnos) expect(['EFAULT', 'ENOMEM', 'ENOENT']).toContain(errno)
    },
  )
})
