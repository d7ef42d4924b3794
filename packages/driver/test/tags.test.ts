/** Tags and DomainIDs on their own: who holds which, and which ID is next. */
import { domainId } from '@nestwalk/hardware'
import type { DomainId } from '@nestwalk/hardware'
import { perHostTable, perNestedDomain, viommuMap } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { DomainIdAllocator } from '../src/domain-id.js'
import { TagTable } from '../src/tag-table.js'

const id = (n: number): DomainId => domainId(n)

describe('a tag', () => {
  const none = (): undefined => undefined

  it('gets its ID once, counts its users, and is gone with the last of them', () => {
    const tags = TagTable.create()
    expect(tags.acquire('a', 1, () => id(7))).toEqual({
      ...{ key: 'a', domainId: 7, tables: [1], users: 1, iommus: [] },
    })
    // The next user needs no ID.
    expect(tags.acquire('a', 1, none)).toMatchObject({ domainId: 7, tables: [1], users: 2 })
    expect(tags.release('a')).toMatchObject({ users: 1 })
    expect(tags.get('a')).toMatchObject({ users: 1 })
    expect(tags.release('a')).toMatchObject({ users: 0, domainId: 7 })
    expect(tags.get('a')).toBeUndefined()
  })

  it('is not made without an ID', () => {
    const tags = TagTable.create()
    expect(tags.acquire('a', 1, none)).toBeUndefined()
    expect(tags.all()).toEqual([])
  })

  it('has the tables of all of its users, and none if they have none', () => {
    const tags = TagTable.create()
    for (const table of [5, undefined, 2, 5]) tags.acquire('a', table, () => id(7))
    tags.acquire('b', undefined, () => id(3))
    tags.acquire('b', undefined, none)
    expect(tags.all().map(({ key, tables, users }) => [key, tables, users])).toEqual([
      ['b', [], 2],
      ['a', [2, 5], 4],
    ])
    expect([2, 5, 7].map((table) => tags.ofTable(table).map(({ key }) => key))).toEqual([['a'], ['a'], []])
  })

  it('notes IOMMUs once each, ascending, and forgets one of them', () => {
    const tags = TagTable.create()
    tags.acquire('a', 1, () => id(7))
    for (const iommu of [2, 0, 2, 1]) tags.noteIommu('a', iommu)
    expect(tags.get('a')?.iommus).toEqual([0, 1, 2])
    tags.forgetIommu('a', 1)
    expect(tags.get('a')?.iommus).toEqual([0, 2])
    // Whoever comes next finds them so.
    expect(tags.acquire('a', 1, none)?.iommus).toEqual([0, 2])
  })

  it('that nobody holds has nothing to note or to release', () => {
    const tags = TagTable.create()
    tags.noteIommu('a', 0)
    tags.forgetIommu('a', 0)
    expect(tags.release('a')).toBeUndefined()
    expect(tags.all()).toEqual([])
  })

  it('changes in a fork alone', () => {
    const tags = TagTable.create()
    tags.acquire('a', 1, () => id(7))
    const fork = tags.fork()
    fork.noteIommu('a', 0)
    fork.acquire('b', 1, () => id(8))
    expect(tags.snapshot()).toEqual([{ key: 'a', domainId: 7, tables: [1], users: 1, iommus: [] }])
    expect(fork.all().map(({ key }) => key)).toEqual(['a', 'b'])
  })
})

describe('a DomainID that a crashed kernel has in an entry', () => {
  const taken = (ids: DomainIdAllocator, count: number): (number | undefined)[] =>
    Array.from({ length: count }, () => ids.allocate()?.id)

  it('is not handed out, wherever it lies', () => {
    const ids = DomainIdAllocator.create(8)
    for (const each of [1, 2, 5, 8, 5]) ids.reserve(id(each))
    expect(taken(ids, 5)).toEqual([3, 4, 6, 7, undefined])
  })

  it('may be taken already, or free again', () => {
    const ids = DomainIdAllocator.create(6)
    expect(taken(ids, 4)).toEqual([1, 2, 3, 4])
    ids.reserve(id(2))
    ids.release(id(2), [])
    ids.release(id(4), [])
    ids.release(id(1), [])
    ids.reserve(id(2))
    expect(taken(ids, 5)).toEqual([1, 4, 5, 6, undefined])
  })

  it('is reserved in a fork alone', () => {
    const ids = DomainIdAllocator.create(4)
    const fork = ids.fork()
    fork.reserve(id(1))
    expect(fork.snapshot()).not.toEqual(ids.snapshot())
    expect([taken(ids, 2), taken(fork, 2)]).toEqual([
      [1, 2],
      [2, 3],
    ])
  })
})

