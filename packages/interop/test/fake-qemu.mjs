/**
 * Stands for QEMU in tests: connects to the qtest socket that its arguments name, makes the RAM file, and answers.
 *
 * Its first argument says how it behaves: `answers`, `dies` at once, `dies-later` at the second command, `stays-away`.
 * Its process id, and the folder of the RAM file, go to the file that FAKE_QEMU_TRACE names.
 */
import { truncateSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { dirname } from 'node:path'
import { createInterface } from 'node:readline'

const [behaviour, ...args] = process.argv.slice(2)
const argument = (pattern) => args.map((each) => pattern.exec(each)?.[1]).find((found) => found !== undefined)

const ram = argument(/mem-path=([^,]+)/)
writeFileSync(process.env.FAKE_QEMU_TRACE, `${process.pid}\n${dirname(ram)}`)
if (behaviour === 'dies') {
  console.error('fake-qemu: could not open the display')
  process.exit(3)
}
if (behaviour === 'stays-away') createServer().listen(0)
else {
  const megabytes = Number(argument(/size=(\d+)M/))
  writeFileSync(ram, '')
  truncateSync(ram, megabytes << 20)
  const socket = connect(argument(/^unix:(.*)$/))
  let commands = 0
  createInterface({ input: socket }).on('line', (line) => {
    if (behaviour === 'dies-later' && ++commands === 2) process.exit(4)
    socket.write(line === 'inb 0x70' ? 'OK 0x00ff\n' : 'OK\n')
  })
}
