import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'

const source = new URL('../src/', import.meta.url)
const files = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter((name) =>
  name.endsWith('.ts'),
)

/** What a driver may know of hardware: the port, memory, and how structures are laid out. */
const port = ['IommuPort', 'AccessBytes', 'FeatureRegisters', 'registers']
const memory = ['Memory', 'load64', 'store64']
const structures = [
  ...[
    'Command',
    'CommandFields',
    'CommandKind',
    'Dte',
    'DomainId',
    'DeviceId',
    'Pasid',
    'dteWordCount',
    'Event',
    'UnknownEvent',
    'Ppr',
  ],
  ...['domainId', 'deviceId', 'formatDeviceId', 'pasid', 'pasidZero'],
]
/** What is read from firmware's IVRS table. */
const firmware = [
  ...['Ivrs', 'Ivhd', 'IvhdFlags', 'Ivmd', 'IvrsError', 'DeviceRange'],
  ...['ivhdsInUse', 'devicesOf', 'deviceSettingBits'],
]
const layoutOrCodec = /^\w+Layouts?$|^(encode|decode)[A-Z]\w*$/
const allowed = (name: string): boolean =>
  [...port, ...memory, ...structures, ...firmware].includes(name) || layoutOrCodec.test(name)

interface Import {
  readonly from: string
  /** As exported; a namespace import is `*`. */
  readonly names: readonly string[]
}

/** The imports and re-exports of a file. */
function importsOf(text: string): Import[] {
  const statements = text.matchAll(
    /^(?:import|export)\s+(?:type\s+)?(?:([^;'"]*?)\s+from\s+)?['"]([^'"]+)['"]/gm,
  )
  return [...statements].map(([, clause = '', from = '']) => ({
    from,
    names: clause
      .replace(/[{}]/g, '')
      .split(',')
      .map(
        (name) =>
          name
            .replace(/\btype\b/, '')
            .trim()
            .split(/\s+/)[0] ?? '',
      )
      .filter((name) => name !== ''),
  }))
}

describe('the driver sees MMIO, memory and interrupts only', () => {
  it.each(files)('%s', (name) => {
    const text = readFileSync(new URL(name, source), 'utf8')
    expect(text).not.toMatch(/\bimport\(|\brequire\(/)
    for (const { from, names } of importsOf(text)) {
      if (from.startsWith('.')) continue
      expect(['@nestwalk/bits', '@nestwalk/hardware']).toContain(from)
      if (from === '@nestwalk/hardware') expect(names.filter((each) => !allowed(each))).toEqual([])
    }
  })

  it('finds imports of every form', () => {
    const text = [
      "import { Iommu as Chip, type Memory } from '@nestwalk/hardware'",
      "import type {\n  Tag,\n} from './a.js'",
      "import * as all from '@nestwalk/hardware'",
      "export { Iotlb } from '@nestwalk/hardware'",
      "import './b.js'",
    ].join('\n')
    expect(importsOf(text)).toEqual([
      { from: '@nestwalk/hardware', names: ['Iommu', 'Memory'] },
      { from: './a.js', names: ['Tag'] },
      { from: '@nestwalk/hardware', names: ['*'] },
      { from: '@nestwalk/hardware', names: ['Iotlb'] },
      { from: './b.js', names: [] },
    ])
    expect(
      ['Iommu', 'SparseMemory', 'GuestMemory', 'IotlbEntry', '*', 'Translation'].filter(allowed),
    ).toEqual([])
  })
})
