/** Builders of tables for tests; the chip never uses them. */
import { Chip, place } from './chip.js'
import type { ChipOptions } from './chip.js'

const granted = 3n << 61n

/** Bits of a guest table entry: present, writable, user. */
const guestTable = 0x7n

/** Maps one page in a host table of any depth, level by level; new tables come from `freePages`. */
export function mapHost(
  chip: Chip,
  table: { readonly root: bigint; readonly mode: number },
  freePages: Iterator<bigint>,
  iova: bigint,
  spa: bigint,
): void {
  let page = table.root
  for (let level = table.mode; level > 1; level--) {
    const at = page + (((iova >> BigInt(3 + 9 * level)) & 0x1ffn) << 3n)
    let entry = chip.load(at) ?? 0n
    if (entry === 0n) {
      entry = granted | (freePages.next().value as bigint) | (BigInt(level - 1) << 9n) | 1n
      chip.put([at, entry])
    }
    page = entry & 0xffffffffff000n
  }
  chip.put([page + (((iova >> 12n) & 0x1ffn) << 3n), granted | spa | 1n])
}

/** Pages of 4 KiB from an address on. */
export function* pagesFrom(first: bigint): Generator<bigint, never> {
  for (let page = first; ; page += 0x1000n) yield page
}

/**
 * What {@link nestedChip} translates: pages of 4 KiB from here on, sixteen of them, for PASIDs 0, 5 and 0x200; the
 * host table maps the same addresses below 2 MiB to 0x200000000 and up.
 */
export const guestPages = 0x40200000n
export const hostPages = 0x100000n
const nestedPasids = [0, 5, 0x200] as const

/**
 * V, TV, IR, IW, GV, Mode 3, host root 100000000, GLX 1, GCR3 root GPA 10000. Not GIoV: requests without PASID go
 * through the host table alone.
 */
export const nestedDte = (domainId: number): bigint[] => [
  0x6180000100000603n,
  BigInt(domainId) | 0x20000n,
  0n,
  0n,
]

const spaOf = (gpa: bigint): bigint => 0x200000000n + gpa

/** Where the entries lie that map things for {@link nestedChip}: a host page, a page of the nth PASID, a device. */
export const hostEntryAt = (gpa: bigint): bigint => 0x100002000n + ((gpa >> 12n) << 3n)
export const guestEntryAt = (nthPasid: number, page: bigint): bigint =>
  spaOf(guestTableAt(nthPasid, 1)) + ((page >> 12n) << 3n)
/** The entry that leads to all of them. */
export const guestDirectoryAt = (nthPasid: number): bigint => spaOf(guestTableAt(nthPasid, 2)) + 8n
export const deviceEntryAt = (deviceId: number): bigint => place.deviceTable + BigInt(deviceId * 32)

/** GPA of the nth PASID's guest table of a level. */
const guestTableAt = (nthPasid: number, level: number): bigint =>
  0x20000n + BigInt(nthPasid * 4 + 4 - level) * 0x1000n

/** A chip with a nested device for each domain, DeviceID and DomainID being equal. */
export function nestedChip(domains: readonly number[], options: ChipOptions = {}): Chip {
  const chip = Chip.create(options)
  for (const domainId of domains) chip.setDte(domainId, nestedDte(domainId))
  const host = { root: 0x100000000n, mode: 3 }
  const hostTables = pagesFrom(0x100001000n)
  for (let gpa = 0x10000n; gpa < 0x110000n; gpa += 0x1000n) mapHost(chip, host, hostTables, gpa, spaOf(gpa))
  // GCR3 tables at GPA 10000 (top), 11000 and 12000; guest tables from 20000 on, pages of the guest from 100000 on.
  chip.put([spaOf(0x10000n), 0x11001n], [spaOf(0x10008n), 0x12001n])
  nestedPasids.forEach((pasid, n) => {
    const [level4, level3, level2] = [guestTableAt(n, 4), guestTableAt(n, 3), guestTableAt(n, 2)]
    const gcr3Table = pasid < 0x200 ? 0x11000n : 0x12000n
    chip.put([spaOf(gcr3Table) + BigInt(pasid % 0x200) * 8n, level4 | 1n])
    chip.put([spaOf(level4), level3 | guestTable], [spaOf(level3) + 8n, level2 | guestTable])
    chip.put([spaOf(level2) + 8n, guestTableAt(n, 1) | guestTable])
    for (let page = 0n; page < 16n; page++) {
      chip.put([guestEntryAt(n, page << 12n), (hostPages + (page << 12n)) | guestTable])
    }
  })
  return chip
}
