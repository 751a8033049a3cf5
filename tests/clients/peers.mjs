// Owns the unmodified npm providers behind one shape, `Peer`: connect, type, see, leave.
// Never speaks a protocol itself except to read what a provider received (for counting).
// Flow: `connect(kind, …)` → a Peer whose provider is live → `peer.ready()` → type → `peer.leave()`.

import * as Y from 'yjs'
import * as decoding from 'lib0/decoding'
import { WebSocket } from 'ws'
import { WebsocketProvider as Yws15 } from 'yws15'
import { WebsocketProvider as Yws21 } from 'yws21'
import { WebsocketProvider as Yws31 } from 'yws31'
import * as hp34 from 'hp34'
import * as hp48 from 'hp48'
import { check, difference, waitFor } from './wait.mjs'

/** The five provider versions that the hub promises to serve. */
export const KINDS = ['yws15', 'yws21', 'yws31', 'hp34', 'hp48']

const YWS = { yws15: Yws15, yws21: Yws21, yws31: Yws31 }
const HP = { hp34, hp48 }

// Each y-websocket provider adds an exit handler; twenty of them are no leak.
process.setMaxListeners(0)

/** Every peer that was made, so that the runner can end them all. */
const alive = new Set()

/** Ends every peer that a case left open. */
export function leaveAll () {
  for (const peer of [...alive]) peer.leave()
}

const socketUrl = (base) => base.replace(/^http/, 'ws').replace(/\/$/, '')

/** What both families of providers have in common. */
class Peer {
  constructor (kind) {
    this.kind = kind
    this.doc = new Y.Doc()
    this.ytext = this.doc.getText('text')
    /** How often the provider became connected, and every change of its state in order. */
    this.connections = 0
    this.statuses = []
    alive.add(this)
  }

  /** The text as this peer has it. */
  get text () { return this.ytext.toString() }

  /** Inserts `string` at `at` (at the end without it), as one edit. */
  type (string, at = this.ytext.length) { this.ytext.insert(Math.min(at, this.ytext.length), string) }

  /** Deletes `count` UTF-16 units at `at`, as one edit. */
  erase (at, count) { this.ytext.delete(at, count) }

  /** The names that this peer's awareness shows, sorted; its own is among them. */
  get people () {
    return [...this.awareness.getStates().values()].map((state) => state.user?.name).filter(Boolean).sort()
  }

  /** Shows itself to the others under `name`. */
  show (name) { this.awareness.setLocalStateField('user', { name, color: '#30bced' }) }

  /** Whether this peer sees the awareness state of `other`. */
  sees (other) { return this.awareness.getStates().has(other.doc.clientID) }

  /** Resolves when the first state of the document has come. */
  async ready (ms) {
    await waitFor(() => `${this.kind} synced (${this.describe()})`, () => this.synced, ms)
    return this
  }

  describe () {
    return `statuses ${this.statuses.join(',') || 'none'}; close codes ${this.closes.map((c) => c.code).join(',') || 'none'}; ` +
      `told ${JSON.stringify(this.denials)}`
  }
}

/** A y-websocket provider. */
class YwsPeer extends Peer {
  constructor (kind, base, room, token) {
    super(kind)
    this.closes = []
    this.denials = []
    this.finals = []
    this.provider = new YWS[kind](`${socketUrl(base)}/collab`, room, this.doc, {
      WebSocketPolyfill: WebSocket, disableBc: true, params: { token }
    })
    const provider = this.provider
    provider.on('status', ({ status }) => this.#status(status))
    provider.on('connection-close', (event) => { if (event) this.closes.push({ code: event.code, reason: event.reason }) })
    provider.on('closed', (event) => this.finals.push(event))
    // The provider only logs a denial; its handler table is public, so record it instead.
    provider.messageHandlers[2] = (_encoder, decoder) => {
      check(decoding.readVarUint(decoder) === 0, 'the auth message is a denial')
      this.denials.push(decoding.readVarString(decoder))
    }
  }

  #status (status) {
    this.statuses.push(status)
    if (status === 'connected') this.connections++
  }

  get awareness () { return this.provider.awareness }
  get synced () { return this.provider.synced }
  get connected () { return this.provider.wsconnected }

  /** Sends bytes past the provider, on its own socket. */
  sendRaw (bytes) { this.provider.ws.send(bytes) }

  async disconnect () {
    this.provider.disconnect()
    await waitFor(`${this.kind} disconnected`, () => !this.provider.wsconnected && this.provider.ws === null)
  }

