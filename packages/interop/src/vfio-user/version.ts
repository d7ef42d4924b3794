/**
 * How a session begins: the two sides agree on a version and on limits.
 *
 * QEMU docs/interop/vfio-user.rst, VFIO_USER_VERSION.
 *
 * @packageDocumentation
 */
import { defineStruct, readStruct, u16, writeStruct } from '@nestwalk/bits'
import { mostTransferBytes } from './message.js'
import type { ErrnoName } from './message.js'

const versionLayout = defineStruct({
  name: 'vfio_user_version',
  byteLength: 4,
  fields: { major: u16(0), minor: u16(2) },
})

const ours = { major: 0, minor: 1 } as const

/** What may be said of us; what the other side did not name is left out of the answer. */
const capabilities: Readonly<Record<string, number>> = {
  max_msg_fds: 8,
  max_data_xfer_size: mostTransferBytes,
  pgsizes: 4096,
}

/** The answer to a proposal: the same major version, a minor one that both have, and the limits in JSON with a zero byte. */
export function answerVersion(proposal: Uint8Array): Uint8Array | ErrnoName {
  if (proposal.length < versionLayout.byteLength) return 'EINVAL'
  const { major, minor } = readStruct(versionLayout, proposal)
  if (major !== ours.major) return 'EOPNOTSUPP'
  const named = capabilitiesNamed(proposal.subarray(versionLayout.byteLength))
  if (named === undefined) return 'EINVAL'
  const agreed = Object.entries(capabilities).filter(([name]) => named.includes(name))
  const text = JSON.stringify({ capabilities: Object.fromEntries(agreed) })
  const bytes = new Uint8Array(versionLayout.byteLength + text.length + 1)
  writeStruct(versionLayout, { major, minor: Math.min(minor, ours.minor) }, bytes)
  bytes.set(new TextEncoder().encode(text), versionLayout.byteLength)
  return bytes
}

/** The names of the capabilities in a proposal's text; undefined if it is no such text. */
function capabilitiesNamed(text: Uint8Array): string[] | undefined {
  if (text.length === 0) return []
  try {
    const end = text.indexOf(0)
    if (end < 0) return undefined
    const said: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text.subarray(0, end)))
    if (typeof said !== 'object' || said === null) return undefined
    const { capabilities: found = {} } = said as { capabilities?: unknown }
    return typeof found === 'object' && found !== null ? Object.keys(found) : undefined
  } catch {
    return undefined
  }
}
