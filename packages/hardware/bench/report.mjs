/** The table of the results, and what they come to. */

const number = (value) =>
  value === undefined
    ? ''
    : value >= 100
      ? value.toFixed(0)
      : value >= 10
        ? value.toFixed(1)
        : value.toFixed(2)

const line = (name, ...cells) =>
  name.padEnd(44) + cells.map((cell, n) => cell.padStart([9, 9, 7, 6][n])).join('') + '\n'

/** Whether a result with a limit is above it. */
export const isOver = ({ ratio, limit }) => ratio !== undefined && limit !== undefined && ratio > limit

/**
 * Prints the results.
 *
 * @param sections - each with a title, the names of its two columns, and rows of a name, two figures, a ratio, a limit
 */
export function printTable(sections) {
  let text = ''
  for (const { title, columns, rows } of sections) {
    text += line(title, ...columns, 'ratio', 'limit')
    for (const row of rows) {
      const { name, figures, ratio, limit } = row
      const over = isOver(row) ? ' OVER' : ''
      const cells = [
        ...figures.map(number),
        ratio === undefined ? '' : ratio.toFixed(2),
        limit?.toFixed(2) ?? '',
      ]
      text += `${line(`  ${name}`, ...cells).trimEnd()}${over}\n`
    }
    text += '\n'
  }
  process.stdout.write(text)
}
