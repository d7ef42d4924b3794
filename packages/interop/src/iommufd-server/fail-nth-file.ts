/**
 * `/proc/self/task/TID/fail-nth`: a number written says which step that may fail does; read, it says how many are left.
 *
 * Linux Documentation/fault-injection/fault-injection.rst.
 *
 * @packageDocumentation
 */
import type { CallingProcess, FileResult, MmapResult, OpenableKernel, OpenFile } from '@nestwalk/iommufd'

const refused = (errno: 'EINVAL' | 'ENOTTY' | 'ENODEV', why: string): FileResult => ({ ret: -1, errno, why })

/** POLLIN and POLLOUT. */
const alwaysReady = 1 | 4

/** See the file's comment. */
export class FailNthFile implements OpenFile {
  constructor(private readonly kernel: OpenableKernel) {}

  ioctl(): FileResult {
    return refused('ENOTTY', 'fail-nth takes no ioctl')
  }

  read({ memory }: CallingProcess<OpenFile>, count: bigint, offset: bigint): FileResult {
    const text = Buffer.from(`${this.kernel.failuresLeft(memory.key)}\n`)
    const from = offset < 0n ? 0 : Number(offset)
    const bytes = text.subarray(from, from + Number(count))
    return { ret: bytes.length, bytes }
  }

  write({ memory }: CallingProcess<OpenFile>, bytes: Uint8Array): FileResult {
    const text = Buffer.from(bytes).toString('latin1').trim()
    if (!/^\d{1,9}$/.test(text)) return refused('EINVAL', `fail-nth takes a number, not ${text}`)
    this.kernel.armFailure(memory.key, Number(text))
    return { ret: bytes.length }
  }

  poll(events: number): number {
    return events & alwaysReady
  }

  mmap(): MmapResult {
    return refused('ENODEV', 'fail-nth cannot be mapped')
  }

  munmap(): void {
    // Nothing of it is ever mapped.
  }

  close(): void {
    // The count goes on without the file.
  }
}
