import { describe, expect, it } from 'vitest'
import { readSnapshot, RecordingError } from '../src/index.js'
import type { Description } from './corpus-files.js'

const whole = (): Description => ({
  memBytes: 0x10000,
  pages: ['0x1000', '0x2000'],
  regs: { '0x0': '0x1000', '0x18': 1 },
  queries: [{ src: 'live', devid: 8, iova: '0x1000', hpaBase: '0x2000' }],
})

const model = { src: 'model', devid: 8, iova: 0, w: 0, pa: null, event: null }
const probe = { src: 'probe', devid: 8, iova: 0, w: 0, pa: null }

/** What is wrong, and the sentence that says so. */
const damages: readonly (readonly [name: string, damage: (json: Description) => unknown, message: string])[] =
  [
    ['no object', () => [], 'the snapshot is a list, where a JSON object belongs'],
    ['no memory size', ({ memBytes: _, ...rest }) => rest, 'memBytes is missing'],
    [
      'odd memory size',
      (json) => ({ ...json, memBytes: 70000 }),
      'memBytes is 70000, but memory comes in steps',
    ],
    ['no memory', (json) => ({ ...json, memBytes: 0 }), 'memBytes is 0, but'],
    ['huge memory', (json) => ({ ...json, memBytes: '0x20000000000000' }), 'above the largest value here'],
    ['no page list', ({ pages: _, ...rest }) => rest, 'pages is missing'],
    ['pages no list', (json) => ({ ...json, pages: 5 }), 'pages is 5, where a list belongs'],
    [
      'page no number',
      (json) => ({ ...json, pages: ['0x1000', 'zz'] }),
      'pages[1] is "zz", which is no number',
    ],
    [
      'unaligned page',
      (json) => ({ ...json, pages: ['0x1000', '0x2800'] }),
      'pages[1] is 0x2800, where no page begins',
    ],
    [
      'page twice',
      (json) => ({ ...json, pages: [4096, '0x1000'] }),
      'pages[1] is 0x1000, the same page as pages[0]',
    ],
    [
      'page outside',
      (json) => ({ ...json, pages: [0, '0x10000'] }),
      'pages[1] is 0x10000, beyond the memory of 0x10000',
    ],
    ['page too few', (json) => ({ ...json, pages: [0] }), 'pages lists 1 pages, but the page bytes are 8192'],
    ['no registers', ({ regs: _, ...rest }) => rest, 'regs is missing'],
    ['bad offset', (json) => ({ ...json, regs: { base: 0 } }), 'regs.base is "base", which is no number'],
    ['odd offset', (json) => ({ ...json, regs: { '0x4': 0 } }), 'regs.0x4 names no register'],
    [
      'offset twice',
      (json) => ({ ...json, regs: { '0x8': 0, '0x08': 0 } }),
      'regs.0x08 names register 0x8 again',
    ],
    ['bad register', (json) => ({ ...json, regs: { '0x0': -1 } }), 'regs.0x0 is -1, which is no number'],
    [
      'wide register',
      (json) => ({ ...json, regs: { '0x0': `0x1${'0'.repeat(16)}` } }),
      'above the largest value',
    ],
    ['inexact number', (json) => ({ ...json, regs: { '0x0': 2 ** 53 } }), 'which is no number'],
    ['half features', (json) => ({ ...json, features: { efr: 0 } }), 'features.efr2 is missing'],
    [
      'two opinions',
      (json) => ({ ...json, features: { efr: 1, efr2: 0 }, regs: { '0x30': 2 } }),
      'features.efr is 0x1, but register 0x30 holds 0x2',
    ],
    ['no queries', ({ queries: _, ...rest }) => rest, 'queries is missing'],
    [
      'query no object',
      (json) => ({ ...json, queries: [null] }),
      'queries[0] is null, where a JSON object belongs',
    ],
    ['no source', (json) => ({ ...json, queries: [{}] }), 'queries[0].src is missing'],
    [
      'source no text',
      (json) => ({ ...json, queries: [{ src: 1 }] }),
      'queries[0].src is 1, where text belongs',
    ],
    [
      'unknown source',
      (json) => ({ ...json, queries: [{ src: 'oracle' }] }),
      'queries[0].src is "oracle", of which',
    ],
    [
      'source a long text, which is told in short',
      (json) => ({ ...json, queries: [{ src: 'x'.repeat(50) }] }),
      `queries[0].src is "${'x'.repeat(36)}..., of which`,
    ],
    [
      'wide device',
      (json) => ({ ...json, queries: [{ ...probe, devid: 65536 }] }),
      'queries[0].devid is 65536, which',
    ],
    [
      'no address',
      (json) => ({ ...json, queries: [{ src: 'live', devid: 8 }] }),
      'queries[0].iova is missing',
    ],
    ['bad flag', (json) => ({ ...json, queries: [{ ...probe, w: 2 }] }), 'queries[0].w is 2, which is above'],
    [
      'no answer',
      (json) => ({ ...json, queries: [{ ...probe, pa: undefined }] }),
      'queries[0].pa is undefined',
    ],
    ['short event', (json) => ({ ...json, queries: [{ ...probe, event: '00' }] }), 'an event is 16 bytes'],
    [
      'event no hex',
      (json) => ({ ...json, queries: [{ ...probe, event: 'x'.repeat(32) }] }),
      'an event is 16 bytes',
    ],
    [
      'event no text',
      (json) => ({ ...json, queries: [{ ...model, event: 5 }] }),
      'queries[0].event is 5, where text',
    ],
    [
      'wide PASID',
      (json) => ({ ...json, queries: [{ ...model, pasid: 1 << 20 }] }),
      'queries[0].pasid is 1048576',
    ],
    [
      'short store',
      (json) => ({ ...json, queries: [{ ...model, stores: [[1, 2]] }] }),
      'queries[0].stores[0] has 2 parts',
    ],
    [
      'store no number',
      (json) => ({ ...json, queries: [{ ...model, stores: [[1, {}, 3]] }] }),
      'queries[0].stores[0][1] is an object, which is no number',
    ],
    [
      'empty range',
      (json) => ({ ...json, queries: [{ src: 'guest', devid: 8, iova: 0, size: 0 }] }),
      'queries[0].size makes the range empty',
    ],
  ]

describe('a damaged snapshot is refused with one sentence', () => {
  it('but a whole one is read', () => {
    const { memoryBytes, pages, registers, features, queries } = readSnapshot(whole(), new Uint8Array(8192))
    expect({ memoryBytes, pages, registers: [...registers], features, queries }).toEqual({
      memoryBytes: 0x10000,
      pages: [0x1000n, 0x2000n],
      registers: [
        [0x0, 0x1000n],
        [0x18, 1n],
      ],
      features: undefined,
      queries: [{ src: 'live', deviceId: 8, iova: 0x1000n, hpaBase: 0x2000n }],
    })
  })

  it.each(damages)('%s', (_name, damage, message) => {
    const read = (): unknown => readSnapshot(damage(whole()), new Uint8Array(8192))
    expect(read).toThrow(RecordingError)
    expect(read).toThrow(message)
    expect(read).toThrow(/^[^\n]+: [^\n]+$/)
  })
})
