/**
 * The descriptor of a dma-buf: it can be mapped into an IOAS, and does nothing by itself.
 *
 * @packageDocumentation
 */
import { noIoctl, noMmap, noRead, noWrite, pollOfAnyFile } from '../file/file-result.js'
import type { Dmabuf } from '../io-pagetable/dmabuf.js'
import type { FileResult, IoctlCall, OpenFile } from '../open-file.js'

/** See the file's comment. */
export class DmabufFile implements OpenFile {
  constructor(readonly dmabuf: Dmabuf) {}

  ioctl({ cmd }: IoctlCall): FileResult {
    return noIoctl(cmd)
  }

  read = noRead
  write = noWrite
  poll = pollOfAnyFile
  mmap = noMmap

  munmap(): void {
    // Nothing of it can be mapped.
  }

  close(): void {
    // Whoever maps the buffer keeps it.
  }
}
