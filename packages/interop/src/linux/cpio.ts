/**
 * A cpio archive in the form that Linux takes as an initramfs.
 *
 * Linux Documentation/driver-api/early-userspace/buffer-format: "newc".
 *
 * @packageDocumentation
 */

/** A file or a folder of the archive. */
export interface CpioEntry {
  /** Without a leading slash; folders come before what is in them. */
  readonly name: string
  readonly content: Uint8Array
  /** As in stat(2): type and permissions. */
  readonly mode: number
}

export const regularFile = 0o100644
export const program = 0o100755
export const folder = 0o040755

const trailer = 'TRAILER!!!'

export function cpioOf(entries: readonly CpioEntry[]): Buffer {
  const parts = entries.flatMap((entry, n) => partsOf(entry, n + 1))
  return Buffer.concat([...parts, ...partsOf({ name: trailer, content: new Uint8Array(0), mode: 0 }, 0)])
}

/** Header, name and content, the last two padded to four bytes. */
function partsOf({ name, content, mode }: CpioEntry, inode: number): Uint8Array[] {
  const nameBytes = Buffer.from(`${name}\0`)
  // inode, mode, uid, gid, links, time, size, device and rdevice in two halves each, length of the name, no checksum.
  const fields = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, nameBytes.length, 0]
  const header = `070701${fields.map((value) => value.toString(16).padStart(8, '0')).join('')}`
  return [
    Buffer.from(header),
    nameBytes,
    padding(header.length + nameBytes.length),
    content,
    padding(content.length),
  ]
}

const padding = (length: number): Uint8Array => new Uint8Array(-length & 3)
