import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { modulesWithNeeds, needsOf } from '../src/linux/modules.js'

const folder = mkdtempSync(join(tmpdir(), 'nw-modules-'))
afterAll(() => {
  rmSync(folder, { recursive: true })
})

/** What a module's `.modinfo` looks like among other bytes. */
const moduleNeeding = (...needs: string[]): Buffer =>
  Buffer.from(`\x7fELF\0license=GPL\0depends=${needs.join(',')}\0name=x\0`)

function put(path: string, content: Buffer): void {
  mkdirSync(join(folder, 'kernel', path, '..'), { recursive: true })
  writeFileSync(join(folder, 'kernel', path), content)
}

put('drivers/top-module.ko', moduleNeeding('left_part', 'right'))
put('drivers/left-part.ko', moduleNeeding('base'))
put('lib/right.ko', moduleNeeding('base'))
put('lib/base.ko', moduleNeeding())

describe('kernel modules', () => {
  it('come with what they need, each once, after what it needs', async () => {
    const modules = await modulesWithNeeds(folder, ['base', 'top_module'])
    expect(modules.map(({ name }) => name)).toEqual(['base', 'left_part', 'right', 'top_module'])
    expect(modules[0]?.content).toEqual(moduleNeeding())
  })

  it('that are not there are named', async () => {
    await expect(modulesWithNeeds(folder, ['vfio_pci'])).rejects.toThrow(/no module vfio_pci/)
  })

  it('say what they need, hyphens being underscores', () => {
    expect(needsOf(moduleNeeding('vfio-pci-core', 'irqbypass'))).toEqual(['vfio_pci_core', 'irqbypass'])
    expect(needsOf(moduleNeeding())).toEqual([])
    expect(needsOf(Buffer.from('no such section'))).toEqual([])
  })
})
