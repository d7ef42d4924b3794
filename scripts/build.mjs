/** `node scripts/build.mjs PACKAGE`: builds what is stale of a package and all it needs; silent if all is well. */
import { build, notReady } from './workspace.mjs'

process.exitCode = process.argv.slice(2).every(build) ? 0 : notReady
