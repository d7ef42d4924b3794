/**
 * What a call of `/dev/iommu` is: its number, its structure, and what it does with them.
 *
 * @packageDocumentation
 */
import type { StructLayout, StructValue } from '@nestwalk/bits'
import type { Context } from '../context.js'
import type { IommuFile } from '../file/iommu-file.js'
import type { ObjectId } from '../object/object.js'
import type { NewFile, OpenFile } from '../open-file.js'
import type { Outcome, Refusal } from '../outcome.js'
import type { CallingProcess } from '../process.js'
import type { CallName } from '../rules/rule.js'

/** Who calls, through which file. */
export interface Caller {
  readonly file: IommuFile
  readonly context: Context
  readonly process: CallingProcess<OpenFile>
  /** Where the structure lies. */
  readonly argument: bigint
}

/** What a call that was carried out answers. */
export interface Reply<L extends StructLayout = StructLayout> {
  /** Fields that have changed. */
  readonly out?: Partial<StructValue<L>>
  /** What the call returns; 0 by default. */
  readonly ret?: number
  /** The object that the call has made: it goes again if the caller cannot be told. */
  readonly created?: ObjectId
  readonly newFiles?: readonly NewFile[]
  /** Nothing is written back, though other requests of the call have answers. */
  readonly isSilent?: boolean
  /** The call fails after all, though something has been done; `out` is written all the same, if there is any. */
  readonly refused?: Refusal
}

/** See the file's comment. */
export interface Ioctl<L extends StructLayout = StructLayout> {
  readonly name: CallName
  /** The command word's low byte; the word is 0x3b00 | number. */
  readonly number: number
  readonly struct: L
  /** Smallest size that is accepted: the end of the last field of the structure's first version. */
  readonly min: number
  /** What is written back: the whole structure by default, a single field, or nothing. */
  readonly writesBack?: keyof L['fields'] | 'nothing'
  readonly run: (caller: Caller, request: StructValue<L>) => Outcome<Reply<L>>
  /** Where the structure is laid while a call is carried out; nothing of it is kept. */
  readonly bytes: Uint8Array
}

/** A call; for the checks of its types. */
export const defineIoctl = <const L extends StructLayout>(ioctl: Omit<Ioctl<L>, 'bytes'>): Ioctl =>
  ({ ...ioctl, bytes: new Uint8Array(ioctl.struct.byteLength) }) as unknown as Ioctl
