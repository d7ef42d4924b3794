/**
 * What fails halfway changes nothing (I21): each operation is given one page, or one DomainID, less than it needs, then two
 * less, and so on down to none.
 */
import { iova, spa } from '@nestwalk/bits'
import { perDevice, sharedGcr3, viommuMap, viommuMapLinux73 } from '@nestwalk/driver'
import type { DomainIdPolicy, Outcome } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { guestEntry } from './guest-entry.js'
import { Machine, readWrite } from './machine.js'
import type { MachineOptions } from './machine.js'

const [one, other] = [0x18, 0x19]
/** What `prepare` makes: a nest parent, a guest table, a process; a vIOMMU on the parent. */
const [parent, guest, process, viommu] = [1, 2, 3, 1]

interface Operation {
  readonly name: string
  /** More preparation. */
  readonly before?: (machine: Machine) => readonly Outcome<unknown>[]
  readonly run: (machine: Machine) => Outcome<unknown>
}

/** Operations one after the other, each carried out before the next one is planned. */
function prepare(machine: Machine, operation: Operation): void {
  const { driver } = machine
  for (const device of [one, other]) {
    machine.run(driver.probe(device, 1, 0, { maxPasids: 1024, atsQueueDepth: 32 }))
  }
  machine.run(driver.allocateHostTable({ nestParent: true }))
  machine.run(driver.allocateGuestTable())
  machine.run(driver.allocateProcess())
  machine.run(driver.createViommu(parent))
  operation.before?.(machine)
}

/** A machine on which the preparation just succeeds with `least` of something, or undefined. */
function prepared(options: MachineOptions, operation: Operation): Machine | undefined {
  let machine: Machine
  try {
    machine = Machine.create({ lastDeviceId: 0x1f, ...options })
    prepare(machine, operation)
    return machine
  } catch (error) {
    // The preparation was refused: there is too little.
    if (error instanceof Error && /ENOMEM|ENOSPC|suffice/.test(error.message)) return undefined
    throw error
  }
}

/** The refusals of an operation, from the least that its preparation needs upwards, until it is accepted. */
function refusals(optionsFor: (amount: number) => MachineOptions, operation: Operation): string[] {
  let least = 1
  while (prepared(optionsFor(least), operation) === undefined) least += 1
  const found: string[] = []
  for (let amount = least; ; amount++) {
    const machine = prepared(optionsFor(amount), operation)!
    const isAccepted = operation.run(machine.fork()).ok
    if (isAccepted) return found
    found.push(machine.refusal(() => operation.run(machine)).split(' ')[0]!)
  }
}

const run = (machine: Machine, ...outcomes: (() => Outcome<unknown>)[]): readonly Outcome<unknown>[] =>
  outcomes.map((each) => {
    const outcome = each()
    machine.run(outcome)
    return outcome
  })

const attachBoth = (machine: Machine): readonly Outcome<unknown>[] =>
  run(
    machine,
    () => machine.driver.attach(one, guest),
    () => machine.driver.attach(other, guest),
  )

const map =
  (domain: number, at: bigint) =>
  ({ driver }: Machine): Outcome<unknown> =>
    driver.map(domain, iova(at), spa(0x7000_0000n), 0x1000n, readWrite)

const allocations = {
  host: { name: 'a host table', run: ({ driver }: Machine) => driver.allocateHostTable() },
  guest: { name: 'a guest table', run: ({ driver }: Machine) => driver.allocateGuestTable() },
  process: { name: 'a process', run: ({ driver }: Machine) => driver.allocateProcess() },
  nested: {
    name: 'a nested domain',
    run: ({ driver }: Machine) => driver.allocateNested(viommu, guestEntry(5)),
  },
} satisfies Record<string, Operation>

const attach: Operation = { name: 'an attach', run: ({ driver }) => driver.attach(one, guest) }
const replace: Operation = {
  name: 'a replace',
  before: (machine) => run(machine, () => machine.driver.attach(one, parent)),
  run: ({ driver }) => driver.replace(one, guest),
}
const attachThrough: Operation = { ...replace, name: 'an attach through blocked', run: attach.run }
const attachGroup: Operation = {
  name: 'an attach of a group',
  run: ({ driver }) => driver.attachGroup(1, guest),
}
const endReset: Operation = {
  name: 'the end of a reset, after others took what the device had',
  before: (machine) =>
    run(
      machine,
      () => machine.driver.attach(one, guest),
      () => machine.driver.beginReset(one),
      () => machine.driver.allocateHostTable(),
      () => machine.driver.allocateHostTable(),
    ),
  run: ({ driver }) => driver.endReset(one),
}
const attachPasid: Operation = {
  name: 'a process on one of two devices',
  before: attachBoth,
  run: ({ driver }) => driver.attachPasid([other], 600, process),
}
const attachPasids: Operation = {
  name: 'a process on two devices',
  before: attachBoth,
  run: ({ driver }) => driver.attachPasid([one, other], 600, process),
}
const attachSecond: Operation = {
  name: 'an attach to a host table that another device is on',
  before: (machine) => run(machine, () => machine.driver.attach(other, parent)),
  run: ({ driver }) => driver.attach(one, parent),
}
const groupToParent = ({ driver }: Machine): Outcome<unknown> => driver.attachGroup(1, parent)
const transaction: Operation = {
  name: 'a transaction',
  run: ({ driver }) =>
    driver.transaction(() => {
      const made = driver.allocateGuestTable()
      if (!made.ok) return made
      const attached = driver.attach(one, made.value)
      return attached.ok ? undefined : attached
    }),
}

