/**
 * A case as JSON text, to be kept and rerun alone. Numbers of 64 bits are hexadecimal strings.
 *
 * @packageDocumentation
 */
import { hex, parseHex } from '@nestwalk/bits'
import { formatDeviceId, deviceId as toDeviceId } from '@nestwalk/hardware'
import { InteropError } from '../interop-error.js'
import { arenaDevices, slotBytes, slotsPerDevice } from './arena.js'
import type { CommandWords, DifferentialCase, Step } from './differential-case.js'

const format = 'nestwalk-qemu-case'
const version = 1

/** As many as a device has room for, if all of them are its. */
const stepsMax = slotsPerDevice

const registerNames = [
  'deviceTable',
  'commandBase',
  'eventBase',
  'exclusionBase',
  'exclusionLimit',
  'control',
] as const

const offsetNames = ['commandStart', 'eventHead', 'eventTail'] as const

export function writeCase(testCase: DifferentialCase): string {
  const { origin, passing, memory, steps } = testCase
  const registers = Object.fromEntries(registerNames.map((name) => [name, hex(testCase[name])]))
  const offsets = Object.fromEntries(offsetNames.map((name) => [name, testCase[name]]))
  const document = {
    format,
    version,
    origin,
    passing,
    ...registers,
    ...offsets,
    memory: memory.map((pair) => pair.map((word) => hex(word))),
    steps: steps.map(writeStep),
  }
  return `${JSON.stringify(document, undefined, 1)}\n`
}

function writeStep(step: Step): object {
  switch (step.kind) {
    case 'commands':
      return { kind: step.kind, commands: step.commands.map((pair) => pair.map((word) => hex(word))) }
    case 'restart':
      return step
    case 'store':
      return { kind: step.kind, address: hex(step.address), value: hex(step.value) }
    case 'register':
      return { ...step, offset: hex(step.offset), value: hex(step.value) }
    case 'dma':
      return { ...step, device: deviceName(step.device), iova: hex(step.iova) }
  }
}

const deviceName = (device: number): string => formatDeviceId(toDeviceId(arenaDevices[device]?.deviceId ?? 0))

/** @throws InteropError if the text is not a case */
export function readCase(text: string): DifferentialCase {
  try {
    const all = objectOf(JSON.parse(text), 'the file')
    if (all['format'] !== format || all['version'] !== version)
      throw new Error(`it is no ${format} ${version}`)
    const register = (name: string): bigint => wordOf(all[name], name)
    const offset = (name: string): number => numberOf(all[name], name)
    const steps = listOf(all['steps'], 'steps').map(stepOf)
    if (steps.length > stepsMax) throw new Error(`it has more than ${stepsMax} steps`)
    return {
      origin: typeof all['origin'] === 'string' ? all['origin'] : 'unknown',
      passing: all['passing'] === true,
      deviceTable: register('deviceTable'),
      commandBase: register('commandBase'),
      eventBase: register('eventBase'),
      exclusionBase: register('exclusionBase'),
      exclusionLimit: register('exclusionLimit'),
      control: register('control'),
      commandStart: offset('commandStart'),
      eventHead: offset('eventHead'),
      eventTail: offset('eventTail'),
      memory: listOf(all['memory'], 'memory').map((each) => pairOf(each, 'memory')),
      steps,
    }
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new InteropError(`the case cannot be read (${why}): give a file that this command wrote`)
  }
}

function stepOf(value: unknown, n: number): Step {
  const where = `step ${n}`
  const step = objectOf(value, where)
  switch (step['kind']) {
    case 'commands':
      return {
        kind: 'commands',
        commands: listOf(step['commands'], where).map((each): CommandWords => pairOf(each, where)),
      }
    case 'restart':
      return { kind: 'restart' }
    case 'store':
      return { kind: 'store', address: wordOf(step['address'], where), value: wordOf(step['value'], where) }
    case 'register':
      return registerStepOf(step, where)
    case 'dma':
      return dmaStepOf(step, where)
    default:
      throw new Error(`${where} is of no kind that there is`)
  }
}

function registerStepOf(step: Record<string, unknown>, where: string): Step {
  const bytes = step['bytes'] === 4 || step['bytes'] === 8 ? step['bytes'] : undefined
  const offset = Number(wordOf(step['offset'], where))
  if (bytes === undefined || offset % bytes !== 0 || offset > 0x3ff8) {
    throw new Error(`${where} is no aligned access of 4 or 8 bytes`)
  }
  return { kind: 'register', offset, bytes, value: wordOf(step['value'], where) }
}

function dmaStepOf(step: Record<string, unknown>, where: string): Step {
  const device = arenaDevices.findIndex((_, n) => deviceName(n) === step['device'])
  const iova = wordOf(step['iova'], where)
  const bytes = numberOf(step['bytes'], where)
  const isFitting = bytes >= 4 && bytes <= slotBytes && bytes % 4 === 0 && iova % 4n === 0n
  if (!isFitting || (iova & 0xfffn) + BigInt(bytes) > 0x1000n) {
    throw new Error(`${where} is not 4, 8, 12 or 16 bytes of one page`)
  }
  if (device < 0) throw new Error(`${where} is of a device that there is not`)
  return { kind: 'dma', device, iova, write: step['write'] === true, bytes }
}

function objectOf(value: unknown, where: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) throw new Error(`${where} is no object`)
  return value as Record<string, unknown>
}

function listOf(value: unknown, where: string): unknown[] {
  if (!Array.isArray(value)) throw new Error(`${where} is no list`)
  return value
}

function pairOf(value: unknown, where: string): readonly [bigint, bigint] {
  const pair = listOf(value, where)
  if (pair.length !== 2) throw new Error(`${where} has no pair of words`)
  return [wordOf(pair[0], where), wordOf(pair[1], where)]
}

function wordOf(value: unknown, where: string): bigint {
  const word = typeof value === 'string' ? parseHex(value) : -1n
  if (word < 0n || word >= 1n << 64n) throw new Error(`${where} has no word of 64 bits`)
  return word
}

function numberOf(value: unknown, where: string): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0)
    throw new Error(`${where} has no number`)
  return value
}
