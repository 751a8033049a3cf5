// Runs one case of the real npm clients against a running hub.
//   node run.mjs --list                      the names of all cases that run by themselves, one a line
//   node run.mjs <base-url> <case> [args]    runs one; exit 0 and one JSON line, or exit 1 and the reason
// Owns the deadline and the exit code; what is shown is in cases/.

import { leaveAll } from './peers.mjs'
import { limited } from './rest.mjs'
import { cases as editing } from './cases/editing.mjs'
import { cases as rights } from './cases/rights.mjs'
import { cases as sockets } from './cases/sockets.mjs'
import { cases as restart } from './cases/restart.mjs'

const cases = { ...editing, ...rights, ...sockets, ...restart }

function fail (name, error) {
  console.error(`case ${name} failed: ${error?.name === 'Error' || !error?.stack ? error?.message ?? error : error.stack}`)
  process.exit(1)
}

const [base, name, ...args] = process.argv.slice(2)

if (base === '--list') {
  for (const [each, { manual }] of Object.entries(cases)) if (!manual) console.log(each)
} else if (!base || !Object.hasOwn(cases, name ?? '')) {
  console.error(`usage: node run.mjs --list | <base-url> <case> [args]\ncases: ${Object.keys(cases).join(' ')}`)
  process.exit(2)
} else {
  const { seconds, run } = cases[name]
  const started = Date.now()
  setTimeout(() => fail(name, `not done within ${seconds} s (${limited.times} waits for the login limit)`), seconds * 1000)
  // A provider that throws in a handler of its own would else end the process without a name.
  process.on('uncaughtException', (error) => fail(name, error))
  process.on('unhandledRejection', (error) => fail(name, error))
  try {
    const did = await run(base.replace(/\/$/, ''), ...args)
    leaveAll()
    console.log(JSON.stringify({ case: name, ok: true, ms: Date.now() - started, ...did }))
    process.exit(0)
  } catch (error) {
    fail(name, error)
  }
}
