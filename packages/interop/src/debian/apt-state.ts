/**
 * apt with a state of its own: downloads packages of another release, without root, with nothing of the machine touched.
 *
 * apt-get(8), apt.conf(5): `Dir::State`, `Dir::Cache` and `Dir::Etc` are moved into a folder; the installed packages are
 * taken to be none, so that all that a program needs is found.
 *
 * @packageDocumentation
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runProgram } from '../run-program.js'
import { makeFolder } from '../make-folder.js'

/** A package as apt would fetch it. */
export interface AptFile {
  readonly name: string
  readonly bytes: number
}

const cure = 'the machine needs Debian’s apt and a mirror that serves trixie and trixie-backports'

/** See the file's comment. */
export class AptState {
  private readonly options: readonly string[]

  private constructor(private readonly folder: string) {
    const options = {
      'Dir::State': join(folder, 'state'),
      'Dir::Cache': join(folder, 'cache'),
      'Dir::Etc': join(folder, 'etc'),
      'Dir::Etc::sourcelist': join(folder, 'etc', 'sources.list'),
      'Dir::Etc::sourceparts': '/dev/null',
      'Dir::State::status': join(folder, 'installed'),
      'APT::Install-Recommends': '0',
      'APT::Architecture': 'amd64',
      // Without root there is no other user to become.
      'APT::Sandbox::User': '',
    }
    this.options = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`])
  }

  /**
   * Makes the state and reads the mirror's lists.
   *
   * @throws InteropError if there is no apt, or the mirror does not serve these releases
   */
  static async create(folder: string, mirror: string, suites: readonly string[]): Promise<AptState> {
    const parts = ['state/lists/partial', 'cache/archives/partial', 'etc/preferences.d']
    for (const part of parts) makeFolder(join(folder, part))
    const keys = '/usr/share/keyrings/debian-archive-keyring.gpg'
    const sources = suites.map((suite) => `deb [arch=amd64 signed-by=${keys}] ${mirror} ${suite} main\n`)
    writeFileSync(join(folder, 'etc', 'sources.list'), sources.join(''))
    writeFileSync(join(folder, 'installed'), '')
    const state = new AptState(folder)
    await state.run('apt-get', ['-q', '-o', 'APT::Update::Error-Mode=any', 'update'])
    return state
  }

  /** Folder of what {@link fetch} fetched. */
  get archives(): string {
    return join(this.folder, 'cache', 'archives')
  }

  /** The files of packages, with all that they need; `release` is the one whose versions come first. */
  async withDependencies(release: string, packages: readonly string[]): Promise<AptFile[]> {
    const empty = ['-o', `Dir::Cache::archives=${this.emptyFolder()}`]
    return filesOf(await this.aptGet(release, [...empty, '--print-uris', '-qq', 'install', ...packages]))
  }

  /** The files of packages alone. */
  async alone(release: string, packages: readonly string[]): Promise<AptFile[]> {
    const args = ['-t', release, '--print-uris', 'download', ...packages]
    return filesOf(await this.run('apt-get', args, this.emptyFolder()))
  }

  /** Fetches files that are not there yet, each checked by apt against the signed lists. */
  async fetch(release: string, packages: readonly string[], dependenciesToo: boolean): Promise<void> {
    if (dependenciesToo) await this.aptGet(release, ['-qq', '-y', '--download-only', 'install', ...packages])
    else await this.aptGet(release, ['-qq', 'download', ...packages])
  }

  /** Names of what a package directly needs, in the version that `release` has. */
  async dependencies(release: string, name: string): Promise<string[]> {
    const text = await this.run('apt-cache', ['-t', release, 'show', '--no-all-versions', name])
    const depends = /^Depends: (.*)$/m.exec(text)?.[1] ?? ''
    return depends.split(',').flatMap((each) => /^\s*(\S+)/.exec(each)?.[1] ?? [])
  }

  /** What was fetched before is not listed, so questions are put where nothing was. */
  private emptyFolder(): string {
    const folder = join(this.folder, 'cache', 'none')
    makeFolder(join(folder, 'partial'))
    return folder
  }

  private async aptGet(release: string, args: readonly string[]): Promise<string> {
    return await this.run('apt-get', ['-t', release, ...args])
  }

  private async run(program: string, args: readonly string[], cwd = this.archives): Promise<string> {
    const options = { cwd, cure }
    return (await runProgram(program, [...this.options, ...args], options)).toString()
  }
}

/** Lines of `--print-uris`: quoted URI, file, bytes, digest. */
function filesOf(text: string): AptFile[] {
  return text.split('\n').flatMap((line) => {
    const [, name, bytes] = /^'[^']+' (\S+) (\d+)/.exec(line) ?? []
    return name === undefined ? [] : [{ name, bytes: Number(bytes) }]
  })
}