  async reconnect () {
    this.provider.connect()
    await this.ready()
  }

  /** Cuts the TCP connection without a close handshake; the provider does not come back. */
  vanish () {
    this.provider.shouldConnect = false
    this.provider.ws.terminate()
  }

  leave () {
    if (!alive.delete(this)) return
    this.provider.destroy()
  }
}

/** A Hocuspocus provider, on a socket of its own unless one is given. */
class HpPeer extends Peer {
  constructor (kind, base, name, token, { socket, sessionAwareness = false } = {}) {
    super(kind)
    /** Refused SyncStatus frames, denials, and Close frames that came in band. */
    this.refused = 0
    this.denials = []
    this.closes = []
    this.owned = socket === undefined
    this.socket = socket ?? hocuspocusSocket(kind, base)
    const note = ({ status }) => {
      this.statuses.push(status)
      if (status === 'connected' && this.statuses.at(-2) !== 'connected') this.connections++
    }
    this.socket.on('status', note)
    this.provider = new HP[kind].HocuspocusProvider({
      websocketProvider: this.socket,
      name,
      document: this.doc,
      token,
      ...(kind === 'hp48' ? { sessionAwareness } : {}),
      onAuthenticationFailed: ({ reason }) => this.denials.push(reason),
      onMessage: ({ message }) => this.#count(message)
    })
    this.provider.on('close', ({ event }) => this.closes.push({ code: event.code, reason: event.reason }))
    this.provider.attach()
  }

  #count (message) {
    const decoder = message.decoder
    decoding.readVarString(decoder)
    if (decoding.readVarUint(decoder) === 8 && decoding.readVarInt(decoder) !== 1) this.refused++
  }

  get awareness () { return this.provider.awareness }
  get synced () { return this.provider.synced && this.provider.isAuthenticated }
  get connected () { return this.socket.status === 'connected' }
  get unsynced () { return this.provider.unsyncedChanges }
  get scope () { return this.provider.authorizedScope }

  /** Resolves when the hub has acknowledged every change of this peer. */
  async saved (ms) {
    await waitFor(() => `${this.kind} saved (unsyncedChanges ${this.unsynced}; ${this.describe()})`,
      () => this.unsynced === 0, ms)
  }

  async disconnect () {
    this.socket.disconnect()
    await waitFor(`${this.kind} disconnected`, () => this.socket.status === 'disconnected')
  }

  async reconnect () {
    this.socket.connect()
    await this.ready()
  }

  /** Cuts the TCP connection without a close handshake; the provider does not come back. */
  vanish () {
    this.socket.shouldConnect = false
    this.socket.webSocket.terminate()
  }

  leave () {
    if (!alive.delete(this)) return
    this.provider.destroy()
    if (this.owned) this.socket.destroy()
  }
}

/** A Hocuspocus socket that several documents may share; it reconnects fast, so that tests are short. */
export function hocuspocusSocket (kind, base) {
  return new HP[kind].HocuspocusProviderWebsocket({
    url: `${socketUrl(base)}/hocuspocus`, WebSocketPolyfill: WebSocket, delay: 150, minDelay: 100, maxDelay: 600
  })
}

/** Whether a kind is of the Hocuspocus family, whose clients know what is saved. */
export const isHocuspocus = (kind) => kind in HP

/** Connects one provider of `kind` to `document` (an id, or `project/path`) as `user`. */
export function connect (kind, user, document, options = {}) {
  const token = options.token ?? user.token
  return isHocuspocus(kind)
    ? new HpPeer(kind, user.base, document, token, options)
    : new YwsPeer(kind, user.base, document, token)
}

/** Connects and waits until the document is there. */
export const join = (kind, user, document, options) => connect(kind, user, document, options).ready()

/** Waits until all peers hold one text (and `reader` gets the same over REST); returns it. */
export async function converge (peers, reader, document, ms = 10_000) {
  const first = peers[0]
  const odd = () => peers.find((peer) => peer.text !== first.text)
  await waitFor(() => `equal texts; ${first.kind} and ${odd()?.kind}: ${difference(first.text, odd()?.text ?? first.text)}`,
    () => !odd(), ms)
  for (const peer of peers) if (isHocuspocus(peer.kind)) await peer.saved(ms)
  let stored = ''
  await waitFor(() => `REST text equal to the peers': ${difference(first.text, stored)}`, async () => {
    stored = await reader.text(document)
    return stored === first.text
  }, ms)
  return first.text
}
