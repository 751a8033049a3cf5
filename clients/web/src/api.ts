/**
 * Owns the REST calls and how their failures read: every one becomes a `Problem` whose message is a
 * sentence for a person. Holds no token: the caller brings one.
 */

/** A person as the hub names them. */
export interface User {
  id: string;
  login: string;
  name: string;
}

/** What register, login and refresh answer. */
export interface AuthAnswer {
  user: User;
  access_token: string;
  refresh_token: string;
  expires_in: number;
  session: string;
}

/** What a member of a project may be, weakest first. */
export type Role = "viewer" | "commenter" | "editor" | "owner";

/** A project that the caller is a member of. */
export interface Project {
  id: string;
  name: string;
  role: Role;
}

/** A document of a project. */
export interface DocumentEntry {
  id: string;
  project: string;
  path: string;
}

/** Where a plan stands. */
export type PlanStatus = "queued" | "running" | "done" | "failed" | "cancelled";

/** A plan as lists have it; there `request` is its beginning. */
export interface PlanLine {
  id: string;
  project: string;
  requested_by: string | null;
  request: string;
  status: PlanStatus;
  reason: string | null;
  attempt: number;
  created_at: number;
}

/** A step of a plan. */
export interface PlanStep {
  position: number;
  title: string;
  detail: string;
  status: "pending" | "running" | "done" | "failed" | "skipped";
  files: string[];
  depends_on: number[];
  minutes: number | null;
}

/** A plan, whole. `body` is as its planning worker wrote it. */
export interface Plan extends PlanLine {
  body?: unknown;
  steps: PlanStep[];
}

/** A notification; what is in `data` goes by its kind. */
export interface Notification {
  id: string;
  kind: string;
  project: string | null;
  count: number;
  data: unknown;
  created_at: number;
  read_at: number | null;
}

/** What the person has used. */
export interface Amounts {
  connected_ms: number;
  messages: number;
  edits: number;
  plans: number;
  tokens_in: number;
  tokens_out: number;
}

/** An account with a known password; exists in demo mode only. */
export interface DemoUser {
  login: string;
  password: string;
  name: string;
}

/** What the hub says of itself to anyone. */
export interface Info {
  version: string;
  demo: { project: string; users: DemoUser[] } | null;
}

/** How much of a long list is read. */
const LISTED = 50;

interface Page<T> {
  items: T[];
  next?: string | null;
}

/** A request that failed, in words. */
export class Problem extends Error {
  constructor(
    /** The sentence. */
    message: string,
    /** HTTP status; 0 when the hub was not reached. */
    readonly status: number,
    /** The hub's stable code, or `unreachable`. */
    readonly code: string,
  ) {
    super(message);
  }
}

/** Brings an access token; `stale` is one that the hub has just refused. */
export type TokenSource = (stale?: string) => Promise<string>;

/** The sentence of anything that was thrown. */
export function sentence(error: unknown): string {
  if (error instanceof Problem) return error.message;
  return "Something unexpected went wrong in this page. Reload it and try again.";
}

/** The calls that need no login. */
export const open = {
  info: () => request<Info>("GET", "/api/info"),
  login: (login: string, password: string) =>
    request<AuthAnswer>("POST", "/api/auth/login", { body: { login, password } }),
  register: (login: string, password: string, name: string) =>
    request<AuthAnswer>("POST", "/api/auth/register", { body: name ? { login, password, name } : { login, password } }),
  refresh: (refreshToken: string) =>
    request<AuthAnswer>("POST", "/api/auth/refresh", { body: { refresh_token: refreshToken } }),
  logout: (token: string) => request<void>("POST", "/api/auth/logout", { token }),
};

/** The calls of somebody who is signed in. */
export class Api {
  constructor(private readonly token: TokenSource) {}

  /** The projects that the person is a member of. */
  projects(): Promise<Project[]> {
    return this.#all<Project>("/api/projects");
  }

  /** A new project with the person as its owner. */
  createProject(name: string): Promise<Project> {
    return this.#call<Project>("POST", "/api/projects", { name });
  }

  /** Every document of a project, over all pages. */
  documents(project: string): Promise<DocumentEntry[]> {
    return this.#all<DocumentEntry>(`/api/projects/${encodeURIComponent(project)}/documents`);
  }

  /** A new, empty document. */
  createDocument(project: string, path: string): Promise<DocumentEntry> {
    return this.#call<DocumentEntry>("POST", `/api/projects/${encodeURIComponent(project)}/documents`, { path });
  }

  /** Moves a document to another path. */
  renameDocument(id: string, path: string): Promise<unknown> {
    return this.#call("PATCH", `/api/documents/${encodeURIComponent(id)}`, { path });
  }

  /** Deletes a document with its history. */
  deleteDocument(id: string): Promise<unknown> {
    return this.#call("DELETE", `/api/documents/${encodeURIComponent(id)}`);
  }

