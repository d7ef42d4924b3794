/**
 * `nestwalk explain`: why a call of `/dev/iommu` can fail with an errno.
 *
 * @packageDocumentation
 */
import { parseArgs } from 'node:util'
import type { ParseArgsConfig } from 'node:util'
import { callNames, errnoNumbers, parseCall, parseErrno, rulesFor } from '@nestwalk/iommufd'
import type { CallName, Errno, NamedRule } from '@nestwalk/iommufd'
import { exitCode, UsageError } from './output.js'
import type { Output } from './output.js'

const options = { json: { type: 'boolean' } } satisfies ParseArgsConfig['options']

interface Asked {
  readonly errno?: Errno
  readonly call?: CallName
}

/**
 * Runs the command.
 *
 * @returns the exit code: 0 there are such rules, 1 there is none
 * @throws UsageError for a word that is neither an errno nor a call
 */
export function explainCommand(args: string[], out: Output): number {
  const { values, positionals } = parseArgs({ args, options, strict: true, allowPositionals: true })
  const asked = askedFor(positionals)
  const found = rulesFor(asked)
  if (values.json === true) out.stdout(`${JSON.stringify({ ...asked, rules: found })}\n`)
  else out.stdout(`${forPeople(asked, found).join('\n')}\n`)
  return found.length > 0 ? exitCode.yes : exitCode.no
}

function askedFor(words: readonly string[]): Asked {
  if (words.length === 0 || words.length > 2)
    throw new UsageError(
      'an errno, a call of /dev/iommu, or both are needed, as in: explain EINVAL hwpt_alloc',
    )
  let asked: Asked = {}
  for (const word of words) {
    const errno = parseErrno(word)
    const call = parseCall(word)
    if (errno === undefined && call === undefined)
      throw new UsageError(`${word} is neither an errno nor one of ${callNames.join(', ')}`)
    asked = { ...asked, ...(errno === undefined ? {} : { errno }), ...(call === undefined ? {} : { call }) }
  }
  return asked
}

function forPeople(asked: Asked, found: readonly NamedRule[]): string[] {
  const { errno, call } = asked
  const errnoShown = errno === undefined ? 'any errno' : `${errno} (${errnoNumbers[errno]})`
  const head = `${errnoShown} from ${call ?? 'any call'}: ${found.length === 1 ? 'one rule' : `${found.length} rules`}`
  return [head, ...found.flatMap((rule) => ['', ...shownRule(asked, rule)])]
}

function shownRule({ errno, call }: Asked, { name, errno: given, calls, says, source }: NamedRule): string[] {
  return [
    errno === undefined ? `${given}  ${name}` : name,
    ...wrapped(says),
    ...(call === undefined ? wrapped(`calls: ${calls.join(', ')}`) : []),
    ...wrapped(source === 'nestwalk' ? 'ours: Linux has no such limit' : `Linux ${sourceShown(source)}`),
  ]
}

/** Below drivers/, unless it names another folder of the kernel. */
const sourceShown = (source: string): string =>
  /^(fs|mm|linux)\//.test(source) ? source.replace(/^linux\//, 'include/linux/') : `drivers/${source}`

const width = 78

/** Lines of at most 78 columns, indented by two. */
function wrapped(text: string): string[] {
  const lines: string[] = []
  let line = ' '
  for (const word of text.split(' ')) {
    if (line.length + word.length + 1 > width && line !== ' ') {
      lines.push(line)
      line = ' '
    }
    line += ` ${word}`
  }
  return [...lines, line]
}
