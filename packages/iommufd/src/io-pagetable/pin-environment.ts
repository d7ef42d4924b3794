/**
 * What the operations of an IOAS act on besides itself.
 *
 * @packageDocumentation
 */
import type { IommuBackend } from '../backend.js'
import type { PinAccounts } from './pin-accounts.js'

export interface PinEnvironment {
  readonly backend: IommuBackend
  readonly accounts: PinAccounts
  /** Fault injection: asked once for each pinning (EFAULT) and each charge (ENOMEM). */
  readonly shouldFail?: () => boolean
}
