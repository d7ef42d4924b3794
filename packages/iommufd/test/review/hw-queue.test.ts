/** HW_QUEUE_ALLOC: which numbers its objects get, and what is too long to be looked for. */
import { expect, it } from 'vitest'
import { nesting, out32, page } from '../abi/program.js'
import { ok } from '../mock-program.js'

const iova = 0x0100_0000n

it('a queue has the lowest free number, and the access that holds its pages the one after', () => {
  const { program, ioas, viommu } = nesting()
  ok(program.map(ioas, iova, program.buffer(1), page))
  const queue = ok(program.hwQueue(viommu, 0, iova, page)).u32(20)
  expect(queue).toBe(viommu + 1)
  // The access is held by the kernel.
  expect([program.destroy(viommu + 2), program.destroy(viommu + 3)]).toEqual(['EBUSY', 'ENOENT'])
  expect(program.ioas()).toBe(viommu + 3)
  expect(program.destroy(queue)).toBeUndefined()
  expect([program.ioas(), program.ioas()]).toEqual([viommu + 1, viommu + 2])
})

it('a queue and its access take two places among the objects of a context', () => {
  const { program, ioas, viommu } = nesting()
  ok(program.map(ioas, iova, program.buffer(1), page))
  while (program.call(0x81, 12, {}).errno === undefined);
  program.destroy(viommu + 5)
  const objects = program.kernel.iommufd.context(0)!
  expect(objects.objectCount).toBe((1 << 16) - 1)
  expect(program.hwQueue(viommu, 0, iova, page).errno).toBe('ENOMEM')
  expect(objects.objectCount).toBe((1 << 16) - 1)
  program.destroy(viommu + 6)
  expect(out32(program.hwQueue(viommu, 0, iova, page), 20)).toBe(viommu + 5)
})

it('a queue whose pages cannot be counted is refused before its memory is looked for', () => {
  const { program, viommu } = nesting()
  const top = (1n << 64n) - 1n
  expect(program.hwQueue(viommu, 0, 0n, top).errno).toBe('ERANGE')
  expect(program.hwQueue(viommu, 0, 0xfffn, top - 0xfffn).errno).toBe('ERANGE')
  // One pointer for each page: more than 2 GiB of them are never allocated.
  expect(program.hwQueue(viommu, 0, 0n, 1n << 40n).errno).toBe('ENOMEM')
  expect(program.hwQueue(viommu, 0, 0n, (1n << 40n) - page).errno).toBe('ENOENT')
})
