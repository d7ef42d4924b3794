/**
 * Results of system calls, from outcomes.
 *
 * @packageDocumentation
 */
import type { FileResult, MmapResult } from '../open-file.js'
import { refuse } from '../outcome.js'
import type { Refusal } from '../outcome.js'

/** The call fails. */
export const failed = ({ errno, rule, why }: Refusal): FileResult => ({ ret: -1, errno, rule, why })

/** The call has read bytes. */
export const haveRead = (bytes: Uint8Array): FileResult => ({ ret: bytes.length, bytes })

/** What any file without the call answers. */
export const noIoctl = (cmd: number): FileResult =>
  failed(refuse('unknown-command', `0x${cmd.toString(16)} is no command of this file`))

export const noRead = (): FileResult => failed(refuse('no-read', 'the file cannot be read'))

export const noWrite = (): FileResult => failed(refuse('no-write', 'the file cannot be written'))

export const noMmap = (): MmapResult => failed(refuse('no-mmap', 'the file cannot be mapped'))

/** POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM: of a file that has no poll of its own. */
const alwaysReady = 0x145

export const pollOfAnyFile = (events: number): number => events & alwaysReady
