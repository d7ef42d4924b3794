/**
 * Numbers that a caller gives.
 *
 * @packageDocumentation
 */

/** @throws RangeError naming the field and its limits */
export function checkInteger(name: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new RangeError(`${name} ${value} is not an integer from ${min} to ${max}`)
  }
}
