/**
 * Runs a scenario under a policy and judges every answer that a device got.
 *
 * An answer is right if a bare-metal IOMMU under the same guest could have given it now: what a walk without caches finds
 * for the device, or for another device to which the guest gave the same DomainID, since the guest's own TLB would mix
 * those up too. Nothing is judged by the name of a policy or of a scenario.
 *
 * @packageDocumentation
 */
import type { DomainIdPolicy } from '@nestwalk/driver'
import { isEnabled, isSameAnswer, Machine, readGuestEntry } from '@nestwalk/scenario'
import type { Action, Answer, DmaEvent, MachineEvent, Scenario } from '@nestwalk/scenario'

/** What became of a request, the worst last. */
const verdicts = ['ok', 'refused', 'stale', 'cross', 'leak'] as const

/**
 * `ok`: right. `refused`: it should have passed. `stale`: the device's own answer from before an invalidation that has
 * completed. `cross`: another device's answer. `leak`: memory that is not its VM's.
 */
export type Verdict = (typeof verdicts)[number]

/** A request with its verdict. */
export interface JudgedDma extends DmaEvent {
  readonly verdict: Verdict
}

/** An action with all that happened. */
export interface PlayedAction {
  readonly phase: 'setup' | 'run'
  readonly action: Action
  readonly events: readonly (Exclude<MachineEvent, DmaEvent> | JudgedDma)[]
}

/** A scenario under a policy, run and judged. */
export interface Judgement {
  readonly scenario: Scenario
  readonly policy: DomainIdPolicy
  /** The worst of all requests. */
  readonly verdict: Verdict
  /** How many different DomainIDs the host's driver had in use for the VMs, from their creation on. */
  readonly domainIds: number
  /** Commands that the host's IOMMU carried out after the setup. */
  readonly commands: number
  readonly actions: readonly PlayedAction[]
}

/** Runs and judges. */
export function judge(scenario: Scenario, policy: DomainIdPolicy): Judgement {
  const machine = Machine.create(scenario.machine, { policy })
  const history = new AnswerHistory(machine, scenario)
  const domainIds = new Set(machine.driver.tags.map(({ domainId }) => domainId))
  const actions: PlayedAction[] = []
  const play = (phase: PlayedAction['phase'], action: Action): void => {
    const events = machine
      .perform(action)
      .map((event) => (event.kind === 'dma' ? { ...event, verdict: history.verdictOf(event) } : event))
    history.note()
    for (const { domainId } of machine.driver.tags) domainIds.add(domainId)
    actions.push({ phase, action, events })
  }
  for (const action of scenario.setup) play('setup', action)
  for (const action of scenario.run) play('run', action)
  const ran = actions.filter(({ phase }) => phase === 'run').flatMap(({ events }) => events)
  return {
    scenario,
    policy,
    verdict: worst(ran.flatMap((event) => (event.kind === 'dma' ? [event.verdict] : []))),
    domainIds: domainIds.size,
    commands: ran.filter(({ kind }) => kind === 'command').length,
    actions,
  }
}

const worst = (all: readonly Verdict[]): Verdict =>
  all.reduce<Verdict>((a, b) => (verdicts.indexOf(b) > verdicts.indexOf(a) ? b : a), 'ok')

/** What each device should have got for each address of a scenario, at every moment so far. */
class AnswerHistory {
  private readonly addresses: readonly bigint[]
  private readonly past = new Map<string, Answer[]>()

  constructor(
    private readonly machine: Machine,
    scenario: Scenario,
  ) {
    const accessed = [...scenario.setup, ...scenario.run].flatMap((action) =>
      action.do === 'dma' ? [action.gva] : [],
    )
    this.addresses = [...new Set(accessed)]
    this.note()
  }

  /** Remembers what every device should get now. */
  note(): void {
    for (const vm of this.machine.vms) {
      for (const device of vm.devices) {
        for (const gva of this.addresses) {
          const key = keyOf(device, gva)
          this.past.set(key, [...(this.past.get(key) ?? []), this.machine.expected(device, gva, false)])
        }
      }
    }
  }

  verdictOf(event: DmaEvent): Verdict {
    const { device, gva, got } = event
    if (this.rightAnswers(event).some((answer) => isSameAnswer(answer, got))) return 'ok'
    if (got.kind === 'refused') return 'refused'
    if (event.owner !== event.vm) return 'leak'
    const own = this.past.get(keyOf(device, gva)) ?? []
    return own.some((answer) => isSameAnswer(answer, got)) ? 'stale' : 'cross'
  }

  /** What bare metal could give: the device's own answer, and that of devices under the same guest DomainID. */
  private rightAnswers({ device, gva, write, expected }: DmaEvent): readonly Answer[] {
    const vm = this.machine.vmOf(device)
    const domainId = guestDomainIdOf(this.machine, device)
    if (domainId === undefined) return [expected]
    return vm.devices
      .filter((other) => guestDomainIdOf(this.machine, other) === domainId)
      .map((other) => this.machine.expected(other, gva, write))
  }
}

const keyOf = (device: string, gva: bigint): string => `${device} ${gva}`

/** The DomainID that the guest gave a device whose requests go through guest tables. */
function guestDomainIdOf(machine: Machine, device: string): number | undefined {
  const vm = machine.vmOf(device)
  const virtualId = vm.virtualIdOf(device)
  if (virtualId === undefined || !isEnabled(vm)) return undefined
  const entry = readGuestEntry(vm, virtualId)
  return entry?.valid === true && entry.translationValid && entry.guestValid ? entry.domainId : undefined
}
