/**
 * The descriptor of an access: test operations name it, and its last user's close ends the access.
 *
 * Linux drivers/iommu/iommufd/selftest.c, `iommufd_test_staccess_fops`.
 *
 * @packageDocumentation
 */
import { noIoctl, noMmap, noRead, noWrite, pollOfAnyFile } from '../file/file-result.js'
import type { SharedContext } from '../file/shared-context.js'
import type { AccessObject, ObjectId } from '../object/object.js'
import type { FileResult, IoctlCall, OpenFile } from '../open-file.js'
import type { TestAccess } from './test-access.js'

/** See the file's comment. */
export class AccessFile implements OpenFile {
  private constructor(
    readonly shared: SharedContext,
    readonly id: ObjectId,
    readonly owner: TestAccess,
  ) {}

  static open(shared: SharedContext, id: ObjectId, owner: TestAccess): AccessFile {
    shared.opened()
    return new AccessFile(shared, id, owner)
  }

  /** The ACCESS in the table of the context that it was made in. */
  get object(): AccessObject {
    return this.shared.context.objects.held(this.id, 'access')
  }

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
    const { context } = this.shared
    this.owner.unpinAll(context.kernel)
    this.object.access.detach(context.kernel)
    context.objects.letGo(this.id)
    context.objects.remove(this.id)
    this.shared.closed()
  }
}
