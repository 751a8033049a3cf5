// Owns the REST side of a case: users, projects, members, documents, texts.
// Never opens a WebSocket, and never hides a refusal: an unexpected status throws with the body.

import { randomBytes } from 'node:crypto'
import { CaseFailure, sleep } from './wait.mjs'

/** A name that no other case on the same hub uses. */
export const unique = (prefix) => `${prefix}-${randomBytes(5).toString('hex')}`

const PASSWORD = 'a long enough passphrase 7'

/** How often a request had to wait because the hub limits logins: the first suspect when a case is late. */
export const limited = { times: 0 }

/** How often a limited request is tried again, as a polite client would. */
const PATIENCE = 20

async function request (base, method, path, { token, body, expect }) {
  const headers = {}
  if (token) headers.authorization = `Bearer ${token}`
  if (body !== undefined) headers['content-type'] = 'application/json'
  for (let attempt = 0; ; attempt++) {
    const response = await fetch(base + path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(15_000)
    })
    if (response.status === 429 && attempt < PATIENCE) {
      limited.times++
      await response.arrayBuffer()
      await sleep(1000 * Math.min(5, Number(response.headers.get('retry-after')) || 1))
      continue
    }
    const text = await response.text()
    if (!expect.includes(response.status)) {
      throw new CaseFailure(`${method} ${path}: expected ${expect}, got ${response.status} ${text.slice(0, 400)}`)
    }
    const json = /json/.test(response.headers.get('content-type') ?? '')
    return json && text ? JSON.parse(text) : text
  }
}

/** One signed-in person and what they may ask of the hub. */
export class User {
  constructor (base, password, answer) {
    this.base = base
    this.password = password
    this.id = answer.user.id
    this.login = answer.user.login
    this.name = answer.user.name
    this.token = answer.access_token
  }

  /** Sends a request with this user's token; `expect` lists the statuses that are right. */
  ask (method, path, body, expect = [200, 201, 204]) {
    return request(this.base, method, path, { token: this.token, body, expect })
  }

  /** Creates a project and returns its id. */
  async createProject (name = unique('project')) {
    return (await this.ask('POST', '/api/projects', { name }, [201])).id
  }

  /** Gives `user` a role: as a new member, or instead of the role that they have. */
  setRole (project, user, role) {
    const path = `/api/projects/${encodeURIComponent(project)}/members/${encodeURIComponent(user.login)}`
    return this.ask('PUT', path, { role }, [200, 201])
  }

  /** Takes `user` out of the project. */
  removeMember (project, user) {
    const path = `/api/projects/${encodeURIComponent(project)}/members/${encodeURIComponent(user.login)}`
    return this.ask('DELETE', path, undefined, [204])
  }

  /** Creates a document and returns its id. */
  async createDocument (project, path = 'main.rs') {
    return (await this.ask('POST', `/api/projects/${encodeURIComponent(project)}/documents`, { path }, [201])).id
  }

  /** The documents of a project. */
  async documents (project) {
    return (await this.ask('GET', `/api/projects/${encodeURIComponent(project)}/documents`, undefined, [200])).items
  }

  /** The text of a document as the hub has it. */
  text (document) {
    return this.ask('GET', `/api/documents/${document}/text`, undefined, [200])
  }

  /** Ends this login on the hub. */
  logout () {
    return this.ask('POST', '/api/auth/logout', undefined, [204])
  }
}

/** Registers a new user. */
export async function register (base, prefix = 'user') {
  const login = unique(prefix)
  const body = { login, password: PASSWORD, name: `${prefix} of a test` }
  const answer = await request(base, 'POST', '/api/auth/register', { body, expect: [201] })
  return new User(base, PASSWORD, answer)
}

/** Signs an existing user in: a session of its own beside the others. */
export async function login (base, name, password) {
  const body = { login: name, password }
  const answer = await request(base, 'POST', '/api/auth/login', { body, expect: [200] })
  return new User(base, password, answer)
}

/**
 * A project with an owner and one member for each role given, and one document in it.
 * Returns `{ owner, members, project, document }`; `members` is in the order of `roles`.
 */
export async function workspace (base, roles = ['editor'], path = 'main.rs') {
  const owner = await register(base, 'owner')
  const project = await owner.createProject()
  const members = []
  for (const role of roles) {
    const member = await register(base, role)
    await owner.setRole(project, member, role)
    members.push(member)
  }
  const document = await owner.createDocument(project, path)
  return { owner, members, project, document }
}
