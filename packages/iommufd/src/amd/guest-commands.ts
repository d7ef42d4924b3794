/**
 * Extension: HWPT_INVALIDATE on a vIOMMU with the commands that its guest has queued, 16 bytes each.
 *
 * @packageDocumentation
 */
import { readStruct } from '@nestwalk/bits'
import type { Driver } from '@nestwalk/driver'
import type { Invalidated, UserDataArray } from '../backend.js'
import { accept, isRefusal, refuse } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import { amdCommandLayout, amdInvalidationType } from './abi.js'

type CommandWords = readonly [bigint, bigint]

/** Carries the commands out in order, up to the first bad one. Without any the question is whether the type is known. */
export function invalidateByCommands(
  driver: Driver,
  viommu: number,
  array: UserDataArray,
): Outcome<Invalidated> {
  if (array.count === 0 && array.type !== amdInvalidationType)
    return refuse('amd-invalidation-type', `requests of type ${array.type} are no guest commands`)
  const { commands, refused } = readCommands(array)
  const done = driver.invalidateForGuest(viommu, commands)
  if (!done.ok) return done
  const { handled, refusal } = done.value
  const why = refusal ?? refused
  return accept(why === undefined ? { handled } : { handled, refused: why }, done.effects)
}

interface ReadCommands {
  readonly commands: readonly CommandWords[]
  /** Why the one after them cannot be read. */
  readonly refused?: Refusal
}

function readCommands(array: UserDataArray): ReadCommands {
  const commands: CommandWords[] = []
  const { byteLength } = amdCommandLayout
  for (let index = 0; index < array.count; index++) {
    const bytes = array.copyEntry(amdInvalidationType, index, byteLength, byteLength)
    if (isRefusal(bytes)) return { commands, refused: bytes }
    const [low = 0n, high = 0n] = readStruct(amdCommandLayout, bytes).words
    commands.push([low, high])
  }
  return { commands }
}
