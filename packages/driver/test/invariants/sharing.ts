/** Who may share a DomainID, and what may be shared: I3, I4, I11, I12. */
import { load64 } from '@nestwalk/hardware'
import type { Dte } from '@nestwalk/hardware'
import type { Machine } from '../machine.js'
import { nestingOf, translating } from './moment.js'
import type { Moment, Violation } from './moment.js'

/** PASIDs that are looked at. */
const pasids = [0, 1, 2, 300]

/** What an entry makes of a request: equal texts translate alike. */
const inputs = ({
  mode,
  hostRoot,
  guestValid,
  guestIoValid,
  gcr3Levels,
  gcr3Root,
  guestPagingMode,
}: Dte): string =>
  [mode, hostRoot, guestValid, guestIoValid, gcr3Levels, gcr3Root, guestValid && guestPagingMode].join()

/** Whose translations an entry uses: a guest's DomainID, or a table of the host, however many levels it has by now. */
function keyOf(moment: Moment, entry: Dte): string {
  const nesting = nestingOf(moment, entry)
  if (nesting !== undefined) return `vIOMMU ${nesting.viommu}, ${nesting.guestDomainId}`
  if (!entry.guestValid && entry.mode !== 0) return `table ${moment.tops.get(entry.hostRoot)}`
  return inputs(entry)
}

/** Whether two DeviceIDs are one device, whose entries are changed one after the other. */
const isOneUnit = ({ before, after }: Moment, one: number, other: number): boolean =>
  [before, after].some(({ devices }) =>
    [...devices.values()].some(({ deviceId, aliases }) =>
      [one, other].every((id) => id === deviceId || aliases.includes(id)),
    ),
  )

/** I3: equal DomainIDs have equal keys, or equal tables. */
export function* noMerge(moment: Moment): Generator<Violation> {
  const entries = translating(moment.entries)
  for (const [one, a] of entries) {
    for (const [other, b] of entries) {
      if (one >= other || a.domainId !== b.domainId || isOneUnit(moment, one, other)) continue
      if (keyOf(moment, a) === keyOf(moment, b) || inputs(a) === inputs(b)) continue
      yield { id: 'I3', how: `${one} and ${other} both have ${a.domainId}: ${inputs(a)}, ${inputs(b)}` }
    }
  }
}

/** I4: a guest's DomainID has one host ID, and that is no other vIOMMU's. */
export function* isFunction(moment: Moment): Generator<Violation> {
  const images = new Map<string, number>()
  const owners = new Map<number, number>()
  for (const [device, entry] of translating(moment.entries)) {
    const nesting = nestingOf(moment, entry)
    if (nesting === undefined) continue
    const key = `${nesting.viommu}, ${nesting.guestDomainId}`
    const [image, owner] = [images.get(key), owners.get(entry.domainId)]
    if (image !== undefined && image !== entry.domainId) {
      yield { id: 'I4', how: `${key} has ${image} and ${entry.domainId}, in ${device}` }
    }
    if (owner !== undefined && owner !== nesting.viommu) {
      yield { id: 'I4', how: `${entry.domainId} is of vIOMMU ${owner} and ${nesting.viommu}` }
    }
    images.set(key, entry.domainId)
    owners.set(entry.domainId, nesting.viommu)
  }
}

/** The roots behind some PASIDs of a GCR3 table in memory. */
function contentOf({ memory }: Machine, { gcr3Root, gcr3Levels }: Dte): string {
  const rootOf = (pasid: number): bigint => {
    let page = gcr3Root
    for (let level = gcr3Levels; level > 0; level--) {
      const entry = load64(memory, page + BigInt(((pasid >> (9 * level)) & 511) * 8))!
      if ((entry & 1n) === 0n) return 0n
      page = entry & 0xffffffffff000n
    }
    return pasid >> (9 * (gcr3Levels + 1)) > 0 ? 0n : load64(memory, page + BigInt((pasid & 511) * 8))!
  }
  return pasids.map(rootOf).join()
}

const ownTables = (entries: ReadonlyMap<number, Dte>): (readonly [number, Dte])[] =>
  translating(entries).filter(([, { guestValid, mode }]) => guestValid && mode === 0)

/** I11: under one DomainID a PASID of the host's own tables is one process. */
export function* sameContent(moment: Moment): Generator<Violation> {
  const entries = ownTables(moment.entries)
  for (const [one, a] of entries) {
    for (const [other, b] of entries) {
      if (one >= other || a.domainId !== b.domainId || a.gcr3Root === b.gcr3Root) continue
      const [content, otherContent] = [a, b].map((entry) => contentOf(moment.machine, entry))
      if (content !== otherContent) {
        yield { id: 'I11', how: `${one} and ${other} have ${a.domainId}: ${content}, ${otherContent}` }
      }
    }
  }
}

/** I12: what a device's GCR3 table says changes only if that was asked for the device. */
export function* onlyAsked(moment: Moment, contents: Map<number, string>): Generator<Violation> {
  const now = new Map(
    ownTables(moment.entries).map(([device, entry]) => [device, contentOf(moment.machine, entry)]),
  )
  for (const [device, content] of now) {
    const was = contents.get(device)
    const isAsked = moment.asked.some((each) => each === device || isOneUnit(moment, each, device))
    if (was !== undefined && was !== content && !isAsked) {
      yield { id: 'I12', how: `the table of ${device} was ${was} and is ${content}` }
    }
  }
  contents.clear()
  for (const [device, content] of now) contents.set(device, content)
}
