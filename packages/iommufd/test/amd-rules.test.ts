/** The driver's refusals pass through iommufd as they are: the catalogue knows those that a call can get. */
import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { amdDriverRules } from '../src/rules/amd-driver-rules.js'
import { rules } from '../src/rules/rules.js'

/** Rules of the driver that no call of iommufd can break: the core has looked before, or has no such call. */
const outOfReach: ReadonlySet<string> = new Set([
  // Bring-up, devices that come and go, and resets.
  ...[
    'device-known',
    'iommu-of-the-table',
    'ivrs-unreadable',
    'iommus-of-the-table',
    'no-device-table-entry',
  ],
  ...['no-iommu-capability', 'no-register-base', 'no-iommu-for-device', 'no-such-group', 'no-translation'],
  ...['no-bring-up-pages', 'not-in-reset', 'default-domain'],
  // Numbers that the core has from the driver, in use as long as the core has objects for them.
  ...[
    'no-such-device',
    'no-such-domain',
    'no-such-iommu',
    'no-such-viommu',
    'no-such-virtual-id',
    'no-such-pasid',
  ],
  ...['domain-in-use', 'viommu-in-use', 'no-such-page-request'],
  // Kinds of domains that the core tells apart.
  ...['nest-parent-required', 'no-own-table', 'pasid-required', 'same-id-unsupported'],
])

const source = new URL('../../driver/src/', import.meta.url)

/** Errno and rule of every refusal in the driver's sources. */
const refusals: readonly (readonly [errno: string, rule: string])[] = readdirSync(source, {
  recursive: true,
  encoding: 'utf8',
})
  .filter((name) => name.endsWith('.ts'))
  .map((name) => readFileSync(new URL(name, source), 'utf8'))
  .flatMap((text) =>
    [...text.matchAll(/\brefuse\(\s*'(\w+)',\s*'([\w-]+)'/g)].map(
      ([, errno, rule]) => [errno!, rule!] as const,
    ),
  )

describe('the rules of the driver', () => {
  it('are found', () => {
    expect(refusals.length).toBeGreaterThan(60)
  })

  it.each(refusals.filter(([, rule]) => !outOfReach.has(rule)))(
    '%s %s is in the catalogue',
    (errno, rule) => {
      expect(rules).toHaveProperty([rule, 'errno'], errno)
    },
  )

  it('are one errno each', () => {
    const pairs = new Set(refusals.map(([errno, rule]) => `${rule} ${errno}`))
    expect(pairs.size).toBe(new Set(refusals.map(([, rule]) => rule)).size)
  })

  it.each(Object.keys(amdDriverRules))('the catalogue has none that the driver has not: %s', (rule) => {
    expect(refusals.map(([, name]) => name)).toContain(rule)
  })
})
