// Owns the cases about rights: read-only users, bad tokens, and rights that change in mid-session.
// Never waits for what may not come without watching for it: a refused edit is looked for at every peer.

import { check, never, sleep, waitFor } from '../wait.mjs'
import { login, workspace } from '../rest.mjs'
import { connect, converge, hocuspocusSocket, isHocuspocus, join } from '../peers.mjs'

/** How long after the answer to a change of rights an edit may still be taken, in ms. */
const GRACE = 1000

function readonly (kind) {
  return async (base) => {
    const { owner, members: [viewer, editor], document } = await workspace(base, ['viewer', 'editor'])
    const a = await join('yws31', owner, document)
    a.type('written by the owner\n')
    const v = await join(kind, viewer, document)
    const e = await join(isHocuspocus(kind) ? 'yws31' : 'hp48', editor, document)
    await waitFor('the viewer reads', () => v.text === 'written by the owner\n')
    if (isHocuspocus(kind)) {
      check(v.scope === 'readonly', `the viewer's scope is readonly, got ${v.scope}`)
      await v.saved()
      check(v.refused === 0, 'a viewer who adds nothing is refused nothing')
    }
    v.show('Viewer')
    await waitFor('a viewer is seen', () => a.people.includes('Viewer') && e.people.includes('Viewer'))

    v.type('[by the viewer]', 0)
    await never('an edit of a viewer reaches others', async () =>
      [a.text, e.text, await owner.text(document)].some((text) => text.includes('viewer')), 800)
    a.type('more by the owner\n')
    e.type('more by the editor\n')
    await waitFor('the viewer keeps receiving', () =>
      v.text.includes('more by the owner') && v.text.includes('more by the editor'))
    await converge([a, e], owner, document)
    check((await owner.text(document)).includes('[by') === false, 'the stored text has no edit of the viewer')
    if (isHocuspocus(kind)) {
      check(v.unsynced > 0, 'a refused edit stays unsynced')
      check(v.refused === 1, `one SyncStatus says refused, got ${v.refused}`)
    }

    // Coming back, the provider offers the refused edit again, now as a Step2.
    if (v.connected) await v.disconnect()
    await v.reconnect()
    a.type('after the viewer came back\n')
    await waitFor('the viewer receives after coming back', () => v.text.includes('came back'))
    await never('the edit of a viewer enters by a Step2', async () =>
      a.text.includes('[by') || (await owner.text(document)).includes('[by'), 500)
    if (isHocuspocus(kind)) check(v.unsynced > 0 && v.refused === 2, `refused again: ${v.unsynced}, ${v.refused}`)
    return { kind, refused: v.refused }
  }
}

function badToken (kind) {
  return async (base) => {
    const { owner, document } = await workspace(base, [])
    const forged = owner.token.slice(0, -6) + (owner.token.endsWith('AAAAAA') ? 'BBBBBB' : 'AAAAAA')
    const notes = []
    for (const bad of ['not-a-token', forged]) {
      const peer = connect(kind, owner, document, { token: bad })
      notes.push(await (isHocuspocus(kind) ? hpBadToken : ywsBadToken)(peer, owner, document, `{${bad.length}}`))
      peer.leave()
    }
    return { kind, notes }
  }
}

async function ywsBadToken (peer, owner, document, mark) {
  await waitFor(() => `closed: ${peer.describe()}`, () => peer.closes.length > 0)
  check(peer.closes[0].code === 4401, `close code 4401, got ${peer.closes[0].code}`)
  check(peer.denials.length > 0, 'the reason came in band before the close')
  check(peer.kind !== 'yws31' || peer.finals.length === 1, 'the provider takes the close as final')
  if (peer.kind === 'yws31') {
    await never('a retry after a final close', () => peer.closes.length > 1 || peer.provider.shouldConnect, 1000)
    peer.provider.params.token = owner.token
    peer.provider.connect()
  } else {
    // Older versions retry on every code and fix their URL at the start: refused each time, until it is changed.
    await waitFor('an old version retries', () => peer.closes.length >= 3)
    check(peer.closes.every((close) => close.code === 4401), 'refused each time')
    check(!peer.synced, 'never synced')
    peer.provider.url = peer.provider.url.replace(/token=.*$/, `token=${owner.token}`)
  }
  await peer.ready()
  peer.type(`${mark} with the good token\n`)
  await converge([peer], owner, document)
  return { denied: peer.denials[0] }
}

async function hpBadToken (peer, owner, document, mark) {
  await waitFor(() => `authenticationFailed: ${peer.describe()}`, () => peer.denials.length > 0)
  peer.type(`${mark} typed while denied\n`)
  await never('the socket closes or the document opens', () => !peer.connected || peer.synced, 500)
  check(!(await owner.text(document)).includes(mark), 'nothing of a denied client is taken')
  check(peer.unsynced > 0, 'nothing of a denied client is acknowledged')
  const socket = peer.socket.webSocket
  peer.provider.configuration.token = owner.token
  await peer.provider.sendToken()
  peer.provider.startSync()
  await peer.ready()
  check(peer.socket.webSocket === socket, 'the good token went over the same socket')
  const text = await converge([peer], owner, document)
  check(text.includes(mark), 'what was typed before arrives with the good token')
  return { denied: peer.denials[0] }
}

