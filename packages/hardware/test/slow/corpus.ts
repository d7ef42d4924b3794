import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import type { Machine, Request, Result } from './types.js'

export interface Query {
  devid: number
  pasid?: number
  iova: string | number
  w: number
  x?: number
  u?: number
  pa: string | number | null
  size?: string | number
  event: string | null
  why: string
  open?: string
  openIn?: string
  stores?: (string | number)[][]
}

interface SnapFile {
  features: { efr: string | number; efr2: string | number }
  regs: Record<string, string | number>
  pages: (string | number)[]
  queries: Query[]
}

export interface Snapshot {
  name: string
  machine: Machine
  queries: Query[]
}

export function readCorpus(root: string): Snapshot[] {
  const snapshots: Snapshot[] = []
  for (const folder of readdirSync(root, { withFileTypes: true })) {
    if (!folder.isDirectory()) continue
    for (const file of readdirSync(join(root, folder.name)).sort()) {
      const match = /^snap-(.*)\.json$/.exec(file)
      if (match === null) continue
      snapshots.push(readSnapshot(join(root, folder.name), `${folder.name}/${match[1]}`, `snap-${match[1]}`))
    }
  }
  return snapshots
}

function readSnapshot(folder: string, name: string, base: string): Snapshot {
  const snap = JSON.parse(readFileSync(join(folder, `${base}.json`), 'utf8')) as SnapFile
  const raw = gunzipSync(readFileSync(join(folder, `${base}.pages.gz`)))
  const pages = new Map<bigint, Buffer>()
  snap.pages.forEach((page, n) => pages.set(BigInt(page), raw.subarray(n * 4096, n * 4096 + 4096)))
  const register = (offset: number): bigint => BigInt(snap.regs[`0x${offset.toString(16)}`] ?? 0)
  const deviceTableBases = [register(0)]
  for (let offset = 0x100; offset <= 0x130; offset += 8) deviceTableBases.push(register(offset))
  const machine: Machine = {
    load64: (address) => pages.get(address & ~0xfffn)?.readBigUInt64LE(Number(address & 0xfffn)),
    registers: {
      deviceTableBases,
      control: register(0x18),
      exclusionBase: register(0x20),
      exclusionLimit: register(0x28),
    },
    features: { efr: BigInt(snap.features.efr), efr2: BigInt(snap.features.efr2) },
  }
  return { name, machine, queries: snap.queries }
}

export function requestOf(query: Query): Request {
  return {
    deviceId: query.devid,
    ...(query.pasid === undefined ? {} : { pasid: query.pasid }),
    iova: BigInt(query.iova),
    write: query.w === 1,
    execute: query.x === 1,
    user: query.u !== 0,
  }
}

/** The answer in the form of the corpus, as one string. */
export function answerOf(query: Query): string {
  if (query.pa === null) return `fault ${query.event ?? 'suppressed'}`
  const size = query.size === undefined ? '-' : BigInt(query.size).toString(16)
  const pa = BigInt(query.pa).toString(16)
  return `pa ${pa} size ${size}${query.stores === undefined ? '' : ` stores ${storesText(query.stores)}`}`
}

function storesText(stores: (string | number | bigint)[][]): string {
  return stores.map((store) => store.map((value) => BigInt(value).toString(16)).join(':')).join(' ')
}

function eventText(event: [bigint, bigint]): string {
  const bytes = Buffer.alloc(16)
  bytes.writeBigUInt64LE(event[0], 0)
  bytes.writeBigUInt64LE(event[1], 8)
  return bytes.toString('hex')
}

export function answerText(result: Result, withStores: boolean): string {
  if (result.kind === 'interrupt' || result.kind === 'special') return result.kind
  if (result.kind === 'fault')
    return `fault ${result.event === null ? 'suppressed' : eventText(result.event)}`
  const size = result.sizeLog2 === undefined ? '-' : (1n << BigInt(result.sizeLog2)).toString(16)
  const stores = result.stores.map((store) => [store.address, store.old, store.new])
  return `pa ${result.spa.toString(16)} size ${size}${withStores ? ` stores ${storesText(stores)}` : ''}`
}
