/**
 * The native yardstick: compiles `native/walk.c` on demand and runs it as a process that takes one command a line.
 *
 * The process ends with its input, so it cannot outlive this one; what is on the disk is removed on every way out.
 */
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const sourceFile = fileURLToPath(new URL('native/walk.c', import.meta.url))
const compile = ['cc', '-std=c11', '-O2']

/** A compiled yardstick, or undefined with the reason in `missing` of the answer. */
export function compileNative() {
  const folder = mkdtempSync(join(tmpdir(), 'nestwalk-bench-'))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  const program = join(folder, 'walk')
  const [compiler, ...flags] = compile
  const { error, status, stderr } = spawnSync(compiler, [...flags, '-o', program, sourceFile], {
    encoding: 'utf8',
  })
  if (error?.code === 'ENOENT') return { missing: 'no C compiler: nothing is compared with C' }
  if (error !== undefined || status !== 0) throw new Error(`cc: ${error?.message ?? stderr}`)
  return { start: (machine, name) => start(machine, folder, program, name) }
}

function start(machine, folder, program, name) {
  const imageFile = join(folder, `${name}.image`)
  writeFileSync(imageFile, machine.image())
  const child = lineProcess(program, [imageFile])
  const time = async (command, milliseconds) => {
    const [nanoseconds, checksum] = (await child.ask(`${command} ${milliseconds}`)).split(' ')
    if (command !== 'chase' && BigInt(checksum) !== BigInt.asUintN(64, machine.checksum)) {
      throw new Error(`native ${command}: checksum ${checksum} instead of ${machine.checksum}`)
    }
    return Number(nanoseconds)
  }
  /** Tells which loads a pass over all requests makes: byte offsets from the window's base. */
  const setLoads = (offsets) => {
    const file = join(folder, `${name}.loads`)
    writeFileSync(file, BigUint64Array.from(offsets, BigInt))
    child.tell(`loads ${file}`)
  }
  return { time, setLoads, stop: child.stop }
}

const running = new Set()
process.on('exit', () => running.forEach((child) => child.kill()))

/** A process that answers lines with lines. */
export function lineProcess(program, args) {
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  running.add(child)
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  // A process that has ended is told by its missing answer.
  child.stdin.on('error', () => {})
  child.on('error', () => {})
  const tell = (line) => child.stdin.write(`${line}\n`)
  const ask = async (line) => {
    tell(line)
    const { value, done } = await lines.next()
    if (done) throw new Error(`${program} ended before it answered "${line}"`)
    return value
  }
  const stop = () => {
    running.delete(child)
    child.kill()
  }
  return { ask, tell, stop }
}
