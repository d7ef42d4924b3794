/**
 * Reading parsed JSON whose shape nobody vouches for: each reader checks one kind of value and says what is wrong.
 *
 * A number may be a JSON number or a string `"0x..."` everywhere, as JSON numbers are exact only up to 2^53.
 *
 * @packageDocumentation
 */
import { RecordingError } from './recording-error.js'

const number64Max = (1n << 64n) - 1n
const hexNumber = /^0x[0-9a-f]+$/i

/** A JSON object, and where it stands. */
export class Fields {
  private constructor(
    /** Such as `queries[3]`; empty for the snapshot itself. */
    readonly where: string,
    private readonly values: Readonly<Record<string, unknown>>,
  ) {}

  /** @throws RecordingError for anything but an object */
  static of(value: unknown, where: string): Fields {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      const place = where === '' ? 'the snapshot' : where
      throw new RecordingError(place, `is ${show(value)}, where a JSON object belongs: record it again`)
    }
    return new Fields(where, value as Record<string, unknown>)
  }

  names(): string[] {
    return Object.keys(this.values)
  }

  has(name: string): boolean {
    return Object.hasOwn(this.values, name)
  }

  placeOf(name: string): string {
    return this.where === '' ? name : `${this.where}.${name}`
  }

  /** @throws RecordingError if the field is missing */
  value(name: string): unknown {
    if (!this.has(name)) {
      throw new RecordingError(
        this.placeOf(name),
        'is missing, and the rest cannot be read without it: add it',
      )
    }
    return this.values[name]
  }

  object(name: string): Fields {
    return Fields.of(this.value(name), this.placeOf(name))
  }

  list(name: string): readonly unknown[] {
    return listOf(this.value(name), this.placeOf(name))
  }

  text(name: string): string {
    const value = this.value(name)
    if (typeof value === 'string') return value
    throw new RecordingError(this.placeOf(name), `is ${show(value)}, where text belongs: put it in quotes`)
  }

  number(name: string, max = number64Max): bigint {
    return numberOf(this.value(name), this.placeOf(name), max)
  }

  /** A number that is small enough for one. */
  small(name: string, max: number): number {
    return Number(this.number(name, BigInt(max)))
  }

  /** 0 or 1. */
  flag(name: string): boolean {
    return this.small(name, 1) === 1
  }

  /** `absent` where the field is not there. */
  flagOr(name: string, absent: boolean): boolean {
    return this.has(name) ? this.flag(name) : absent
  }

  /** Null stands for "none" and is a value like any other; a missing field is an error. */
  numberOrNull(name: string): bigint | null {
    return this.value(name) === null ? null : this.number(name)
  }
}

/** @throws RecordingError for anything but an array */
export function listOf(value: unknown, where: string): readonly unknown[] {
  if (Array.isArray(value)) return value
  throw new RecordingError(where, `is ${show(value)}, where a list belongs: put it in square brackets`)
}

/** @throws RecordingError for anything but a number from 0 to `max`, in either form */
export function numberOf(value: unknown, where: string, max = number64Max): bigint {
  const number = readNumber(value)
  if (number === undefined) {
    const advice = 'write a whole number below 2^53, or its hexadecimal digits as "0x..."'
    throw new RecordingError(where, `is ${show(value)}, which is no number: ${advice}`)
  }
  if (number > max) {
    const problem = `is ${show(value)}, which is above the largest value here, 0x${max.toString(16)}: correct it`
    throw new RecordingError(where, problem)
  }
  return number
}

function readNumber(value: unknown): bigint | undefined {
  if (typeof value === 'number') return Number.isSafeInteger(value) && value >= 0 ? BigInt(value) : undefined
  return typeof value === 'string' && hexNumber.test(value) ? BigInt(value) : undefined
}

/** A value as it stands in the recording, shortened. */
export function show(value: unknown): string {
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object' && value !== null) return 'an object'
  if (typeof value === 'bigint') return `0x${value.toString(16)}`
  const text = JSON.stringify(value) as string | undefined
  if (text === undefined) return 'undefined'
  return text.length > 40 ? `${text.slice(0, 37)}...` : text
}
