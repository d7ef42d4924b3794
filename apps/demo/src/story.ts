/**
 * A run told line by line: who wrote what, which tag was filled, which access hit it, what the device got.
 *
 * @packageDocumentation
 */
import { decodeDte, deviceId, formatDeviceId } from '@nestwalk/hardware'
import type { Effect } from '@nestwalk/driver'
import type { Answer } from '@nestwalk/scenario'
import type { Paint } from './paint.js'
import type { Judgement, JudgedDma, PlayedAction } from './verdict.js'

const actorColumns = 11

/** The lines of a judged run. */
export function tellStory({ actions }: Judgement, paint: Paint): string[] {
  return actions.flatMap((played) => tellAction(played, paint))
}

function tellAction({ action, events }: PlayedAction, paint: Paint): string[] {
  const domain = 'domain' in action ? action.domain : ''
  return events.flatMap((event): string[] => {
    switch (event.kind) {
      case 'guest-effect':
        return tellStores(`${event.vm} guest`, event.effect, domain)
      case 'host-effect':
        return tellStores('host', event.effect, domain)
      case 'vmm':
        return event.what.includes('HWPT') ? [line(`${event.vm} VMM`, event.errno ?? event.what)] : []
      case 'dma':
        return tellDma(event, paint)
      default:
        return []
    }
  })
}

/** Stores that decide where a device's requests go; the others would hide them. */
function tellStores(who: string, effect: Effect, domain: string): string[] {
  if (effect.kind !== 'store') return []
  const [low, high] = effect.words
  if (high !== undefined && effect.what.endsWith('lower half')) {
    const name = effect.what.slice(0, effect.what.indexOf(','))
    return [line(who, `${name} := ${describeEntry(low, high)}`)]
  }
  const page = /pages from (0x[0-9a-f]+)$/.exec(effect.what)
  if (page?.[1] === undefined) return []
  return [line(who, `maps ${page[1]} to GPA ${hex(low & 0xf_ffff_ffff_f000n)} in domain ${domain}`)]
}

function describeEntry(low: bigint, high: bigint): string {
  const entry = decodeDte(BigUint64Array.of(low, high, 0n, 0n))
  if (!entry.translationValid) return 'blocked'
  const walked = [
    ...(entry.guestValid ? [`GCR3 at GPA ${hex(entry.gcr3Root)}`] : []),
    ...(entry.mode > 0 ? [entry.guestValid ? 'nested' : 'host table'] : []),
  ]
  return [`DomainID ${entry.domainId}`, ...walked].join(', ')
}

function tellDma(event: JudgedDma, paint: Paint): string[] {
  const { device, gva, write, tag, from, filledBy, got, expected, verdict } = event
  const filed = tag === undefined ? '' : `(DomainID ${tag.domainId}, PASID ${tag.pasid ?? '-'}, ${hex(gva)})`
  const how =
    from === 'iotlb'
      ? `HITS tag ${filed}, filled by ${filledBy ?? 'nobody'}`
      : from === 'walk'
        ? `walks the tables, fills tag ${filed}`
        : from
  return [
    '',
    line(device, `${write ? 'writes' : 'reads'} ${hex(gva)}`),
    line('', how),
    line('', `gets ${show(got)}, should get ${show(expected)}: ${paint(verdict, verdict)}`),
  ]
}

const show = (answer: Answer): string =>
  answer.kind === 'refused' ? 'refused' : `SPA ${hex(answer.address)}`

const hex = (value: bigint): string => `0x${value.toString(16)}`

const line = (who: string, what: string): string => `  ${who.padEnd(actorColumns)}${what}`.trimEnd()

/** "D1 is 00:03.0 on the host and 00:01.0 in VM1". */
export function tellDevices({ scenario: { machine } }: Judgement): string[] {
  return machine.devices.map(({ name, deviceId: hostId, group }) => {
    const vm = machine.vms.find(({ devices }) => devices.some((each) => each.name === name))
    const virtualId = vm?.devices.find((each) => each.name === name)?.virtualId ?? 0
    const [onHost, inVm] = [hostId, virtualId].map((id) => formatDeviceId(deviceId(id)))
    return `  ${name}: ${onHost ?? ''} on the host, group ${group}; ${inVm ?? ''} in ${vm?.name ?? 'no VM'}`
  })
}
