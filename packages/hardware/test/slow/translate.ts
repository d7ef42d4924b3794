import { bit, bits, frame } from './bits.js'
import { decodeDte, deepestHostLevel, reservedInLowerHalf, reservedInUpperHalf } from './dte.js'
import type { Dte } from './dte.js'
import {
  denied,
  devTabHardwareError,
  illegalDte,
  invalidDeviceRequest,
  notPresent,
  pageFault,
  present,
  Refusal,
} from './faults.js'
import { guestWalk } from './guest.js'
import { hostWalk, markDirty } from './host.js'
import { defaultSwitches } from './switches.js'
import type { Switches } from './switches.js'
import type { Granted, Machine, Request, Result } from './types.js'
import { Walk } from './walk.js'

/** Section 5.2, one memory request, no caches. */
export function slowTranslate(machine: Machine, request: Request, switches: Partial<Switches> = {}): Result {
  const walk = new Walk(machine, request, { ...defaultSwitches, ...switches })
  try {
    return steps(walk)
  } catch (thrown) {
    if (!(thrown instanceof Refusal)) throw thrown
    const { reads, dteReads } = walk
    return { kind: 'fault', event: thrown.event, cause: thrown.cause, reads, dteReads }
  }
}

function steps(walk: Walk): Result {
  const { machine, request, switches } = walk
  const { control } = machine.registers

  // 1. IommuEn=0
  if (!bit(control, 0)) return forwarded(walk)

  // 2. Address classification (5.5)
  const special = classify(walk)
  if (special !== undefined) return { kind: special, reads: walk.reads, dteReads: walk.dteReads }

  // 3. Fetch the DTE
  const dte = fetchDte(walk)
  walk.dte = dte

  // 4. V=0
  if (!dte.v) {
    if (walk.tagged && switches['pasid-v0'] === 'fault') throw pageFault(walk, 'pasid-v0', notPresent)
    return forwarded(walk)
  }

  // 5. Reserved and gated bits (2.6)
  const reserved = reservedInLowerHalf(dte, machine)
  if (reserved !== undefined) throw illegalDte(walk, reserved, true)
  if (switches['upper-half-on-dma'] === 'illegal-dte' && reservedInUpperHalf(dte, machine)) {
    throw illegalDte(walk, 'dte-upper-half', true)
  }
  if (dte.tv && dte.had === 2 && switches['had-reserved'] !== 'accepted') {
    throw illegalDte(walk, 'dte-had-reserved', switches['had-reserved'] === 'rz1')
  }

  // 6. Translated requests: not modelled here

  // 7. TV=0
  const excluded = inExclusionRange(walk, dte)
  if (excluded && switches['exclusion-before-tv'] === 'yes') return forwarded(walk)
  if (!dte.tv) {
    const naming = switches['tv0-domain'] === 'zero' ? { domainId: 0n } : {}
    throw pageFault(walk, 'dte-tv0', notPresent, naming)
  }

  // 8. Exclusion range (5.4)
  if (excluded) return forwarded(walk)

  // 9. DTE.IR / IW
  if (request.write ? !dte.iw : !dte.ir) {
    const asGuest = switches['giov-dte-denied'] === 'gn1' && dte.gv && dte.giov
    throw pageFault(walk, request.write ? 'dte-no-write' : 'dte-no-read', denied, { asGuest })
  }

  // 10. Level encodings (2.6), then the regime by 2.4
  checkLevels(walk, dte)
  if (walk.tagged && !dte.gv) {
    if (switches['pasid-gv0'] === 'fault') throw pageFault(walk, 'pasid-gv0', notPresent)
    walk.pasid = undefined
  }
  walk.guestInUse = dte.gv && (walk.tagged || dte.giov)

  // 11. TLB: none

  // 12. and 13. Walk, A/D, result
  if (walk.guestInUse) return dte.mode === 0 ? guest(walk, dte) : nested(walk, dte)
  return dte.mode === 0 ? identity(walk, dte) : host(walk, dte)
}

function classify(walk: Walk): 'interrupt' | 'special' | undefined {
  const { machine, request, switches } = walk
  if (request.iova >= 0xfee00000n && request.iova <= 0xfeefffffn) {
    if (walk.tagged && (request.write || switches['interrupt-pasid'] === 'all')) {
      throw pageFault(walk, 'interrupt-pasid', notPresent)
    }
    if (request.write) return 'interrupt'
    throw invalidDeviceRequest(walk, 'interrupt-read', 0)
  }
  const htRangeIgnore = bit(machine.features.efr2, 11)
  if (request.iova >= 0xfd00000000n && request.iova <= 0xffffffffffn && !htRangeIgnore) return 'special'
  return undefined
}

