/**
 * A kernel whose only IOMMU is the mock of the kernel's selftests.
 *
 * @packageDocumentation
 */
import { MockBackend } from '../mock/mock-backend.js'
import { testCommand } from '../mock/test-command.js'
import { Kernel } from './kernel.js'

/** With IOMMU_TEST_CMD, by which mock devices are made. */
export const mockKernel = (): Kernel =>
  Kernel.create({ backend: new MockBackend(), testCalls: [testCommand] })