  /** The newest plans of a project, newest first. */
  async plans(project: string): Promise<PlanLine[]> {
    const page = await this.#call<Page<PlanLine>>("GET", `/api/projects/${encodeURIComponent(project)}/plans?limit=${LISTED}`);
    return page.items;
  }

  /** A plan with its steps. */
  plan(id: string): Promise<Plan> {
    return this.#call<Plan>("GET", `/api/plans/${encodeURIComponent(id)}`);
  }

  /** Asks for a plan; asked again with the same key it is the same plan. */
  askForPlan(project: string, request: string, key: string): Promise<Plan> {
    return this.#call<Plan>("POST", "/api/plans", { project, request }, { "idempotency-key": key });
  }

  /** Gives a plan up. */
  cancelPlan(id: string): Promise<Plan> {
    return this.#call<Plan>("POST", `/api/plans/${encodeURIComponent(id)}/cancel`);
  }

  /** The person's newest notifications, newest first. */
  async notifications(): Promise<Notification[]> {
    const page = await this.#call<Page<Notification>>("GET", `/api/notifications?limit=${LISTED}`);
    return page.items;
  }

  /** How many notifications are unread. */
  async unread(): Promise<number> {
    return (await this.#call<{ unread: number }>("GET", "/api/notifications/unread")).unread;
  }

  /** Marks one notification as read; how many are left. */
  async markRead(id: string): Promise<number> {
    return (await this.#call<{ unread: number }>("POST", `/api/notifications/${encodeURIComponent(id)}/read`)).unread;
  }

  /** Marks all up to one as read: those that came since stay unread. How many are left. */
  async markReadUpTo(id: string): Promise<number> {
    return (await this.#call<{ unread: number }>("POST", "/api/notifications/read", { up_to: id })).unread;
  }

  /** What the person has used in the last 30 days. */
  async usage(): Promise<Amounts> {
    return (await this.#call<{ total: Amounts }>("GET", "/api/usage?granularity=total")).total;
  }

  async #all<T>(path: string): Promise<T[]> {
    const items: T[] = [];
    let next: string | null | undefined;
    do {
      const query: string = next ? `?after=${encodeURIComponent(next)}` : "";
      const page: Page<T> = await this.#call<Page<T>>("GET", path + query);
      items.push(...page.items);
      next = page.next;
    } while (next);
    return items;
  }

  async #call<T>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<T> {
    const token = await this.token();
    try {
      return await request<T>(method, path, { token, body, headers });
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 401) throw error;
      return request<T>(method, path, { token: await this.token(token), body, headers });
    }
  }
}

interface Sent {
  token?: string;
  body?: unknown;
  headers?: Record<string, string>;
}

async function request<T>(method: string, path: string, options: Sent = {}): Promise<T> {
  const headers: Record<string, string> = { accept: "application/json", ...options.headers };
  if (options.token !== undefined) headers.authorization = `Bearer ${options.token}`;
  const init: RequestInit = { method, headers, cache: "no-store", credentials: "omit" };
  if (options.body !== undefined) {
    headers["content-type"] = "application/json";
    init.body = JSON.stringify(options.body);
  }
  let response: Response;
  let text: string;
  try {
    response = await fetch(path, init);
    text = await response.text();
  } catch {
    throw new Problem("The hub cannot be reached right now. Is it running?", 0, "unreachable");
  }
  const value = parse(text);
  if (!response.ok) throw problem(response, value);
  if (response.status !== 204 && value === undefined) {
    throw new Problem("The hub gave an answer that this page does not understand.", response.status, "internal");
  }
  return value as T;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function problem(response: Response, value: unknown): Problem {
  const told = (typeof value === "object" && value !== null ? value : {}) as {
    detail?: unknown;
    title?: unknown;
    code?: unknown;
    errors?: unknown;
  };
  const parts = [told.detail, told.title].filter((part): part is string => typeof part === "string" && part !== "");
  const fields = Array.isArray(told.errors) ? told.errors.map(fieldSentence).filter(Boolean).join("; ") : "";
  const main = parts[0] ?? `The hub refused this (status ${response.status}).`;
  const wait = response.status === 429 ? retryAfter(response) : "";
  const message = [fields && !main.includes(fields) ? `${main.replace(/\.?$/, ":")} ${fields}.` : main, wait].filter(Boolean).join(" ");
  return new Problem(message, response.status, typeof told.code === "string" ? told.code : "internal");
}

function fieldSentence(error: unknown): string {
  const { field, reason } = (error ?? {}) as { field?: unknown; reason?: unknown };
  if (typeof reason !== "string") return "";
  return typeof field === "string" && field ? `${field} ${reason}` : reason;
}

function retryAfter(response: Response): string {
  const seconds = Number(response.headers.get("retry-after"));
  return seconds > 0 ? `Try again in ${seconds} s.` : "";
}
