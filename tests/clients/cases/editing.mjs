// Owns the cases about text: two clients, late joiners, offline edits, mixed kinds, twenty at once.
// Never checks rights (see rights.mjs) nor how the socket lives (see sockets.mjs).

import { check, sleep, waitFor } from '../wait.mjs'
import { workspace } from '../rest.mjs'
import { connect, converge, hocuspocusSocket, isHocuspocus, join, KINDS } from '../peers.mjs'

// Outside the BMP and combining: offsets are UTF-16 units, and a hub that counts bytes shows it here.
const SALT = ['fn main() {}\n', 'ünï', '🦀', 'e\u0301', '// 注释\n', '\t', '👩‍💻']

async function typeTogether (peers, rounds) {
  for (let round = 0; round < rounds; round++) {
    for (const [n, peer] of peers.entries()) {
      const at = (round * 7 + n * 13) % (peer.text.length + 1)
      peer.type(`<${n}.${round}>`, at)
      if (round % 3 === n % 3) peer.type(SALT[(round + n) % SALT.length])
      if (round % 4 === 3) peer.erase(0, Math.min(3, peer.text.length))
    }
    await sleep(10)
  }
}

function basic (kind) {
  return async (base) => {
    const { owner, members: [editor], project, document } = await workspace(base)
    const a = await join(kind, owner, document)
    const b = await join(kind, editor, document)
    a.type('hello from a\n')
    await waitFor('the first edit reaches the other', () => b.text === 'hello from a\n')
    await typeTogether([a, b], 20)
    const text = await converge([a, b], owner, document)
    check(text.includes('<0.19>') && text.includes('<1.19>'), 'the last edits of both are in the text')

    const late = await join(kind, editor, document)
    check(late.text === text, 'a late joiner is synced with the whole text')
    late.type('late')
    await converge([a, b, late], owner, document)

    a.show('Ann'); b.show('Ben'); late.show('Lea')
    const all = 'Ann,Ben,Lea'
    await waitFor(() => `all three see ${all}: ${[a, b, late].map((p) => p.people)}`,
      () => [a, b, late].every((peer) => peer.people.join() === all))
    b.leave()
    await waitFor('the others see that one left', () => [a, late].every((peer) => peer.people.join() === 'Ann,Lea'))
    late.vanish()
    await waitFor('the other sees that one vanished', () => a.people.join() === 'Ann')

    // A room that nobody created: its first editor does.
    const fresh = await join(kind, owner, `${project}/made/by ${kind}.rs`)
    fresh.type('created')
    const made = await waitFor('the document is listed', async () =>
      (await owner.documents(project)).find((doc) => doc.path === `made/by ${kind}.rs`))
    await converge([fresh], owner, made.id)
    if (isHocuspocus(kind)) check(a.scope === 'read-write', `scope read-write, got ${a.scope}`)
    check(a.connections === 1, `one connection was enough, got ${a.connections}`)
    return { kind, length: text.length }
  }
}

function offline (kind) {
  return async (base) => {
    const { owner, members: [editor], document } = await workspace(base)
    const a = await join(kind, owner, document)
    const b = await join(kind, editor, document)
    a.type('0123456789')
    await converge([a, b], owner, document)

    await a.disconnect()
    a.type('[offline a]', 5)
    a.erase(0, 2)
    b.type('[online b]', 10)
    await sleep(150)
    check(!b.text.includes('offline'), 'what is typed offline stays there')
    await a.reconnect()
    const both = await converge([a, b], owner, document)
    check(both.includes('[offline a]') && both.includes('[online b]') && !both.includes('0'), `both sides' edits: ${both}`)

    // Deletes alone move no state vector: they must not be taken for nothing new.
    await a.disconnect()
    a.erase(0, 3)
    const shorter = a.text
    await a.reconnect()
    const erased = await converge([a, b], owner, document)
    check(erased === shorter, 'offline deletes arrive')

    // Both away: each edit goes through the hub while the other is not there to give it.
    await a.disconnect()
    a.type('[a while b is there]')
    await b.disconnect()
    b.type('[b alone]', 0)
    await a.reconnect()
    await waitFor('the hub took what was typed offline', async () => (await owner.text(document)).includes('[a while'))
    await a.disconnect()
    await b.reconnect()
    await waitFor('b got it from the hub', () => b.text.includes('[a while b is there]'))
    await a.reconnect()
    const text = await converge([a, b], owner, document)
    check(text.includes('[b alone]'), 'the last offline edit arrives')
    return { kind, connections: a.connections }
  }
}

