/**
 * Memory of the kernel that a program maps: a file that the program maps in its place.
 *
 * Node cannot map a file. So what the program has written is fetched before each request, and what the kernel has written
 * is put into the file after it: nobody can tell who does not look while a request is under way.
 *
 * @packageDocumentation
 */
import { closeSync, existsSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Region } from '@nestwalk/iommufd'

/** See the file's comment. */
export class RegionFile {
  /** How often it is mapped. */
  mappings = 0
  private readonly descriptor: number
  /** What is in the file, as far as we know. */
  private readonly seen: Buffer

  constructor(readonly region: Region) {
    this.descriptor = namelessFile()
    this.seen = Buffer.from(region.bytes)
    writeSync(this.descriptor, this.seen, 0, this.seen.length, 0)
  }

  /** Where a program of the same user opens it. */
  get path(): string {
    return `/proc/${process.pid}/fd/${this.descriptor}`
  }

  /** Takes over what a program has written. */
  fetch(): void {
    const { bytes } = this.region
    const now = Buffer.alloc(this.seen.length)
    readSync(this.descriptor, now, 0, now.length, 0)
    if (now.equals(this.seen)) return
    for (let at = 0; at < now.length; at++) if (now[at] !== this.seen[at]) bytes[at] = now[at] ?? 0
    now.copy(this.seen)
  }

  /** Shows programs what the kernel has written; a byte that it has left alone is left alone. */
  show(): void {
    const { bytes } = this.region
    if (this.seen.equals(bytes)) return
    for (let at = 0; at < bytes.length;) {
      let end = at
      while (end < bytes.length && bytes[end] !== this.seen[end]) end++
      if (end > at) writeSync(this.descriptor, bytes, at, end - at, at)
      at = end + 1
    }
    this.seen.set(bytes)
  }

  close(): void {
    closeSync(this.descriptor)
  }
}

/** A file without a name, in memory where there is such a place: nothing is left behind, however we end. */
function namelessFile(): number {
  const place = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
  const folder = mkdtempSync(join(place, 'nestwalk-region-'))
  try {
    return openSync(join(folder, 'region'), 'wx+', 0o600)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
