/** The structures against the offsets of the reference, and against the machine's own C headers where it has them. */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import type { StructLayout } from '@nestwalk/bits'
import { gaps } from '@nestwalk/bits'
import { describe, expect, it } from 'vitest'
import { amdGuestLayout, amdHwInfoLayout } from '../../src/amd/abi.js'
import * as structs from '../../src/abi/structs.js'
import { vfioDeviceAttach, vfioDeviceBind, vfioDeviceDetach } from '../../src/file/vfio-device-file.js'
import { eventHeaderStruct, pageFaultStruct, pageResponseStruct } from '../../src/index.js'
import { vfioIommuType1DmaMap, vfioIommuType1DmaUnmap, vfioIommuType1Info } from '../../src/vfio/type1.js'

const known: readonly StructLayout[] = [
  ...Object.values(structs),
  ...[eventHeaderStruct, pageFaultStruct, pageResponseStruct],
  ...[amdGuestLayout, amdHwInfoLayout],
  ...[vfioDeviceAttach, vfioDeviceBind, vfioDeviceDetach],
  ...[vfioIommuType1DmaMap, vfioIommuType1DmaUnmap, vfioIommuType1Info],
]

/**
 * Size, then each field with its offset; `:N` for one that is not 4 bytes long. The names are the header's.
 * `!`: another name here, as the kernel does not look at the field, or uses it in both directions.
 */
const table: Readonly<Record<string, readonly [size: number, fields: string]>> = {
  iommu_destroy: [8, 'size@0 id@4'],
  iommu_ioas_alloc: [12, 'size@0 flags@4 out_ioas_id@8'],
  iommu_iova_range: [16, 'start@0:8 last@8:8'],
  iommu_ioas_iova_ranges: [
    32,
    'size@0 ioas_id@4 num_iovas@8 __reserved@12 allowed_iovas@16:8 out_iova_alignment@24:8',
  ],
  iommu_ioas_allow_iovas: [24, 'size@0 ioas_id@4 num_iovas@8 __reserved@12 allowed_iovas@16:8'],
  iommu_ioas_map: [40, 'size@0 flags@4 ioas_id@8 __reserved@12 user_va@16:8 length@24:8 iova@32:8'],
  iommu_ioas_map_file: [40, 'size@0 flags@4 ioas_id@8 fd@12 start@16:8 length@24:8 iova@32:8'],
  iommu_ioas_copy: [
    40,
    'size@0 flags@4 dst_ioas_id@8 src_ioas_id@12 length@16:8 dst_iova@24:8 src_iova@32:8',
  ],
  iommu_ioas_unmap: [24, 'size@0 ioas_id@4 iova@8:8 length@16:8'],
  iommu_option: [24, 'size@0 option_id@4 op@8:2 __reserved@10:2 object_id@12 val64@16:8'],
  iommu_vfio_ioas: [12, 'size@0 ioas_id@4 op@8:2 __reserved@10:2'],
  iommu_hwpt_alloc: [
    48,
    'size@0 flags@4 dev_id@8 pt_id@12 out_hwpt_id@16 __reserved@20 data_type@24 data_len@28 data_uptr@32:8 fault_id@40 !__reserved2@44',
  ],
  iommu_hw_info: [
    40,
    'size@0 flags@4 dev_id@8 data_len@12 data_uptr@16:8 !out_data_type@24 out_max_pasid_log2@28:1 __reserved@29:3 out_capabilities@32:8',
  ],
  iommu_hwpt_set_dirty_tracking: [16, 'size@0 flags@4 hwpt_id@8 !__reserved@12'],
  iommu_hwpt_get_dirty_bitmap: [
    48,
    'size@0 hwpt_id@4 flags@8 __reserved@12 iova@16:8 length@24:8 page_size@32:8 data@40:8',
  ],
  iommu_hwpt_invalidate: [
    32,
    'size@0 hwpt_id@4 data_uptr@8:8 data_type@16 entry_len@20 entry_num@24 __reserved@28',
  ],
  iommu_fault_alloc: [16, 'size@0 flags@4 out_fault_id@8 out_fault_fd@12'],
  iommu_viommu_alloc: [
    40,
    'size@0 flags@4 type@8 dev_id@12 hwpt_id@16 out_viommu_id@20 data_len@24 !__reserved@28 data_uptr@32:8',
  ],
  iommu_vdevice_alloc: [24, 'size@0 viommu_id@4 dev_id@8 out_vdevice_id@12 virt_id@16:8'],
  iommu_ioas_change_process: [8, 'size@0 __reserved@4'],
  iommu_veventq_alloc: [
    32,
    'size@0 flags@4 viommu_id@8 type@12 veventq_depth@16 out_veventq_id@20 out_veventq_fd@24 __reserved@28',
  ],
  iommu_hw_queue_alloc: [
    40,
    'size@0 flags@4 viommu_id@8 type@12 index@16 out_hw_queue_id@20 nesting_parent_iova@24:8 length@32:8',
  ],
  iommu_ioas_noiommu_get_pa: [
    40,
    'size@0 flags@4 ioas_id@8 __reserved@12 iova@16:8 length@24:8 out_phys@32:8',
  ],
  iommufd_vevent_header: [8, 'flags@0 sequence@4'],
  iommu_hwpt_pgfault: [
    40,
    'flags@0 dev_id@4 pasid@8 grpid@12 perm@16 !__reserved@20 addr@24:8 length@32 cookie@36',
  ],
  iommu_hwpt_page_response: [8, 'cookie@0 code@4'],
  iommu_hwpt_amd_guest: [32, 'dte@0:32'],
  iommu_hw_info_amd: [16, 'efr@0:8 efr2@8:8'],
  vfio_device_bind_iommufd: [24, 'argsz@0 flags@4 iommufd@8 out_devid@12 token_uuid_ptr@16:8'],
  vfio_device_attach_iommufd_pt: [16, 'argsz@0 flags@4 pt_id@8 pasid@12'],
  vfio_device_detach_iommufd_pt: [12, 'argsz@0 flags@4 pasid@8'],
  vfio_iommu_type1_info: [24, 'argsz@0 flags@4 iova_pgsizes@8:8 cap_offset@16 pad@20'],
  vfio_iommu_type1_dma_map: [32, 'argsz@0 flags@4 vaddr@8:8 iova@16:8 size@24:8'],
  vfio_iommu_type1_dma_unmap: [24, 'argsz@0 flags@4 iova@8:8 size@16:8'],
}

