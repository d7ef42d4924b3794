/**
 * Test operations on dma-bufs: making one, taking its memory back.
 *
 * @packageDocumentation
 */
import { Dmabuf } from '../io-pagetable/dmabuf.js'
import { accept, refuse } from '../outcome.js'
import { pageBytes } from '../process.js'
import { DmabufFile } from './dmabuf-file.js'
import { defineOperation } from './test-operation.js'
import { dmabufGet, dmabufRevoke } from './test-structs.js'

const mostBufferBytes = 0x20_0000
/** O_CLOEXEC. */
const closeOnExec = 0x8_0000

/** Linux 7.3.4 returns 0; its selftests, and earlier kernels, want the descriptor. */
const getBuffer = defineOperation(22, dmabufGet, ({ backend }, { length, openFlags }) => {
  if (length === 0 || length > mostBufferBytes) {
    return refuse('test-dmabuf-length', `a buffer has 1 to ${mostBufferBytes} bytes, not ${length}`)
  }
  const memory = backend.bufferMemory(Math.ceil(length / pageBytes))
  const file = new DmabufFile(Dmabuf.create([memory]))
  return accept({ newFiles: [{ file, address: 0n, isCloseOnExec: (openFlags & closeOnExec) !== 0 }] })
})

const revokeBuffer = defineOperation(23, dmabufRevoke, ({ context, process }, { dmabufFd, revoked }) => {
  const file = process.file(dmabufFd)
  if (file === undefined) return refuse('test-bad-descriptor', `descriptor ${dmabufFd} is not open`)
  if (!(file instanceof DmabufFile))
    return refuse('test-not-a-dmabuf', `descriptor ${dmabufFd} is no dma-buf`)
  if (revoked === 0) {
    file.dmabuf.unrevoke()
    return accept({})
  }
  const done = file.dmabuf.revoke(context.kernel)
  return done.ok ? accept({}, done.effects) : done
})

export const bufferOperations = [getBuffer, revokeBuffer]
