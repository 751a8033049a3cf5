// Owns the cases about what surrounds the text: awareness, keep-alive, the names of documents.
// Never types more than it needs to tell one document from another.

import { encodeAwarenessUpdate } from 'y-protocols/awareness'
import * as encoding from 'lib0/encoding'
import { check, never, sleep, waitFor } from '../wait.mjs'
import { workspace } from '../rest.mjs'
import { connect, converge, isHocuspocus, join, KINDS } from '../peers.mjs'

/** The frame with which a y-websocket client tells of the peers `clients`, as `peer` knows them now. */
function awarenessFrame (peer, clients) {
  const encoder = encoding.createEncoder()
  encoding.writeVarUint(encoder, 1)
  encoding.writeVarUint8Array(encoder, encodeAwarenessUpdate(peer.awareness, clients))
  return encoding.toUint8Array(encoder)
}

async function awareness (base) {
  const { owner, members: [editor], document } = await workspace(base)
  const a = await join('yws31', owner, document)
  const b = await join('yws31', editor, document)
  const c = await join('hp48', editor, document)
  const people = { Ann: a, Ben: b, Cat: c }
  for (const [name, peer] of Object.entries(people)) peer.show(name)
  const together = () => [a, b, c].every((peer) => peer.people.join() === 'Ann,Ben,Cat')
  await waitFor('all three see each other', together)

  // Every y-websocket client echoes what it hears, so an echo may come after its subject has left.
  const stale = awarenessFrame(b, [a.doc.clientID])
  const all = awarenessFrame(b, [a.doc.clientID, b.doc.clientID, c.doc.clientID])
  b.sendRaw(all)
  await a.disconnect()
  await waitFor('a is gone for the others', () => !b.sees(a) && !c.sees(a))
  b.sendRaw(stale)
  await never('a stale echo brings back one who left', () => c.sees(a), 1000)
  const d = await join('hp34', owner, document)
  await waitFor('a newcomer sees who is there', () => d.people.join() === 'Ben,Cat')
  check(!d.sees(a), 'a newcomer does not see one who left')

  // The same client id comes back, without having changed its state: with the clock that it had.
  await a.reconnect()
  await waitFor(() => `one who came back is seen: ${[b, c, d].map((p) => p.people.join())}`,
    () => [b, c, d].every((peer) => peer.sees(a)), 4000)
  // Its own provider remembers the clocks of the others: it takes their states again only when they move.
  b.show('Ben')
  c.show('Cat')
  await waitFor('one who came back sees the others', () => a.people.join() === 'Ann,Ben,Cat')
  a.show('Ann again')
  await waitFor('and may change', () => [b, c, d].every((peer) => peer.people.includes('Ann again')))

  // B has told of everyone; when it goes, only B goes.
  b.sendRaw(awarenessFrame(b, [a.doc.clientID, b.doc.clientID, c.doc.clientID]))
  b.vanish()
  await waitFor('the one who left is gone', () => [a, c, d].every((peer) => !peer.sees(b)))
  await never('a leaver takes others along', () => ![a, c, d].every((peer) =>
    peer.people.join() === 'Ann again,Cat'), 1000)

  // The same for a Hocuspocus client.
  await c.disconnect()
  await waitFor('c is gone', () => !a.sees(c) && !d.sees(c))
  await c.reconnect()
  await waitFor('c is seen again', () => a.sees(c) && d.sees(c), 4000)
  return { people: a.people }
}

/** How long the providers wait for data before they give a connection up is 30 s. */
const IDLE = 36_000

async function keepalive (base) {
  const { owner, project } = await workspace(base, [])
  const peers = []
  for (const kind of KINDS) {
    for (const silent of [false, true]) {
      // Each alone in a document of its own: nobody else's traffic keeps it alive.
      const document = await owner.createDocument(project, `idle/${kind}-${silent}.rs`)
      const peer = await join(kind, owner, document)
      // A client without a state of its own sends nothing at all, so that nothing can be echoed.
      if (silent) peer.awareness.setLocalState(null)
      peers.push({ peer, kind, silent, document })
    }
  }
  await sleep(IDLE)
  for (const { peer, kind, silent } of peers) {
    check(peer.connected && peer.connections === 1,
      `${kind} (${silent ? 'silent' : 'with awareness'}) kept its connection: ${peer.connections} connections, ${peer.describe()}`)
  }
  for (const { peer, document } of peers) {
    peer.type('still alive')
    await converge([peer], owner, document)
  }
  return { idleMs: IDLE, peers: peers.length }
}

async function names (base) {
  const path = 'path with space/ünï.rs'
  const { owner, members: [editor], project } = await workspace(base)
  const room = `${project}/${path}`
  const escaped = room.split('/').map(encodeURIComponent).join('/')
  // Two clients at once open a document that does not exist yet: it must be made once.
  const first = [connect('yws31', owner, room), connect('hp48', editor, room)]
  await Promise.all(first.map((peer) => peer.ready()))
  const listed = (await owner.documents(project)).filter((doc) => doc.path === path)
  check(listed.length === 1, `one document of that path, got ${listed.length}`)
  const id = listed[0].id
  const peers = [...first]
  for (const kind of KINDS) {
    peers.push(await join(kind, owner, id))
    peers.push(await join(kind, editor, isHocuspocus(kind) ? room : escaped))
  }
  peers.forEach((peer, n) => peer.type(`<${n}>`))
  const text = await converge(peers, owner, id)
  check(peers.every((_, n) => text.includes(`<${n}>`)), 'all names reach one document')
  const after = (await owner.documents(project)).filter((doc) => doc.path.includes('.rs') && doc.path.includes('path'))
  check(after.length === 1, `still one document: ${after.map((doc) => doc.path)}`)

  const near = await join('yws31', owner, `${room}x`)
  check(near.text === '', 'a name that is longer by a letter is another document')
  return { id, names: 3, peers: peers.length }
}

/** Name → case: how long it may take, and the function that runs it. */
export const cases = {
  awareness: { seconds: 45, run: awareness },
  keepalive: { seconds: 75, run: keepalive },
  names: { seconds: 40, run: names }
}
