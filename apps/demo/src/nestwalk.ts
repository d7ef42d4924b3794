#!/usr/bin/env node
/**
 * The `nestwalk` command.
 *
 * @packageDocumentation
 */
import { runCommandLine } from './command-line.js'

process.exitCode = await runCommandLine(process.argv.slice(2), {
  stdout: (text) => void process.stdout.write(text),
  stderr: (text) => void process.stderr.write(text),
  isStdoutTerminal: process.stdout.isTTY && process.env['NO_COLOR'] === undefined,
  isStderrTerminal: process.stderr.isTTY,
})
