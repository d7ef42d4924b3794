/**
 * Colour for verdicts, where there is a terminal to show it.
 *
 * @packageDocumentation
 */
import { styleText } from 'node:util'
import type { Verdict } from './verdict.js'

/** Paints a text in the colour of a verdict. */
export type Paint = (text: string, verdict: Verdict) => string

/** Leaves texts as they are. */
export const plain: Paint = (text) => text

/** Green for right answers, yellow for refused ones, red for the others. */
export const coloured: Paint = (text, verdict) =>
  styleText(verdict === 'ok' ? 'green' : verdict === 'refused' ? 'yellow' : 'red', text, {
    validateStream: false,
  })
