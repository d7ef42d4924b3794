/**
 * What an operation of IOMMU_TEST_CMD is: its number, its part of the union, and what it does.
 *
 * @packageDocumentation
 */
import type { StructLayout, StructValue } from '@nestwalk/bits'
import type { Caller } from '../abi/ioctl.js'
import type { ObjectId } from '../object/object.js'
import type { NewFile } from '../open-file.js'
import type { Outcome } from '../outcome.js'
import type { MockBackend } from './mock-backend.js'

/** Who calls, and the object or descriptor that the operation is about. */
export interface TestCall extends Caller {
  readonly id: number
  readonly backend: MockBackend
}

interface TestReply<L extends StructLayout = StructLayout> {
  /** Fields that have changed. */
  readonly out?: Partial<StructValue<L>>
  /** The object that the operation has made: it goes again if the caller cannot be told. */
  readonly created?: ObjectId
  readonly newFiles?: readonly NewFile[]
}

export interface TestOperation<L extends StructLayout = StructLayout> {
  readonly op: number
  readonly member: L
  readonly run: (call: TestCall, request: StructValue<L>) => Outcome<TestReply<L>>
}

/** An operation; for the checks of its types. */
export const defineOperation = <const L extends StructLayout>(
  op: number,
  member: L,
  run: TestOperation<L>['run'],
): TestOperation => ({ op, member, run }) as unknown as TestOperation
