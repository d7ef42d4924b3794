/**
 * The open points of section 14 that a memory request can show. The first choice of each is the documented
 * default. The second block has no name in the corpus README: points met while writing, same treatment.
 */
export const choices = {
  'mode-reserved': ['illegal-dte', 'page-fault'],
  'glx-reserved': ['rz0', 'rz1'],
  'gpm-reserved': ['rz0', 'rz1'],
  'had-reserved': ['rz1', 'rz0', 'accepted'],
  'pasid-beyond-glx': ['pr0', 'pr1', 'ignored'],
  'pasid-gv0': ['fault', 'untagged'],
  'pasid-v0': ['forward', 'fault'],
  'above-width': ['pr0', 'pr1'],
  'nested-host-fault': ['gva', 'gpa'],
  'gcr3-next-pointer': ['spa', 'gpa'],
  'non-canonical': ['pr0', 'pr1'],
  'giov-event': ['gn1-us1', 'gn1-us0', 'gn0'],
  'giov-dte-denied': ['gn0', 'gn1'],
  'giov-privilege': ['user', 'supervisor'],
  'supervisor-write': ['honours-rw', 'ignores-rw'],
  'pasid0-tagged': ['zero-extended', 'sign-extended'],
  'devid-beyond-table': ['page-fault', 'illegal-dte'],
  'tv0-domain': ['stored', 'zero'],
  'implied-dte-perm': ['with-host-table', 'never', 'always'],
  'upper-half-on-dma': ['ignored', 'illegal-dte'],
  'perm-order': ['each-level', 'leaf', 'last-host-walk'],
  'nl7-above-2p51': ['invalid', 'accepted'],
  'leaf-512g': ['page', 'refused'],
  'leaf-low-bits': ['ignored', 'reserved'],
  'guest-ad-perm': ['when-changing', 'always', 'never'],
  'host-dir-a': ['set', 'leaf-only'],

  /** NextLevel above what HATS allows: RZ=1 by its row in 5.3, or RZ=0 as any other bad level. */
  'next-level-beyond-hats': ['rz1', 'rz0'],
  /** Interrupt range with PASID: IO_PAGE_FAULT for all requests or for writes only (reads: type 0). */
  'interrupt-pasid': ['all', 'writes'],
  'exclusion-before-tv': ['no', 'yes'],
  'exclusion-with-pasid': ['applies', 'ignored'],
} as const

type Choices = typeof choices
export type SwitchName = keyof Choices
export type Switches = { [K in SwitchName]: Choices[K][number] }

export const defaultSwitches: Switches = Object.fromEntries(
  Object.entries(choices).map(([name, list]) => [name, list[0]]),
) as Switches
