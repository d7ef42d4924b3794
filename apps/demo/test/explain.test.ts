/** `nestwalk explain`: the rules that are shown, and what it makes of other words. */
import { rules } from '@nestwalk/iommufd'
import { describe, expect, it } from 'vitest'
import { runCommandLine } from '../src/command-line.js'

async function explain(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  let [stdout, stderr] = ['', '']
  const code = await runCommandLine(['explain', ...args], {
    stdout: (text) => (stdout += text),
    stderr: (text) => (stderr += text),
  })
  return { code, stdout, stderr }
}

describe('nestwalk explain', () => {
  it('tells that hwpt_alloc gives EINVAL, not ENOENT, for a page table that is not there', async () => {
    const { code, stdout } = await explain('EINVAL', 'hwpt_alloc')
    expect(code).toBe(0)
    expect(stdout).toContain('no-such-page-table')
    expect(stdout).toContain('drivers/iommu/iommufd/hw_pagetable.c')
    expect(stdout).not.toContain('no-such-device-object')
  })

  it.each([
    ['22', 'IOMMU_HWPT_ALLOC'],
    ['einval', 'hwpt-alloc'],
    ['hwpt_alloc', 'EINVAL'],
  ])('takes %s %s for the same', async (...words) => {
    expect(await explain(...words)).toEqual(await explain('EINVAL', 'hwpt_alloc'))
  })

  it('fits 80 columns, whatever is asked', async () => {
    const { stdout } = await explain('EINVAL')
    expect(stdout.split('\n').filter((line) => line.length > 80)).toEqual([])
  })

  it('shows each rule of the catalogue under each of its calls, and no other', async () => {
    for (const call of new Set(Object.values(rules).flatMap(({ calls }) => calls))) {
      const { stdout } = await explain(call, '--json')
      const names = (JSON.parse(stdout) as { rules: { name: string }[] }).rules.map(({ name }) => name)
      const expected = Object.entries(rules).filter(([, rule]) => rule.calls.includes(call))
      expect(names).toEqual(expected.map(([name]) => name))
    }
  })

  it('says no where there is no such rule', async () => {
    expect((await explain('EBADE', 'destroy')).code).toBe(1)
  })

  it.each([[], ['EFOO'], ['hwpt'], ['EINVAL', 'hwpt_alloc', 'more']])(
    'tells what it needs: %s %s %s',
    async (...words) => {
      const { code, stdout, stderr } = await explain(...words)
      expect([code, stdout]).toEqual([2, ''])
      expect(stderr).toMatch(/errno/)
    },
  )
})
