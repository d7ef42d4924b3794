/** Stands for QEMU in tests: does what QEMU is known to do. */
import { background, ramBytes } from '../src/differential/arena.js'
import type { DifferentialCase } from '../src/differential/differential-case.js'
import { carryOut } from '../src/differential/laboratory.js'
import type { Peer } from '../src/differential/laboratory.js'
import { MemoryImage } from '../src/differential/memory-image.js'
import { KnownQemu } from '../src/differential/reading/known-qemu.js'

export class KnownPeer implements Peer {
  private readonly image = new MemoryImage(background())

  /** @param spoil - changes what the peer shows, as a QEMU with one more difference would */
  constructor(private readonly spoil: (memory: Buffer, readings: bigint[]) => void = () => undefined) {}

  run(testCase: DifferentialCase): Promise<{ readonly readings: bigint[]; readonly memory: Buffer }> {
    this.image.restore()
    const readings = carryOut(
      testCase,
      new KnownQemu(this.image, testCase.passing),
      this.image,
      () => undefined,
    )
    const memory = Buffer.from(this.image.bytes.subarray(0, ramBytes))
    this.spoil(memory, readings)
    return Promise.resolve({ readings, memory })
  }

  restore(): void {
    // Its memory is taken back with the next case.
  }
}