/** An operation under a policy, and what it is refused with, once for each thing that it lacks. */
type Row = readonly [policy: DomainIdPolicy, operation: Operation, times: number, errno: 'ENOMEM' | 'ENOSPC']

const check = (rows: readonly Row[], optionsFor: (amount: number) => MachineOptions): void => {
  it.each(rows.map((row) => [row[0].letter, row[1].name, row] as const))(
    '%s: %s',
    (_letter, _name, [policy, operation, times, errno]) => {
      const found = refusals((amount) => ({ policy, ...optionsFor(amount) }), operation)
      expect(found).toEqual(Array.from({ length: times }, () => errno))
    },
  )
}

describe('without pages: ENOMEM, and nothing has changed', () => {
  // A GCR3 table of 1024 PASIDs has two levels: a top, and a page for PASID 0.
  const rows: readonly Row[] = [
    [viommuMap, allocations.host, 1, 'ENOMEM'],
    [viommuMap, allocations.guest, 1, 'ENOMEM'],
    [viommuMap, allocations.process, 1, 'ENOMEM'],
    [viommuMap, { name: 'a page in a host table of three levels', run: map(parent, 0x5000n) }, 2, 'ENOMEM'],
    [viommuMap, { name: 'a page in a guest table of five levels', run: map(guest, 0x5000n) }, 4, 'ENOMEM'],
    [viommuMap, { name: 'growth by a level', run: map(parent, 1n << 39n) }, 1 + 3, 'ENOMEM'],
    ...[viommuMap, viommuMapLinux73, sharedGcr3].flatMap((policy): Row[] => [
      [policy, attach, 2, 'ENOMEM'],
      [policy, replace, 2, 'ENOMEM'],
      [policy, attachThrough, 2, 'ENOMEM'],
      [policy, transaction, 3, 'ENOMEM'],
      [policy, endReset, 2, 'ENOMEM'],
    ]),
    [viommuMap, attachGroup, 4, 'ENOMEM'],
    [sharedGcr3, attachGroup, 2, 'ENOMEM'],
    // A lower page for PASID 600 in each table; or a whole table for the one that splits off.
    [viommuMap, attachPasid, 1, 'ENOMEM'],
    [viommuMap, attachPasids, 2, 'ENOMEM'],
    [sharedGcr3, attachPasid, 3, 'ENOMEM'],
    [sharedGcr3, attachPasids, 1, 'ENOMEM'],
  ]
  check(rows, (pages) => ({ pages: { first: spa(0x10_0000n), pages } }))
})

describe('without DomainIDs: ENOSPC, or ENOMEM from allocations that return NULL; nothing has changed', () => {
  const rows: readonly Row[] = [
    [viommuMap, allocations.host, 1, 'ENOMEM'],
    [viommuMap, allocations.guest, 1, 'ENOMEM'],
    [viommuMap, allocations.process, 1, 'ENOMEM'],
    [viommuMap, allocations.nested, 1, 'ENOSPC'],
    [viommuMapLinux73, allocations.nested, 1, 'ENOSPC'],
    [viommuMap, attach, 1, 'ENOSPC'],
    [viommuMap, replace, 1, 'ENOSPC'],
    [viommuMap, attachThrough, 1, 'ENOSPC'],
    [viommuMap, attachGroup, 2, 'ENOSPC'],
    [viommuMapLinux73, attachGroup, 2, 'ENOSPC'],
    [sharedGcr3, attachGroup, 1, 'ENOSPC'],
    [sharedGcr3, attachPasid, 1, 'ENOSPC'],
    [viommuMap, endReset, 1, 'ENOSPC'],
    [sharedGcr3, endReset, 1, 'ENOSPC'],
    [perDevice, attachSecond, 1, 'ENOSPC'],
    // There is one ID at least, so the first member gets it.
    [perDevice, { name: 'an attach of a group to it', run: groupToParent }, 1, 'ENOSPC'],
  ]
  check(rows, (lastDomainId) => ({ lastDomainId }))
})
