// Owns the two halves of the restart test: a writer that records what the hub acknowledged, and the check
// that reads it back. Never starts or kills a hub: the caller does, on the same address, between or during.
//
// File: the first line is JSON { login, password, project, document }; each further line is the number of a
// mark whose edit was acknowledged. A line is written only after the acknowledgement.

import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { check, CaseFailure, sleep } from '../wait.mjs'
import { login, workspace } from '../rest.mjs'
import { connect } from '../peers.mjs'

const mark = (n) => `[${n}]`

/** Until when the writer types: so many seconds, or until SIGTERM or SIGINT. */
function stopSignal (seconds) {
  const stop = { now: false }
  const end = () => { stop.now = true }
  process.once('SIGTERM', end)
  process.once('SIGINT', end)
  setTimeout(end, seconds * 1000).unref()
  return stop
}

/**
 * Types, and records what was acknowledged. Each connection starts from an empty replica: one that kept its
 * edits would send them again after a restart, and so hide that the hub had lost them.
 */
class Writer {
  constructor (owner, document, file) {
    Object.assign(this, { owner, document, file, typed: 0, pending: [], acknowledged: [], unacknowledged: 0, connections: 0 })
  }

  /** Connects (as soon as the hub is there), and looks that nothing acknowledged is missing. */
  async connect () {
    const peer = await connect('hp48', this.owner, this.document).ready(60_000)
    await peer.saved()
    peer.socket.on('disconnect', () => peer.leave())
    peer.provider.on('unsyncedChanges', ({ number }) => { if (number === 0) this.#record() })
    this.connections++
    this.unacknowledged += this.pending.length
    this.pending = []
    checkMarks(peer.text, this.acknowledged)
    this.peer = peer
  }

  get connected () { return this.peer?.socket.webSocket?.readyState === 1 && this.peer.synced }

  type () {
    this.pending.push(this.typed)
    this.peer.type(mark(this.typed++))
  }

  // unsyncedChanges is 0 only when every Update and Step2 of this connection has its SyncStatus.
  #record () {
    if (this.pending.length === 0) return
    appendFileSync(this.file, this.pending.map((n) => `${n}\n`).join(''))
    this.acknowledged.push(...this.pending)
    this.pending = []
  }
}

/** The text holds each acknowledged mark, no mark twice, all in the order in which they were typed. */
function checkMarks (text, acknowledged) {
  const stored = [...text.matchAll(/\[(\d+)\]/g)].map((found) => Number(found[1]))
  const there = new Set(stored)
  const missing = acknowledged.filter((n) => !there.has(n))
  check(missing.length === 0,
    `${missing.length} of ${acknowledged.length} acknowledged edits are missing, first ${missing.slice(0, 10)}`)
  check(stored.map(mark).join('') === text, 'the text holds whole marks and nothing else')
  check(stored.every((n, at) => at === 0 || n > stored[at - 1]), 'each mark once, in the order of typing')
  return stored.length
}

async function write (base, file, seconds = '20') {
  check(file, 'usage: run.mjs <base-url> restart-writer <file> [seconds]')
  const { owner, project, document } = await workspace(base, [])
  writeFileSync(file, JSON.stringify({ login: owner.login, password: owner.password, project, document }) + '\n')
  const writer = new Writer(owner, document, file)
  const stop = stopSignal(Number(seconds))
  while (!stop.now) {
    if (writer.connected) writer.type()
    else await writer.connect()
    await sleep(2)
  }
  if (!writer.connected) await writer.connect()
  await writer.peer.saved(30_000)
  const { typed, acknowledged, unacknowledged, connections } = writer
  return { typed, acknowledged: acknowledged.length, unacknowledged, connections }
}

async function verify (base, file) {
  check(file, 'usage: run.mjs <base-url> restart-check <file>')
  const [head, ...lines] = readFileSync(file, 'utf8').split('\n').filter(Boolean)
  const { login: name, password, document } = JSON.parse(head)
  const acknowledged = lines.map(Number)
  if (acknowledged.length === 0) throw new CaseFailure('the writer recorded no acknowledgement: nothing was tested')
  const text = await (await login(base, name, password)).text(document)
  return { acknowledged: acknowledged.length, stored: checkMarks(text, acknowledged) }
}

/** Name → case: how long it may take, and the function that runs it. */
export const cases = {
  'restart-writer': { seconds: 600, run: write, manual: true },
  'restart-check': { seconds: 30, run: verify, manual: true }
}
