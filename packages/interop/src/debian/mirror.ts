/**
 * The Debian mirror that this machine uses, from its own apt configuration.
 *
 * sources.list(5): one-line `.list` files and deb822 `.sources` files.
 *
 * @packageDocumentation
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { InteropError } from '../interop-error.js'

/** URI of the first source of packages that is not the security archive. @throws InteropError where there is none */
export function configuredMirror(aptFolder = '/etc/apt'): string {
  const files = [join(aptFolder, 'sources.list'), ...partsOf(join(aptFolder, 'sources.list.d'))]
  const uris = files.flatMap((file) => urisOf(readOrEmpty(file), file.endsWith('.sources')))
  const mirror = uris.find((uri) => !uri.includes('security'))
  if (mirror === undefined) {
    throw new InteropError(
      `${aptFolder} names no Debian mirror: run this on Debian, or name QEMU and a kernel of your own with --qemu and --vmlinuz`,
    )
  }
  return mirror
}

/** URIs of the sources that a file lists, in order. */
export function urisOf(text: string, isDeb822: boolean): string[] {
  const lines = text.split('\n').filter((line) => !line.startsWith('#'))
  if (isDeb822) return lines.flatMap((line) => /^URIs:\s*(.+)$/i.exec(line)?.[1]?.split(/\s+/) ?? [])
  return lines.flatMap((line) => /^deb\s+(?:\[[^\]]*\]\s+)?(\S+)/.exec(line)?.[1] ?? [])
}

function partsOf(folder: string): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => /\.(list|sources)$/.test(name))
      .sort()
      .map((name) => join(folder, name))
  } catch {
    return []
  }
}

function readOrEmpty(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
