#!/usr/bin/env node
/**
 * The `nestwalk` command.
 *
 * @packageDocumentation
 */
process.stdout.write('nestwalk\n')