interface Field {
  readonly name: string
  readonly offset: number
  readonly bytes: number
  readonly isRenamed: boolean
}

const fieldsOf = (text: string): Field[] =>
  text.split(' ').map((field) => {
    const [, renamed, name, offset, bytes = '4'] = /^(!?)(\w+)@(\d+)(?::(\d+))?$/.exec(field)!
    return { name: name!, offset: Number(offset), bytes: Number(bytes), isRenamed: renamed !== '' }
  })

/** A field of the header as it is called here. */
const ownName = (name: string): string =>
  name.replace(/^__/, '').replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())

describe('the reference', () => {
  it('knows the same structures', () => {
    expect(known.map(({ name }) => name).sort()).toEqual(Object.keys(table).sort())
  })

  it.each(Object.entries(table))('%s', (name, [size, text]) => {
    const layout = known.find((each) => each.name === name)!
    const fields = fieldsOf(text)
    expect(layout.byteLength).toBe(size)
    const places = Object.values(layout.fields).map(({ offset, byteLength }) => [offset, byteLength])
    expect(places).toEqual(fields.map(({ offset, bytes }) => [offset, bytes]))
    const names = fields.filter(({ isRenamed }) => !isRenamed)
    for (const each of names) expect(layout.fields[ownName(each.name)]?.offset).toBe(each.offset)
    expect(gaps(layout)).toEqual([])
  })
})

const headers = `
  #include <stddef.h>
  #include <stdio.h>
  #include <stdint.h>
  #include <linux/vfio.h>
  #if __has_include(<linux/iommufd.h>)
  #include <linux/iommufd.h>
  #endif
`

/** Headers of Linux 7 that `pnpm interop:selftest` has fetched: the machine's own may be older, or have no iommufd.h. */
const fetched = join(homedir(), '.cache', 'nestwalk', 'iommufd-selftest-7', 'include')
const headerFolders = existsSync(fetched) ? ['-isystem', fetched] : []

/** What the headers declare; empty without a compiler or without headers. */
const { stdout: declarations } = spawnSync('cc', [...headerFolders, '-E', '-'], {
  input: headers,
  encoding: 'utf8',
})

const declared = Object.entries(table).filter(([name]) =>
  new RegExp(`struct ${name}\\s*\\{`).test(declarations),
)

/** What a C program prints; `undefined` where it cannot be compiled. */
function runC(source: string): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'nestwalk-structs-'))
  try {
    const [file, program] = [join(folder, 'offsets.c'), join(folder, 'offsets')]
    writeFileSync(file, source)
    if (spawnSync('cc', ['-w', ...headerFolders, '-o', program, file]).status !== 0) return undefined
    return execFileSync(program, { encoding: 'utf8' })
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Prints the offset and size of each field of a structure, then its size. */
function printing(name: string, fields: readonly Field[]): string {
  const lines = fields.map(
    ({ name: field }) =>
      `printf("${field}@%zu:%zu ", offsetof(struct ${name}, ${field}), sizeof(((struct ${name} *)0)->${field}));`,
  )
  return `${headers} int main(void) { ${lines.join('\n')} printf("%zu", sizeof(struct ${name})); }`
}

describe.skipIf(declared.length === 0)('the C headers', () => {
  it.each(declared)('agree on %s', (name, [size, text]) => {
    const fields = fieldsOf(text)
    // An older header lacks the last fields.
    for (let count = fields.length; count > 0; count--) {
      const first = fields.slice(0, count)
      const printed = runC(printing(name, first))
      if (printed === undefined) continue
      const places = first.map(({ name: field, offset, bytes }) => `${field}@${offset}:${bytes} `).join('')
      const whole = count === fields.length ? size : printed.split(' ').at(-1)
      expect(printed).toBe(`${places}${whole}`)
      return
    }
    throw new Error(`struct ${name} has none of the fields`)
  })
})