async function mixed (base) {
  const { owner, members: [editor], document } = await workspace(base)
  const peers = await Promise.all(KINDS.map((kind, n) => join(kind, n % 2 ? owner : editor, document)))
  await typeTogether(peers, 60)
  const text = await converge(peers, owner, document)
  for (const n of peers.keys()) check(text.includes(`<${n}.59>`), `the last edit of ${peers[n].kind} is in the text`)
  peers.forEach((peer) => peer.show(peer.kind))
  const all = [...KINDS].sort().join()
  await waitFor(() => `all kinds see each other: ${peers.map((p) => `${p.kind} sees ${p.people}`).join('; ')}`,
    () => peers.every((peer) => peer.people.join() === all))
  return { kinds: KINDS.length, length: text.length }
}

async function many20 (base) {
  const { owner, members, document } = await workspace(base, ['editor', 'editor', 'editor'])
  const users = [owner, ...members]
  const peers = await Promise.all(Array.from({ length: 20 }, (_, n) =>
    connect(KINDS[n % KINDS.length], users[n % users.length], document).ready(20_000)))
  peers.forEach((peer, n) => peer.show(`peer ${n}`))
  let edits = 0
  await Promise.all(peers.map(async (peer, n) => {
    const end = Date.now() + 3000
    for (let round = 0; Date.now() < end; round++, edits++) {
      peer.type(`(${n}:${round})`, Math.floor(Math.random() * (peer.text.length + 1)))
      if (round % 5 === 4) peer.erase(Math.floor(Math.random() * (peer.text.length - 4)), 4)
      await sleep(20 + Math.random() * 40)
    }
    peer.type(`end of ${n};`)
  }))
  const text = await converge(peers, owner, document, 30_000)
  for (const n of peers.keys()) check(text.includes(`end of ${n};`), `the last edit of peer ${n} is in the text`)
  await waitFor(() => `everyone sees all 20: ${peers.map((p) => p.people.length)}`,
    () => peers.every((peer) => peer.people.length === 20), 15_000)
  check(peers.every((peer) => peer.connections === 1), 'nobody had to reconnect')
  return { peers: peers.length, edits, length: text.length }
}

function multiplex (kind) {
  return async (base) => {
    const { owner, members: [editor], project, document } = await workspace(base)
    const second = await owner.createDocument(project, 'src/second.rs')
    const socket = hocuspocusSocket(kind, base)
    const one = await join(kind, owner, document, { socket })
    const two = await join(kind, owner, second, { socket })
    const outside = await join('yws31', editor, second)
    one.type('the first')
    two.type('the second')
    await converge([one], owner, document)
    await converge([two, outside], owner, second)
    check(one.text === 'the first' && two.text === 'the second', 'documents on one socket do not mix')

    // Version 4 may open one document twice on one socket, told apart by a session id.
    if (kind === 'hp48') {
      const shared = { socket: hocuspocusSocket(kind, base), sessionAwareness: true }
      const twins = [await join(kind, owner, second, shared), await join(kind, owner, second, shared)]
      twins[0].type('[twin 0]')
      twins[1].type('[twin 1]')
      await converge([two, outside, ...twins], owner, second)
      twins[0].leave()
      twins[1].type('[twin 1 goes on]')
      await converge([two, outside, twins[1]], owner, second)
      shared.socket.destroy()
    }
    one.leave()
    two.type('[still open]')
    await converge([two, outside], owner, second)
    check(two.connected && two.closes.length === 0, 'the shared socket stays open')
    socket.destroy()
    return { kind }
  }
}

/** Name → case: how long it may take, and the function that runs it. */
export const cases = Object.fromEntries([
  ...KINDS.map((kind) => [`basic-${kind}`, { seconds: 40, run: basic(kind) }]),
  ...KINDS.map((kind) => [`offline-${kind}`, { seconds: 40, run: offline(kind) }]),
  ...['hp34', 'hp48'].map((kind) => [`multiplex-${kind}`, { seconds: 30, run: multiplex(kind) }]),
  ['mixed', { seconds: 40, run: mixed }],
  ['many20', { seconds: 90, run: many20 }]
])
