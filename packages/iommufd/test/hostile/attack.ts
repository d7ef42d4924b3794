/** Hostile programs against one kernel after the other, and what must be left of them: nothing. */
import { amdMachine } from '../../src/file/amd-kernel.js'
import { Kernel } from '../../src/file/kernel.js'
import { MockBackend } from '../../src/mock/mock-backend.js'
import { testCommand } from '../../src/mock/test-command.js'
import { referencesOf } from '../../src/object/object.js'
import type { ObjectId } from '../../src/object/object.js'
import { SimulatedHost } from '../../src/simulated-process.js'
import { HostileClient } from './client.js'
import type { Tally } from './client.js'
import { Random } from './random.js'

export interface Report {
  kernels: number
  acts: number
  readonly tally: Tally
  /** What should not be, in words. */
  readonly wrong: string[]
}

export const emptyReport = (): Report => ({
  kernels: 0,
  acts: 0,
  tally: { outcomes: new Map(), unexplained: new Set(), longestMs: 0, longest: '' },
  wrong: [],
})

type Flavour = 'mock' | 'amd' | 'amd with extensions'

export const flavours: readonly Flavour[] = ['mock', 'amd', 'amd with extensions']

/** `acts` calls of a few programs on one kernel. What comes of it depends on the seed alone. */
export function attack(flavour: Flavour, seed: number, acts: number, report: Report): void {
  const random = new Random(seed)
  const host = SimulatedHost.create()
  const backend = new MockBackend()
  const kernel =
    flavour === 'mock'
      ? Kernel.create({ backend, testCalls: [testCommand] })
      : amdMachine({ extensions: flavour !== 'amd' }).kernel
  const before = JSON.stringify(plain(kernel.iommufd.snapshot()))
  const client = (): HostileClient =>
    new HostileClient(kernel, random, host, flavour === 'mock' ? testCommand : undefined, report.tally)
  const clients = [client(), client()]
  for (let act = 0; act < acts; act++) {
    const at = random.below(clients.length)
    if (random.chance(0.0005)) {
      clients[at]?.die()
      clients[at] = client()
    }
    clients[at]?.act()
    if (act % 512 === 0) checkUsers(kernel, `seed ${seed}, act ${act}`, report.wrong)
  }
  for (const each of clients) each.die()
  report.kernels += 1
  report.acts += acts
  const after = JSON.stringify(plain(kernel.iommufd.snapshot()))
  if (after !== before) report.wrong.push(`seed ${seed}, ${flavour}: left behind ${after.slice(0, 400)}`)
  if (host.pinned !== 0) report.wrong.push(`seed ${seed}, ${flavour}: ${host.pinned} pages are still pinned`)
}

/** Every object has as many users as refer to it, and files and mappings beside. */
function checkUsers({ iommufd }: Kernel, when: string, wrong: string[]): void {
  for (const context of iommufd.contexts) {
    const users = new Map<ObjectId, number>()
    for (const [, object] of context.objects.entries())
      for (const id of referencesOf(object)) users.set(id, (users.get(id) ?? 0) + 1)
    for (const [id, object] of context.objects.entries()) {
      const counted = users.get(id) ?? 0
      const most = counted + extraUsers[object.kind]
      if (object.users < counted || object.users > most)
        wrong.push(`${when}: ${object.kind} ${id} has ${object.users} users, ${counted} refer to it`)
    }
  }
}

/** Who may hold an object besides other objects: its driver, its file, programs that have mapped its region. */
const extraUsers = {
  ...{ ioas: 0, 'paging-hwpt': 0, 'nested-hwpt': 0, vdevice: 0, 'hw-queue': 0, selftest: 0 },
  ...{ device: 1, access: 1, fault: 1, veventq: 1, viommu: 1000 },
}

/** Maps and big numbers as text. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return `${value}n`
  if (Array.isArray(value)) return value.map(plain)
  if (value instanceof Map) return [...value].map(plain)
  return value
}
