/**
 * Whether anything has changed since the last build, in a few milliseconds: as `make` does, by the size and time of
 * what goes into the build and of what came out. Says "no" whenever it cannot tell; the build's own cache decides then.
 */
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

const shared = ['package.json', 'pnpm-lock.yaml', 'pnpm-workspace.yaml', 'tsconfig.base.json', 'turbo.json']
const ofPackage = ['package.json', 'tsconfig.json', 'tsup.config.ts', 'turbo.json', 'src']

/** A digest of all that goes into a build. Take it before building. */
export const inputsOf = (root) =>
  digest([...shared.map((name) => join(root, name)), ...inPackages(root, ofPackage)])

const outputsOf = (root) => digest(inPackages(root, ['dist']))

/** Whether a package was last built from these inputs, and what came out is still there. */
export function isFresh(root, packageName, inputs) {
  try {
    return readFileSync(stampOf(root, packageName), 'utf8') === `${inputs}\n${outputsOf(root)}\n`
  } catch {
    return false
  }
}

/** Remembers that a package has been built from these inputs. */
export function markFresh(root, packageName, inputs) {
  const stamp = stampOf(root, packageName)
  mkdirSync(dirname(stamp), { recursive: true })
  writeFileSync(stamp, `${inputs}\n${outputsOf(root)}\n`)
}

const stampOf = (root, packageName) =>
  join(root, 'node_modules', '.cache', 'nestwalk', packageName.replace('/', '+'))

const inPackages = (root, names) =>
  ['packages', 'apps'].flatMap((group) =>
    readdirSync(join(root, group)).flatMap((folder) => names.map((name) => join(root, group, folder, name))),
  )

function digest(paths) {
  const hash = createHash('sha256')
  for (const path of paths.sort()) addTo(hash, path)
  return hash.digest('hex')
}

function addTo(hash, path) {
  const found = statSync(path, { throwIfNoEntry: false })
  if (found?.isDirectory()) for (const name of readdirSync(path).sort()) addTo(hash, join(path, name))
  else hash.update(`${path}\n${found?.size}\n${found?.mtimeMs}\n`)
}
