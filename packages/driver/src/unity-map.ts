/**
 * Unity maps: memory that firmware wants devices to reach at its own address, whatever domain the kernel gives them.
 *
 * Linux drivers/iommu/amd/init.c, `init_unity_map_range`. The exclusion range of the hardware is not used: one range
 * register cannot serve several IVMDs, so an exclusion becomes a map that may be read and written.
 *
 * @packageDocumentation
 */
import { spa } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'
import type { Ivmd, Ivrs } from '@nestwalk/hardware'
import type { Rights } from './table-format.js'

/** Memory that DeviceIDs `firstDevice` to `lastDevice` are to reach at its own address. Whole pages of 4 KiB. */
export interface UnityMap {
  readonly firstDevice: number
  readonly lastDevice: number
  readonly start: Spa
  readonly byteLength: bigint
  readonly rights: Rights
}

const pageMask = 0xfffn
const lastDeviceOfAll = 0xffff
const addressLimit = 1n << 52n

/** Bytes 8 and 9 of an IVMD, where Linux reads the PCI segment. */
const segmentOf = ({ reserved }: Ivmd): number => Number(BigInt.asUintN(16, reserved))

/** The unity maps of a segment, in the order of the table; what cannot be mapped to itself is left out. */
export function unityMapsOf(ivrs: Ivrs, segment: number): UnityMap[] {
  const maps: UnityMap[] = []
  for (const block of ivrs.blocks) {
    if (block.kind !== 'ivmd' || segmentOf(block) !== segment) continue
    const map = unityMapOf(block)
    if (map !== undefined) maps.push(map)
  }
  return maps
}

function unityMapOf(ivmd: Ivmd): UnityMap | undefined {
  const { flags, start, byteLength } = ivmd
  if (!flags.unity && !flags.exclusion) return undefined
  // The whole of each page that the memory touches. Linux rounds the start up and loses a first page that is cut.
  const first = start & ~pageMask
  const end = (start + byteLength + pageMask) & ~pageMask
  if (byteLength === 0n || end > addressLimit) return undefined
  const rights = flags.exclusion ? { read: true, write: true } : { read: flags.ir, write: flags.iw }
  const [firstDevice, lastDevice] = devicesOf(ivmd)
  return { firstDevice, lastDevice, start: spa(first), byteLength: end - first, rights }
}

function devicesOf({ type, deviceId, auxiliary }: Ivmd): readonly [first: number, last: number] {
  switch (type) {
    case 0x20:
      return [0, lastDeviceOfAll]
    case 0x21:
      return [deviceId, deviceId]
    case 0x22:
      return [deviceId, auxiliary]
  }
}

/** The unity maps of a device. */
export const mapsForDevice = (maps: readonly UnityMap[], deviceId: number): UnityMap[] =>
  maps.filter(({ firstDevice, lastDevice }) => firstDevice <= deviceId && deviceId <= lastDevice)

/**
 * What of `maps` is not in `present` already, as disjoint pieces by address: of maps that overlap the first one decides,
 * for Linux maps only what is not mapped yet.
 */
export function missingMaps(maps: readonly UnityMap[], present: readonly UnityMap[]): UnityMap[] {
  const missing: UnityMap[] = []
  for (const map of maps) {
    let pieces: UnityMap[] = [map]
    for (const other of [...present, ...missing]) pieces = pieces.flatMap((piece) => without(piece, other))
    missing.push(...pieces)
  }
  return missing.sort((a, b) => (a.start < b.start ? -1 : 1))
}

/** What lies before and after the other map. */
function without(map: UnityMap, other: UnityMap): UnityMap[] {
  const [start, end] = [map.start, map.start + map.byteLength]
  const [otherStart, otherEnd] = [other.start, other.start + other.byteLength]
  if (otherEnd <= start || end <= otherStart) return [map]
  const pieces: UnityMap[] = []
  if (start < otherStart) pieces.push({ ...map, byteLength: otherStart - start })
  if (otherEnd < end) pieces.push({ ...map, start: spa(otherEnd), byteLength: end - otherEnd })
  return pieces
}
