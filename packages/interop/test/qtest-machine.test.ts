import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import { InteropError, QtestMachine } from '../src/index.js'
import type { QemuBinary } from '../src/index.js'

const script = fileURLToPath(new URL('fake-qemu.mjs', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'nestwalk-test-'))
const traceFile = join(folder, 'trace')

afterAll(() => {
  rmSync(folder, { recursive: true })
})

const fakeQemu = (behaviour: string): QemuBinary => ({
  program: process.execPath,
  leadingArgs: [script, behaviour],
  env: { FAKE_QEMU_TRACE: traceFile },
  version: '11.1.0',
})

const start = async (behaviour: string, timeoutSeconds = 30): Promise<QtestMachine> =>
  await QtestMachine.start({ qemu: fakeQemu(behaviour), ramBytes: 1 << 20, devices: [], timeoutSeconds })

/** What the fake that was started last left: its process id, and the machine's folder. */
const trace = (): string[] => readFileSync(traceFile, 'utf8').split('\n')

function isAlive(): boolean {
  try {
    process.kill(Number(trace()[0]), 0)
    return true
  } catch {
    return false
  }
}

const hasFolder = (): boolean => existsSync(trace()[1] ?? '')

test('a machine answers, shares its RAM, and is gone when it is ended', async () => {
  const machine = await start('answers')
  // Its files have no names any more: whatever ends us leaves nothing behind.
  expect([isAlive(), hasFolder()]).toEqual([true, false])
  expect(await machine.send(['inb 0x70', 'writeq 0x0 0x1'])).toEqual(['0x00ff', ''])
  machine.writeRam(4096, Uint8Array.of(1, 2, 3))
  const ram = new Uint8Array(1 << 20)
  machine.readRam(ram)
  expect([...ram.subarray(4095, 4100)]).toEqual([0, 1, 2, 3, 0])
  await machine.end()
  expect([isAlive(), hasFolder()]).toEqual([false, false])
})

test('a QEMU that dies at once is told of with its last words', async () => {
  const error: unknown = await start('dies').catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(InteropError)
  expect(String(error)).toContain('QEMU ended with 3 (fake-qemu: could not open the display)')
  expect(hasFolder()).toBe(false)
})

test('a QEMU that never connects is ended after the timeout', async () => {
  const error: unknown = await start('stays-away', 2).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(InteropError)
  expect(String(error)).toContain('QEMU did not connect to the qtest socket in 2 s')
  expect([isAlive(), hasFolder()]).toEqual([false, false])
})

test('a QEMU that dies in the middle is told of, not the broken connection', async () => {
  const machine = await start('dies-later')
  const error: unknown = await machine.send(['readq 0x0']).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(InteropError)
  expect(String(error)).toContain('QEMU ended with 4')
  await machine.end()
})

test('a QEMU that is not there is told of', async () => {
  const qemu = { ...fakeQemu('answers'), program: '/nowhere/qemu' }
  const error: unknown = await QtestMachine.start({
    qemu,
    ramBytes: 1 << 20,
    devices: [],
    timeoutSeconds: 30,
  }).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(InteropError)
  expect(String(error)).toContain('QEMU cannot be started')
})
