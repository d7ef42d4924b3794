/**
 * Test operations on accesses: pinning pages of an IOAS, reading and writing it, as drivers in the kernel do.
 *
 * @packageDocumentation
 */
import { hex } from '@nestwalk/bits'
import type { IoPagetable } from '../io-pagetable/io-pagetable.js'
import { accept, isRefusal, refuse } from '../outcome.js'
import type { Refusal } from '../outcome.js'
import { pageBytes } from '../process.js'
import type { AddressSpace, PhysicalRun } from '../process.js'
import { AccessFile } from './access-file.js'
import { TestAccess } from './test-access.js'
import { defineOperation } from './test-operation.js'
import type { TestCall } from './test-operation.js'
import {
  accessPages,
  accessReplaceIoas,
  accessRw,
  createAccess,
  destroyAccessPages,
  unionOffset,
} from './test-structs.js'
import { UserPages } from './user-pages.js'

/** Most bytes that an operation pins or copies. */
const mostBytes = 16n << 20n
/** CREATE_ACCESS: the access pins pages. */
const needsPinnedPages = 1
/** Of ACCESS_PAGES and ACCESS_RW. */
const writes = 1
/** ACCESS_RW: not through the caller's own addresses, though that would be faster. */
const slowPath = 4
/** The IOVA is the number of an area and an offset into it: for fuzzers, who cannot know addresses. */
const areaNumber = 1 << 16

function accessFile({ process, id }: TestCall): AccessFile | Refusal {
  const file = process.file(id)
  return file instanceof AccessFile ? file : refuse('test-not-an-access', `descriptor ${id} is no access`)
}

const create = defineOperation(5, createAccess, ({ file, context, argument, id }, { flags }) => {
  if ((flags & ~needsPinnedPages) !== 0) {
    return refuse('test-access-flags', `an access has no flags 0x${flags.toString(16)}`)
  }
  const { objects } = context
  const full = objects.whyFull()
  if (full !== undefined) return full
  const ioas = objects.need(id, 'ioas', 'test-no-such-object')
  if (isRefusal(ioas)) return ioas
  const { access, owner } = TestAccess.create((flags & needsPinnedPages) !== 0)
  const attached = access.attach(context.kernel, ioas.table)
  if (!attached.ok) return attached
  // Its file holds it: only closing that takes it away.
  const made = objects.add({ kind: 'access', users: 1, access, ioas: id })
  const opened = AccessFile.open(file.shared, made, owner)
  const address = argument + BigInt(unionOffset + createAccess.fields.outAccessFd.offset)
  return accept({ newFiles: [{ file: opened, address, isCloseOnExec: true }] })
})

const replaceIoas = defineOperation(11, accessReplaceIoas, (call, { ioasId }) => {
  const file = accessFile(call)
  if (isRefusal(file)) return file
  const { context } = file.shared
  const ioas = context.objects.need(ioasId, 'ioas', 'test-no-such-object')
  if (isRefusal(ioas)) return ioas
  const { object } = file
  const replaced = object.access.replace(context.kernel, ioas.table)
  if (!replaced.ok) return replaced
  context.objects.hold(ioasId)
  if (object.ioas !== undefined) context.objects.letGo(object.ioas)
  object.ioas = ioasId
  return accept({})
})

const pinPages = defineOperation(7, accessPages, (call, { flags, iova, length, uptr }) => {
  if (length > mostBytes) return tooLong(length)
  if ((flags & ~(writes | areaNumber)) !== 0) {
    return refuse('test-access-flags', `pinning has no flags 0x${flags.toString(16)}`)
  }
  const file = accessFile(call)
  if (isRefusal(file)) return file
  const { object, owner, shared } = file
  if (!object.access.needsPages)
    return refuse('test-access-without-pins', 'the access was made without pinning')
  const { kernel } = shared.context
  const first = addressOf(object.access.table, flags, iova)
  const pinned = object.access.pin(kernel, first, length, (flags & writes) !== 0)
  if (!pinned.ok) return pinned
  const offset = first % BigInt(pageBytes)
  const differs = uptr === 0n ? undefined : compare(call.process.memory, uptr - offset, pinned.value)
  if (differs !== undefined) {
    object.access.unpin(kernel, first, length)
    return differs
  }
  return accept({ out: { outAccessPagesId: owner.pinned({ iova: first, length }) } }, pinned.effects)
})

const unpinPages = defineOperation(6, destroyAccessPages, (call, { accessPagesId }) => {
  const file = accessFile(call)
  if (isRefusal(file)) return file
  if (file.owner.unpin(file.shared.context.kernel, accessPagesId)) return accept({})
  return refuse('test-no-such-item', `the access has pinned no item ${accessPagesId}, or it is unpinned`)
})

const readOrWrite = defineOperation(8, accessRw, (call, { iova, length, uptr, flags }) => {
  if (length > mostBytes) return tooLong(length)
  const file = accessFile(call)
  if (isRefusal(file)) return file
  const { memory } = call.process
  const { access } = file.object
  const isWrite = (flags & writes) !== 0
  const bytes = new Uint8Array(Number(length))
  if (isWrite && !memory.read(uptr, bytes)) return noMemory(uptr)
  const way = (flags & slowPath) === 0 ? memory.key : undefined
  const first = addressOf(access.table, flags, iova)
  const done = access.rw(file.shared.context.kernel, way, first, bytes, isWrite)
  if (!done.ok) return done
  if (!isWrite && !memory.write(uptr, bytes)) return noMemory(uptr)
  return accept({}, done.effects)
})

/** The address that is meant: given as it is, or as the number of an area (low half) and an offset. */
function addressOf(table: IoPagetable | undefined, flags: number, iova: bigint): bigint {
  if ((flags & areaNumber) === 0) return iova
  const area = table?.areas[Number(BigInt.asUintN(32, iova))]
  return area === undefined ? 0n : BigInt.asUintN(64, area.iova + (iova >> 32n))
}

/** The pinned pages are those that the caller has from an address on. */
function compare(memory: AddressSpace, address: bigint, runs: readonly PhysicalRun[]): Refusal | undefined {
  const user = new UserPages(memory)
  let at = address
  for (const { first, pages } of runs) {
    for (let page = 0; page < pages; page++) {
      const physical = user.physical(at)
      if (physical === undefined) return refuse('test-user-page', `the caller has no page at ${hex(at)}`)
      const pinned = first + BigInt(page) * BigInt(pageBytes)
      if (physical !== pinned) {
        return refuse(
          'test-pages-differ',
          `${hex(pinned)} is pinned, the caller has ${hex(physical)} at ${hex(at)}`,
        )
      }
      at += BigInt(pageBytes)
    }
  }
  return undefined
}

const tooLong = (length: bigint): Refusal =>
  refuse('test-access-too-long', `${length} bytes at once are more than 16 MiB`)

const noMemory = (address: bigint): Refusal =>
  refuse('test-user-memory', `the caller's memory at ${hex(address)} cannot be used`)

export const accessOperations = [create, replaceIoas, pinPages, unpinPages, readOrWrite]
