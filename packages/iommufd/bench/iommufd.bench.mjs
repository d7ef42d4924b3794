/**
 * How fast `/dev/iommu` is in process: `pnpm bench iommufd`.
 *
 * Calls a second are of the binary interface: a structure in a process' memory, the call, the answer written back. Exit
 * code 1: a wrong answer, or, with `--strict`, a figure beyond its limit. Processor time counts, not the clock: others may
 * be using the machine.
 */
import { writeStruct } from '@nestwalk/bits'
import {
  amdMachine,
  iommuIoasMap,
  iommuIoasUnmap,
  mockKernel,
  SimulatedHost,
  SimulatedProcess,
} from '../dist/index.js'

const isStrict = process.argv.includes('--strict')
const page = 4096n
const [fixed, writeable, readable] = [1, 2, 4]
const command = {
  destroy: 0x3b80,
  ioasAlloc: 0x3b81,
  map: 0x3b85,
  unmap: 0x3b86,
  option: 0x3b87,
  test: 0x3ba0,
}
const vfio = { bind: 0x3b76, attach: 0x3b77 }

/** Processor time that was used so far. */
function seconds() {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

/** A program with an open `/dev/iommu`. */
function program(kernel) {
  const caller = SimulatedProcess.create(SimulatedHost.create())
  const argument = caller.memory.map(4096)
  const file = kernel.openIommu()
  const call = (cmd, bytes, on = file) => {
    caller.memory.write(argument, bytes)
    const { ret, errno, why } = on.ioctl({ cmd, argument, process: caller })
    if (ret < 0) throw new Error(`0x${cmd.toString(16)}: ${errno}: ${why}`)
    caller.memory.read(argument, bytes)
    return new DataView(bytes.buffer)
  }
  const words = (...values) => new Uint8Array(Uint32Array.from(values).buffer)
  const ioas = call(command.ioasAlloc, words(12, 0, 0)).getUint32(8, true)
  return { caller, file, call, words, ioas }
}

function mapping(ioas, userVa, length, iova) {
  const flags = fixed | writeable | readable
  return writeStruct(iommuIoasMap, { size: 40, flags, ioasId: ioas, userVa, length, iova })
}

const unmapping = (ioas, iova, length) =>
  writeStruct(iommuIoasUnmap, { size: 24, ioasId: ioas, iova, length })

/** Pairs of IOAS_MAP and IOAS_UNMAP of a page, in calls a second: the best of some rounds. */
function callsPerSecond({ caller, call, ioas }) {
  const memory = caller.memory.map(4096)
  const iova = 0x100_0000n
  const [map, unmap] = [mapping(ioas, memory, page, iova), unmapping(ioas, iova, page)]
  const pairs = 20_000
  let best = 0
  for (let round = 0; round < 8; round++) {
    const start = seconds()
    for (let i = 0; i < pairs; i++) {
      call(command.map, map)
      call(command.unmap, unmap)
    }
    best = Math.max(best, (2 * pairs) / (seconds() - start))
  }
  return best
}

/** Seconds that mapping 1 GiB by one call takes in a HWPT on AMD, in pages of 4 KiB. */
function secondsForGigabyte() {
  const { kernel, driver } = amdMachine()
  const { caller, file, call, words, ioas } = program(kernel)
  const gigabyte = 1n << 30n
  const memory = caller.memory.map(Number(gigabyte))
  // Huge pages off: every entry is one of 4 KiB.
  call(command.option, words(24, 1, 0, ioas, 0, 0))
  const device = kernel.openVfioDevice(0)
  call(vfio.bind, words(16, 0, caller.open(file), 0, 0, 0), device)
  call(vfio.attach, words(16, 0, ioas, 0), device)
  const start = seconds()
  call(command.map, mapping(ioas, memory, gigabyte, 0x1_0000_0000n))
  const taken = seconds() - start
  const { physical } = caller.memory.lookUp(memory + gigabyte - page)
  const [, domain] = [...kernel.iommufd.contexts][0].objects
    .entries()
    .find(([, { kind }]) => kind === 'paging-hwpt')
  if (driver.translate(domain.domain.number, 0x1_0000_0000n + gigabyte - page) !== physical)
    throw new Error('the last page leads elsewhere')
  return taken
}

function withDevice(kernel) {
  const made = program(kernel)
  // MOCK_DOMAIN: a device that is attached to the IOAS.
  made.call(command.test, made.words(72, 2, made.ioas, ...Array(15).fill(0)))
  return made
}

const rows = [
  ['an IOAS alone', () => callsPerSecond(program(mockKernel())), 200_000],
  ['with a HWPT of the mock IOMMU', () => callsPerSecond(withDevice(mockKernel())), undefined],
]
let isOver = false
console.log('IOAS_MAP and IOAS_UNMAP of a page, in process')
for (const [name, run, limit] of rows) {
  const figure = run()
  isOver ||= limit !== undefined && figure < limit
  console.log(
    `  ${name.padEnd(52)}${figure.toFixed(0).padStart(9)} calls a second  ${limit === undefined ? '' : `(${limit})`}`.trimEnd(),
  )
}
const gigabyte = secondsForGigabyte()
isOver ||= gigabyte > 1
console.log(`1 GiB mapped on AMD in pages of 4 KiB${gigabyte.toFixed(2).padStart(26)} s               (1)`)
process.exitCode = isStrict && isOver ? 1 : 0
