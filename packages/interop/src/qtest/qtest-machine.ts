/**
 * A machine of QEMU's that nobody but us drives: no processor runs, time stands still, and its RAM is a file.
 *
 * @packageDocumentation
 */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, statfsSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { InteropError } from '../interop-error.js'
import type { QemuBinary } from '../qemu/qemu-binary.js'
import { QemuChild } from './qemu-child.js'
import { QtestLink } from './qtest-link.js'
import { QtestSocket } from './qtest-socket.js'

export interface QtestMachineOptions {
  readonly qemu: QemuBinary
  /** Bytes of RAM; from address 0 they lie in the file as they do in the machine. */
  readonly ramBytes: number
  /** QEMU's arguments for what is in the machine beside RAM. */
  readonly devices: readonly string[]
  /** How long QEMU may take to start, and be silent while answers are due. */
  readonly timeoutSeconds: number
}

/** See the file's comment. */
export class QtestMachine {
  private constructor(
    private readonly child: QemuChild,
    private readonly link: QtestLink,
    private readonly ram: number,
  ) {}

  /** @throws InteropError if QEMU does not start, or does not answer */
  static async start(options: QtestMachineOptions): Promise<QtestMachine> {
    const folder = mkdtempSync(join(folderFor(options.ramBytes), 'nestwalk-qtest-'))
    const path = join(folder, 'qtest')
    const ramFile = join(folder, 'ram')
    let child: QemuChild | undefined
    try {
      const socket = await QtestSocket.listen(path, options.timeoutSeconds)
      child = new QemuChild(options.qemu, argumentsFor(options, path, ramFile))
      const link = new QtestLink(await socket.accept(child.ended), options.timeoutSeconds)
      // The file is complete when QEMU answers.
      await child.orItsEnd(link.send(['inb 0x70']))
      return new QtestMachine(child, link, openSync(ramFile, 'r+'))
    } catch (error) {
      await child?.end()
      throw error
    } finally {
      // Both sides have opened what is in it: nothing is left behind, even if we are killed.
      rmSync(folder, { recursive: true, force: true })
    }
  }

  /** Carries out qtest commands; their answers. @throws InteropError if QEMU refuses one, is silent, or has ended */
  async send(lines: readonly string[]): Promise<readonly string[]> {
    return await this.child.orItsEnd(this.link.send(lines))
  }

  /** Copies RAM from address 0 on. */
  readRam(into: Uint8Array): void {
    if (readSync(this.ram, into, 0, into.length, 0) !== into.length) {
      throw new InteropError('the RAM file of QEMU became shorter: run it again, and leave its folder alone')
    }
  }

  writeRam(address: number, bytes: Uint8Array): void {
    writeSync(this.ram, bytes, 0, bytes.length, address)
  }

  /** Ends QEMU; its RAM is gone with it. */
  async end(): Promise<void> {
    this.link.close()
    await this.child.end()
    closeSync(this.ram)
  }
}

/** A file system in memory if there is one with room: a RAM file on a disk is written to the disk for nothing. */
function folderFor(ramBytes: number): string {
  const inMemory = '/dev/shm'
  try {
    const { bavail, bsize } = statfsSync(inMemory)
    return bavail * bsize > 2 * ramBytes ? inMemory : tmpdir()
  } catch {
    return tmpdir()
  }
}

function argumentsFor({ ramBytes, devices }: QtestMachineOptions, path: string, ramFile: string): string[] {
  const size = `${ramBytes >> 20}M`
  return [
    ...['-machine', 'q35,accel=qtest,memory-backend=ram', '-m', size],
    ...['-object', `memory-backend-file,id=ram,size=${size},mem-path=${ramFile},share=on`],
    ...['-nodefaults', '-display', 'none'],
    ...devices,
    ...['-qtest', `unix:${path}`, '-qtest-log', '/dev/null'],
  ]
}
