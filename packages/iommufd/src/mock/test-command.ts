/**
 * IOMMU_TEST_CMD: how the kernel's selftests drive the mock IOMMU.
 *
 * Linux drivers/iommu/iommufd/selftest.c. A kernel has it whose backend is the mock.
 *
 * @packageDocumentation
 */
import { readStruct, writeStruct } from '@nestwalk/bits'
import { defineIoctl } from '../abi/ioctl.js'
import { accept, refuse } from '../outcome.js'
import { MockBackend } from './mock-backend.js'
import { accessOperations } from './test-accesses.js'
import { bufferOperations } from './test-buffers.js'
import { checkOperations } from './test-checks.js'
import { deviceOperations } from './test-devices.js'
import { eventOperations } from './test-events.js'
import { memoryOperations } from './test-memory.js'
import type { TestOperation } from './test-operation.js'
import { iommuTestCmd } from './test-structs.js'

const operations: ReadonlyMap<number, TestOperation> = new Map(
  [
    ...deviceOperations,
    ...checkOperations,
    ...accessOperations,
    ...memoryOperations,
    ...eventOperations,
    ...bufferOperations,
  ].map((operation) => [operation.op, operation]),
)

/** The call, for a kernel over a {@link MockBackend}. */
export const testCommand = defineIoctl({
  name: 'test_cmd',
  number: 0xa0,
  struct: iommuTestCmd,
  min: 68,
  run: (caller, { op, id, union }) => {
    const { backend } = caller.context.kernel
    if (!(backend instanceof MockBackend)) throw new TypeError('IOMMU_TEST_CMD needs the mock IOMMU')
    const operation = operations.get(op)
    if (operation === undefined) return refuse('test-op', `there is no test operation ${op}`)
    const done = operation.run({ ...caller, id, backend }, readStruct(operation.member, union))
    if (!done.ok) return done
    const { out, ...rest } = done.value
    const answer = out === undefined ? {} : { out: { union: writeStruct(operation.member, out, union) } }
    return accept({ ...answer, ...rest }, done.effects)
  },
})
