/** Which parts of a device's unity maps are still to be mapped. */
import { spa } from '@nestwalk/bits'
import { describe, expect, it } from 'vitest'
import { missingMaps } from '../src/unity-map.js'
import type { UnityMap } from '../src/unity-map.js'

describe('of the maps that a device needs, those are missing that are not mapped yet', () => {
  type Part = readonly [start: bigint, end: bigint]
  const mapOf = ([start, end]: Part, write = true): UnityMap => ({
    ...{ firstDevice: 0, lastDevice: 0xffff, rights: { read: true, write } },
    ...{ start: spa(start), byteLength: end - start },
  })
  const partOf = ({ start, byteLength }: UnityMap): Part => [start, start + byteLength]

  it.each<[string, Part[], Part[]]>([
    ['all where nothing is', [], [[0x3000n, 0x6000n]]],
    ['nothing of what is there', [[0x3000n, 0x6000n]], []],
    ['nothing of what is in a larger one', [[0x2000n, 0x7000n]], []],
    ['all of what begins behind another', [[0x1000n, 0x3000n]], [[0x3000n, 0x6000n]]],
    ['all of what ends before another', [[0x6000n, 0x7000n]], [[0x3000n, 0x6000n]]],
    ['its end', [[0x1000n, 0x4000n]], [[0x4000n, 0x6000n]]],
    ['its end, where both begin together', [[0x3000n, 0x5000n]], [[0x5000n, 0x6000n]]],
    ['its beginning', [[0x5000n, 0x9000n]], [[0x3000n, 0x5000n]]],
    ['its beginning, where both end together', [[0x4000n, 0x6000n]], [[0x3000n, 0x4000n]]],
    [
      'what is on both sides',
      [[0x4000n, 0x5000n]],
      [
        [0x3000n, 0x4000n],
        [0x5000n, 0x6000n],
      ],
    ],
  ])('%s', (_name, present, missing) => {
    const found = missingMaps(
      [mapOf([0x3000n, 0x6000n])],
      present.map((each) => mapOf(each)),
    )
    expect(found.map(partOf)).toEqual(missing)
  })

  it('where two overlap the first one decides, and all are told by address', () => {
    const found = missingMaps([mapOf([0x4000n, 0x8000n], false), mapOf([0x1000n, 0x6000n])], [])
    expect(found).toEqual([mapOf([0x1000n, 0x4000n]), mapOf([0x4000n, 0x8000n], false)])
    const apart = [mapOf([0x9000n, 0xa000n]), mapOf([0x1000n, 0x2000n]), mapOf([0x4000n, 0x5000n])]
    expect(
      missingMaps(apart, [])
        .map(partOf)
        .map(([start]) => start),
    ).toEqual([0x1000n, 0x4000n, 0x9000n])
  })
})