/** The other documented way: another provider object for the same document on the same socket. */
function badTokenThenNew (kind) {
  return async (base) => {
    const { owner, members: [editor], project, document } = await workspace(base)
    const second = await owner.createDocument(project, 'other.rs')
    const socket = hocuspocusSocket(kind, base)
    const fine = await join(kind, owner, second, { socket })
    const denied = connect(kind, owner, document, { socket, token: 'not-a-token' })
    await waitFor('authenticationFailed', () => denied.denials.length > 0)
    denied.leave()
    const good = await join(kind, editor, document, { socket })
    good.type('good')
    fine.type('untouched')
    await converge([good], owner, document)
    await converge([fine], owner, second)
    // A document of somebody else's project is denied in band, and says nothing of its existence.
    const stranger = await workspace(base, [])
    const foreign = connect(kind, owner, stranger.document, { socket })
    await waitFor('a foreign document is denied', () => foreign.denials.length > 0)
    check(!foreign.synced, 'a foreign document does not open')
    check(fine.connected, 'the socket stays open')
    socket.destroy()
    return { kind, foreign: foreign.denials[0] }
  }
}

/** Types a numbered mark every 25 ms with the time at which it was typed. */
async function typeMarks (peer, until) {
  const marks = []
  for (let n = 0; Date.now() < until; n++) {
    const mark = `{${n}}`
    marks.push({ mark, at: Date.now() })
    peer.type(mark)
    await sleep(25)
  }
  return marks
}

const CHANGES = {
  removed: ({ owner, project, member }) => owner.removeMember(project, member),
  logout: ({ session }) => session.logout(),
  viewer: ({ owner, project, member }) => owner.setRole(project, member, 'viewer')
}

function revoked (kind, change) {
  return async (base) => {
    const { owner, members: [member, editor], project, document } = await workspace(base, ['editor', 'editor'])
    const session = await login(base, member.login, member.password)
    const a = await join('yws31', owner, document)
    const b = await join('hp48', editor, document)
    const m = await join(kind, session, document)
    m.type('before\n')
    await converge([a, b, m], owner, document)

    const typing = typeMarks(m, Date.now() + 3500)
    await sleep(500)
    await CHANGES[change]({ owner, project, member, session })
    const answered = Date.now()
    const marks = await typing
    const late = marks.filter(({ at }) => at > answered + GRACE)
    check(late.length > 20, 'enough was typed after the change')
    a.type('\nthe owner goes on')
    b.type('\nthe editor goes on')
    const text = await converge([a, b], owner, document)
    check(text.includes('{0}'), 'what was typed before the change is there')
    const through = late.filter(({ mark }) => text.includes(mark))
    check(through.length === 0, `${through.length} edits later than ${GRACE} ms after the change were taken, ` +
      `the last ${through.at(-1)?.at - answered} ms after it`)
    const lastTaken = marks.filter(({ mark }) => text.includes(mark)).at(-1)
    const told = change === 'viewer' ? await checkDowngraded(m, text) : await checkEnded(m)
    return { kind, change, stoppedAfterMs: lastTaken.at - answered, told }
  }
}

/** A session that lost the document altogether must have been told, and must not get back in. */
async function checkEnded (m) {
  if (m.kind === 'yws31') {
    check(m.finals.length === 1 && [4403, 4410].includes(m.finals[0].code),
      `closed for good with 4403 or 4410: ${JSON.stringify(m.finals)} ${m.describe()}`)
    const count = m.statuses.length
    await never('a retry after the revocation', () => m.statuses.length !== count, 1000)
    return m.finals[0]
  }
  check(m.closes.length > 0 || m.denials.length > 0, `told by Close or a denial: ${m.describe()}`)
  check(!m.synced, `not synced any more: ${m.describe()}`)
  check(m.unsynced > 0, 'its last edits stay unsynced')
  return { closes: m.closes.slice(0, 2), denials: m.denials.slice(0, 2) }
}

/** A downgraded session goes on reading, either in the same session or after a reconnect of its own. */
async function checkDowngraded (m, text) {
  if (m.kind === 'yws31' && m.finals.length > 0) {
    check([4403, 4410].includes(m.finals[0].code), `4403 or 4410: ${JSON.stringify(m.finals)}`)
    return m.finals[0]
  }
  check(m.text.includes('the owner goes on') && m.text.includes('the editor goes on'),
    `a viewer goes on reading: ${m.describe()}`)
  check(m.text !== text, 'its refused edits are only its own')
  if (!isHocuspocus(m.kind)) return 'reads on'
  check(m.unsynced > 0 && (m.refused > 0 || m.denials.length > 0 || m.closes.length > 0),
    `told that edits are refused: ${m.describe()}`)
  return { scope: m.scope, refused: m.refused }
}

const changes = (kind) => Object.keys(CHANGES).map((change) =>
  [`revoked-${change}-${kind}`, { seconds: 40, run: revoked(kind, change) }])

/** Name → case: how long it may take, and the function that runs it. */
export const cases = Object.fromEntries([
  ...['yws31', 'hp34', 'hp48'].map((kind) => [`readonly-${kind}`, { seconds: 40, run: readonly(kind) }]),
  ...['yws31', 'yws15', 'hp34', 'hp48'].map((kind) => [`token-${kind}`, { seconds: 30, run: badToken(kind) }]),
  ...['hp34', 'hp48'].map((kind) => [`token-shared-${kind}`, { seconds: 30, run: badTokenThenNew(kind) }]),
  ...['yws31', 'hp34', 'hp48'].flatMap(changes)
])
