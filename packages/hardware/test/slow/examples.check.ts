/** npx --yes tsx examples.check.ts: the worked examples of sections 15.7, 15.1 and 15.4. */
import { answerText } from './corpus.js'
import { slowTranslate } from './translate.js'
import type { Machine, Request } from './types.js'

const efr = 0x247777efa2254afan
const deviceTable = 0x7000000n
let failures = 0

function machine(
  dte: bigint[],
  entries: [bigint, bigint][],
  control: bigint,
  exclusion: [bigint, bigint] = [0n, 0n],
): Machine {
  const words = new Map(entries)
  dte.forEach((word, n) => words.set(deviceTable + 8n * BigInt(n), word))
  return {
    load64: (address) => (address < 1n << 40n ? (words.get(address) ?? 0n) : undefined),
    registers: {
      deviceTableBases: [deviceTable],
      control,
      exclusionBase: exclusion[0],
      exclusionLimit: exclusion[1],
    },
    features: { efr, efr2: 8n },
  }
}

function check(
  what: string,
  on: Machine,
  request: Partial<Request>,
  expected: string,
  reads?: bigint[],
): void {
  const result = slowTranslate(on, { deviceId: 0, iova: 0n, write: false, ...request })
  const actual = answerText(result, false)
  if (actual !== expected) {
    failures++
    console.log(`${what}: expected ${expected}, got ${actual}`)
  }
  if (reads !== undefined && reads.join() !== result.reads.join()) {
    failures++
    console.log(`${what}: reads ${result.reads.map((address) => address.toString(16)).join(' ')}`)
  }
}

/** An event from its four 32-bit words. */
function event(words: string): string {
  const bytes = words.split(' ').map((word) => word.match(/../g)!.reverse().join(''))
  return `fault ${bytes.join('')}`
}

// Control: IommuEn, GTEn, GDUpdateDis, GAUpdateDis, GCR3TRPMode
const on = 0x0441000000010001n
const root = 0x300000000n
const host = machine(
  [0x6000000000000803n | root, 0x42n, 0n, 0n],
  [
    [root, 0x6000000300001201n],
    [0x300001028n, 0x6000000000777001n],
    [0x300001040n, 0x6000000876545e01n],
    [0x300001048n, 0x6000000876545e01n],
    [0x300001050n, 0x6000000876545e01n],
    [0x300001058n, 0x6000000876545e01n],
    [0x300001080n, 0x60000004000ffe01n],
    [0x300001088n, 0x6000000300005401n],
    [0x300001090n, 0x2000000000999001n],
  ],
  on,
)
check('host', host, { iova: 0x5abcn }, 'pa 777abc size 1000', [root, 0x300001028n])
check('skipped', host, { iova: 0x205abcn }, event('00000000 20100042 00205abc 00000000'), [root])
check('bit 48', host, { iova: 1n << 48n }, event('00000000 20000042 00000000 00010000'), [])
check('16 KiB', host, { iova: 0x8123n }, 'pa 876544123 size 4000')
check('16 KiB, last', host, { iova: 0xb123n }, 'pa 876547123 size 4000')
check('bad size', host, { iova: 0x10000n }, event('00000000 20100042 00010000 00000000'))
check('bad level', host, { iova: 0x11000n }, event('00000000 20100042 00011000 00000000'))
check('read-only, read', host, { iova: 0x12000n }, 'pa 999000 size 1000')
check('read-only, write', host, { iova: 0x12000n, write: true }, event('00000000 20700042 00012000 00000000'))

const nested = machine(
  // V TV IR IW GV GIoV, Mode 3, root 100000000, GLX 0, GCR3 10000
  [0x60c0000100000603n, 0x20042n, 0n, 0n],
  [
    [0x100000000n, 0x6000000100001401n],
    [0x100001000n, 0x6000000100002201n],
    [0x100001008n, 0x7000000800000001n],
    [0x100002080n, 0x7000000200010001n],
    [0x100002088n, 0x7000000200051001n],
    [0x100002090n, 0x7000000200032001n],
    [0x100002098n, 0x7000000200073001n],
    [0x1000020a0n, 0x7000000200024001n],
    [0x200010000n, 0x11001n],
    [0x200051000n, 0x12027n],
    [0x200032008n, 0x13027n],
    [0x200073008n, 0x14027n],
    [0x200024018n, 0x345067n],
  ],
  on,
)
const directories = [0x100000000n, 0x100001000n]
check('nested', nested, { iova: 0x40203abcn }, 'pa 800145abc size 1000', [
  ...[...directories, 0x100002080n, 0x200010000n],
  ...[...directories, 0x100002088n, 0x200051000n],
  ...[...directories, 0x100002090n, 0x200032008n],
  ...[...directories, 0x100002098n, 0x200073008n],
  ...[...directories, 0x1000020a0n, 0x200024018n],
  ...[0x100000000n, 0x100001008n],
])

const rz1 = event('00000000 10800000 00001000 00000000')
const iova = 0x1000n
const identity = 'pa 1000 size -'
const eph = 1n << 45n
check('bit 63', machine([0x8000000000000003n, 0n, 0n, 0n], [], on), { iova }, rz1)
check('bit 2', machine([0x6000000000000007n, 0n, 0n, 0n], [], on), { iova }, rz1)
check('PPR, EPHEn=0', machine([0x6010000000000003n, 0n, 0n, 0n], [], on), { iova }, rz1)
check('PPR, EPHEn=1', machine([0x6010000000000003n, 0n, 0n, 0n], [], on | eph), { iova }, identity)
check('GV, GTEn=0', machine([0x6080000000000003n, 0n, 0n, 0n], [], 1n), { iova }, rz1)
check('q2 53:52', machine([0x6000000000000003n, 0n, 0x2030000117840013n, 0n], [], on), { iova }, identity)
check('V=0, bit 2', machine([4n, 0n, 0n, 0n], [], on), { iova }, identity)
check('blocked', machine([1n, 0n, 0n, 0n], [], on), { iova }, event('00000000 20000000 00001000 00000000'))

const blocked = [3n, 0n, 0n, 0n]
const allowed = [3n, 1n << 39n, 0n, 0n]
const denied = event('00000000 20500000 00001000 00000000')
check('excluded by Allow', machine(blocked, [], on, [0x1003n, 0x1000n]), { iova: 0x1fffn }, 'pa 1fff size -')
check('excluded by EX', machine(allowed, [], on, [0x1001n, 0x1000n]), { iova }, identity)
check('not excluded', machine(blocked, [], on, [0x1001n, 0x1000n]), { iova }, denied)
check('exclusion off', machine(allowed, [], on, [0x1002n, 0x1000n]), { iova }, denied)
const interrupt = { iova: 0xfee00000n }
check('interrupt, read', host, interrupt, event('00000000 80000000 fee00000 00000000'))
check('interrupt', host, { ...interrupt, write: true }, 'interrupt')
check(
  'PASID',
  host,
  { deviceId: 0x600, pasid: 0x12345, iova: 0x7f0000003abcn, write: true, user: true },
  event('00010600 20252345 00003abc 00007f00'),
)

console.log(`examples: ${failures} failures`)
if (failures > 0) process.exitCode = 1