describe('DomainIDs', () => {
  it('are from 1 to 65535', () => {
    for (const last of [0, -1, 1.5, 0x1_0000]) {
      expect(() => DomainIdAllocator.create(last)).toThrow(
        new RangeError(`last DomainID ${last} is not from 1 to 65535`),
      )
    }
    expect(DomainIdAllocator.create(1).allocate()).toEqual({ id: 1, uncleanOn: [] })
    const all = DomainIdAllocator.create()
    for (let n = 1; n <= 0xffff; n++) if (all.allocate()?.id !== n) throw new Error(`${n} is not next`)
    expect(all.allocate()).toBeUndefined()
  })

  it.each([
    [{ quarantineLength: 0 }, 'quarantineLength 0 is not a number from 1 up'],
    [{ quotaPerViommu: 2.5 }, 'quotaPerViommu 2.5 is not a number from 1 up'],
  ])('have rules that can be kept: %o', (rules, message) => {
    expect(() => DomainIdAllocator.create(4, rules)).toThrow(new RangeError(message))
    expect(() => DomainIdAllocator.create(4, { quarantineLength: 1, quotaPerViommu: 1 })).not.toThrow()
  })

  it('that are not clean say where, until somebody gets them', () => {
    const ids = DomainIdAllocator.create(4)
    ids.allocate()
    ids.release(id(1), [0, 2])
    expect(ids.keptBack).toBe(0)
    const fork = ids.fork()
    expect(ids.allocate()).toEqual({ id: 1, uncleanOn: [0, 2] })
    ids.release(id(1), [])
    expect(ids.allocate()).toEqual({ id: 1, uncleanOn: [] })
    expect(fork.allocate()).toEqual({ id: 1, uncleanOn: [0, 2] })
  })

  it('are kept back in a quarantine if they are not clean, and only then', () => {
    const ids = DomainIdAllocator.create(4, { cleaning: 'quarantine' })
    for (let n = 0; n < 3; n++) ids.allocate()
    ids.release(id(2), [])
    ids.release(id(3), [1])
    ids.release(id(1), [0])
    expect(ids.keptBack).toBe(2)
    expect(ids.fork().keptBack).toBe(2)
    expect([ids.allocate()?.id, ids.allocate()?.id, ids.allocate()]).toEqual([2, 4, undefined])
    expect(ids.takeKept()).toEqual([
      { id: 3, uncleanOn: [1] },
      { id: 1, uncleanOn: [0] },
    ])
    expect(ids.keptBack).toBe(0)
    // Whoever took them makes them clean.
    expect([ids.allocate(), ids.allocate()]).toEqual([
      { id: 1, uncleanOn: [] },
      { id: 3, uncleanOn: [] },
    ])
  })

  it('in rotation are those above the last one first, free or fresh, and then from the beginning', () => {
    const ids = DomainIdAllocator.create(6, { order: 'rotating' })
    const next = (): number | undefined => ids.allocate()?.id
    expect([next(), next(), next(), next()]).toEqual([1, 2, 3, 4])
    for (const each of [1, 3, 2]) ids.release(id(each), [])
    expect([next(), next(), next(), next(), next(), next()]).toEqual([5, 6, 1, 2, 3, undefined])
    for (const each of [6, 2, 4]) ids.release(id(each), [])
    expect([next(), next(), next()]).toEqual([4, 6, 2])
  })
})

describe('where the ID belongs to the domain, an attachment has no other key', () => {
  const domains = [
    { table: 3, guest: undefined },
    { table: 3, guest: { viommu: 1, domainId: 5, nested: 7 } },
  ]
  it.each([perHostTable, perNestedDomain, viommuMap])('$letter', (policy) => {
    for (const domain of domains) {
      const key = policy.keyOfDomain(domain)
      expect(key).toBeDefined()
      expect(policy.keyOfAttachment({ deviceId: 0x18, group: 1 }, domain)).toBe(key)
    }
  })
})
