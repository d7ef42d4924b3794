/**
 * Where the pages of a caller's memory are, asked once for each page in a row.
 *
 * @packageDocumentation
 */
import type { AddressSpace } from '../process.js'
import { pageBytes } from '../process.js'

export interface UserPage {
  /** Physical address of its first byte. */
  readonly physical: bigint
  readonly isHugePage: boolean
}

const offsetMask = BigInt(pageBytes - 1)

export class UserPages {
  readonly #memory: AddressSpace
  #last: { readonly address: bigint; readonly page: UserPage | undefined } | undefined

  constructor(memory: AddressSpace) {
    this.#memory = memory
  }

  /** The page that holds an address. */
  lookUp(address: bigint): UserPage | undefined {
    const start = address & ~offsetMask
    if (this.#last?.address !== start) this.#last = { address: start, page: this.#memory.lookUp(start) }
    return this.#last.page
  }

  /** Physical address of a byte. */
  physical(address: bigint): bigint | undefined {
    const page = this.lookUp(address)
    return page && page.physical + (address & offsetMask)
  }
}