/** Section 2.1. */
function fetchDte(walk: Walk): Dte {
  const { machine, request, switches } = walk
  // Reserved values of DevTblSegEn count as the largest documented one.
  const selectBits = Math.min(Number(bits(machine.registers.control, 36, 34)), 3)
  const segment = request.deviceId >> (16 - selectBits)
  const index = request.deviceId & ((1 << (16 - selectBits)) - 1)
  const register = machine.registers.deviceTableBases[segment] ?? 0n
  const bytes = (bits(register, 8, 0) + 1n) * 4096n
  const offset = 32n * BigInt(index)
  if (offset >= bytes) {
    if (switches['devid-beyond-table'] === 'illegal-dte') throw illegalDte(walk, 'devid-beyond-table', false)
    throw pageFault(walk, 'devid-beyond-table', notPresent, { domainId: 0n })
  }
  const address = frame(register) + offset
  walk.dteReads.push(address)
  const words: bigint[] = []
  for (let word = 0n; word < 4n; word++) {
    const value = machine.load64(address + 8n * word)
    if (value === undefined) throw devTabHardwareError(walk, address)
    words.push(value)
  }
  return decodeDte([words[0]!, words[1]!, words[2]!, words[3]!])
}

/** Section 5.4. */
function inExclusionRange(walk: Walk, dte: Dte): boolean {
  const { exclusionBase = 0n, exclusionLimit = 0n } = walk.machine.registers
  if (!bit(exclusionBase, 0)) return false
  if (!bit(exclusionBase, 1) && !dte.ex) return false
  if (walk.tagged && walk.switches['exclusion-with-pasid'] === 'ignored') return false
  const { iova } = walk.request
  return iova >= frame(exclusionBase) && iova <= (frame(exclusionLimit) | 0xfffn)
}

/** Section 2.6, the rows with a level encoding. */
function checkLevels(walk: Walk, dte: Dte): void {
  const { efr } = walk.machine.features
  const { switches } = walk
  if (dte.mode > deepestHostLevel(efr)) {
    if (switches['mode-reserved'] === 'page-fault') throw pageFault(walk, 'dte-mode-reserved', present)
    throw illegalDte(walk, 'dte-mode-reserved', false)
  }
  if (!dte.gv) return
  if (dte.glx === 3 || dte.glx > Number(bits(efr, 15, 14))) {
    throw illegalDte(walk, 'dte-glx-reserved', switches['glx-reserved'] === 'rz1')
  }
  if (dte.guestPagingMode >= 2 || (dte.guestPagingMode === 1 && bits(efr, 13, 12) === 0n)) {
    throw illegalDte(walk, 'dte-gpm-reserved', switches['gpm-reserved'] === 'rz1')
  }
}

function forwarded(walk: Walk): Granted {
  const { reads, dteReads } = walk
  return {
    kind: 'forwarded',
    spa: walk.request.iova,
    readable: true,
    writable: true,
    reads,
    dteReads,
    stores: [],
  }
}

function translated(
  walk: Walk,
  result: { spa: bigint; sizeLog2?: number; readable: boolean; writable: boolean },
): Granted {
  const { reads, dteReads } = walk
  return { kind: 'translated', ...result, reads, dteReads, stores: walk.stores() }
}

function identity(walk: Walk, dte: Dte): Granted {
  return translated(walk, { spa: walk.request.iova, readable: dte.ir, writable: dte.iw })
}

function host(walk: Walk, dte: Dte): Granted {
  const { request } = walk
  const result = hostWalk(walk, dte, request.iova, request.write ? 'write' : 'read', false)
  if (request.write) markDirty(walk, dte, result)
  const { spa, sizeLog2, readable, writable } = result
  return translated(walk, { spa, sizeLog2, readable, writable })
}

function guest(walk: Walk, dte: Dte): Granted {
  const { gpa, sizeLog2, writable, checkPermission } = guestWalk(walk, dte)
  checkPermission()
  return translated(walk, { spa: gpa, sizeLog2, readable: dte.ir, writable: writable && dte.iw })
}

/** Section 4.5. */
function nested(walk: Walk, dte: Dte): Granted {
  const { request } = walk
  const inner = guestWalk(walk, dte)
  walk.onBehalfOf = inner.gpa
  const outer = hostWalk(walk, dte, inner.gpa, request.write ? 'write' : 'read', false)
  walk.onBehalfOf = undefined
  inner.checkPermission()
  if (request.write) markDirty(walk, dte, outer)
  return translated(walk, {
    spa: outer.spa,
    sizeLog2: Math.min(inner.sizeLog2, outer.sizeLog2),
    readable: outer.readable,
    writable: inner.writable && outer.writable,
  })
}
