import { test } from 'vitest'
import { policies } from '@nestwalk/driver'
import { Machine, scenarios } from './index.js'
test('try', () => {
  for (const scenario of scenarios) for (const policy of policies) {
    const t = performance.now()
    const machine = Machine.create(scenario.machine, { policy })
    for (const a of scenario.setup) machine.perform(a)
    const ids = machine.domainIdsInUse()
    const out: string[] = []
    for (const a of scenario.run) for (const e of machine.perform(a)) if (e.kind === 'dma') out.push(`${e.device} got ${e.got.kind === 'frame' ? e.got.address.toString(16) : 'refused'} (${e.from} ${e.tag?.domainId}) expected ${e.expected.kind === 'frame' ? e.expected.address.toString(16) : 'refused'} ${e.owner}`)
    console.log(scenario.id, policy.letter, ids, out, (performance.now() - t).toFixed(0) + 'ms')
  }
})
