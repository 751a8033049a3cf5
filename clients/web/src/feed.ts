/**
 * Owns a person's notifications at a moment, from what was read of them and the messages that came
 * since, and what each says in words. Messages are read strictly; a kind that is not known is told by
 * its name. Pure: asks nobody, draws nothing.
 */
import type { Notification } from "./api.ts";
import { count } from "./words.ts";

/** What a notification leads to. */
export type Target = { project: string; plan: string } | { project: string; document: string; path: string } | { project: string };

/** A notification in words. */
export interface Told {
  title: string;
  detail: string;
  target: Target | null;
}

/** How many are kept; older ones are dropped. */
const KEPT = 50;
const EARLY = 200;

/** The notifications of one person. */
export class Feed {
  /** Newest first. */
  items: Notification[] = [];
  unread = 0;
  /** What came while the list is being read: it may or may not know of it. */
  #early: unknown[] | null = null;

  /** The list is about to be read. */
  begin(): void {
    this.#early = [];
  }

  /** Takes the list as it was just read, and what came meanwhile. */
  read(items: Notification[], unread: number): void {
    this.items = items.slice(0, KEPT);
    this.unread = unread;
    const early = this.#early ?? [];
    this.#early = null;
    for (const data of early) this.#take(data);
  }

  /** Takes a message of the feed; the notification that is new with it. */
  apply(data: unknown): Notification | null {
    if (this.#early) this.#early = [...this.#early, data].slice(-EARLY);
    return this.#take(data);
  }

  /** Takes the answer to a reading by this window: one, or all up to one. */
  marked(which: { id: string } | { upTo: string }, unread: number): void {
    this.#mark((one) => ("id" in which ? one.id === which.id : one.id <= which.upTo));
    this.unread = unread;
  }

  #take(told: unknown): Notification | null {
    const event = object(told);
    const data = object(event.data);
    if (typeof data.unread !== "number") return null;
    switch (event.type) {
      case "notification.created": {
        const made = notificationOf(data.notification);
        if (!made) return null;
        this.unread = data.unread;
        this.items = [made, ...this.items.filter((one) => one.id !== made.id && one.id !== data.replaced)].slice(0, KEPT);
        return made;
      }
      case "notification.read": {
        const { id, up_to: upTo, all } = data;
        this.unread = data.unread;
        this.#mark((one) => all === true || one.id === id || (typeof upTo === "string" && one.id <= upTo));
        return null;
      }
      case "notification.deleted":
        this.unread = data.unread;
        this.items = this.items.filter((one) => one.id !== data.id);
        return null;
      default:
        return null;
    }
  }

  #mark(which: (one: Notification) => boolean): void {
    this.items = this.items.map((one) => (one.read_at === null && which(one) ? { ...one, read_at: Date.now() } : one));
  }
}

/** What a notification says. */
export function wordsOf(one: Notification): Told {
  const data = object(one.data);
  const project = one.project;
  const place = text(data.project_name) || project || "a project";
  const actor = text(data.actor_name);
  const more = one.count > 1 ? ` (${count(one.count, "time")})` : "";
  const plan = text(data.plan);
  const toPlan: Target | null = project && plan ? { project, plan } : project ? { project } : null;
  const toProject: Target | null = project ? { project } : null;
  switch (one.kind) {
    case "plan.created":
      return { title: one.count > 1 ? `${one.count} plans are ready` : "The plan is ready", detail: text(data.request), target: toPlan };
    case "plan.failed":
      return { title: `The plan could not be made${more}`, detail: text(data.reason) || text(data.request), target: toPlan };
    case "plan.cancelled":
      return { title: `${actor || "Somebody"} cancelled your plan${more}`, detail: text(data.request), target: toPlan };
    case "member.added":
      return { title: `You were added to ${place}`, detail: by(actor, data.role), target: toProject };
    case "member.changed":
      return { title: `Your role in ${place} changed`, detail: by(actor, data.role), target: toProject };
    case "member.removed":
      return { title: `You were removed from ${place}`, detail: by(actor, null), target: null };
    case "mention.created":
      return mention(data, project, actor, more);
    default:
      return { title: `${sentenceCase(one.kind)}${more}`, detail: project ? `In ${place}` : "", target: toPlan };
  }
}

function mention(data: Record<string, unknown>, project: string | null, actor: string, more: string): Told {
  const path = text(data.path);
  const line = typeof data.line === "number" ? `, line ${data.line}` : "";
  const title = `${actor ? `${actor} mentioned you` : "You were mentioned"} in ${path || "a file"}${path ? line : ""}${more}`;
  const target = project ? (path ? { project, document: text(data.document), path } : { project }) : null;
  return { title, detail: text(data.excerpt), target };
}

function by(actor: string, role: unknown): string {
  const as = text(role) ? `as ${text(role)}` : "";
  const whom = actor ? `by ${actor}` : "";
  const words = [as, whom].filter(Boolean).join(" ");
  return words && words[0] ? words[0].toUpperCase() + words.slice(1) : "";
}

/** "order.paid" reads "Order paid". */
function sentenceCase(kind: string): string {
  const words = kind.replace(/[._]+/g, " ").trim() || "Something happened";
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function notificationOf(value: unknown): Notification | null {
  const told = object(value);
  if (!text(told.id) || !text(told.kind)) return null;
  return {
    id: text(told.id),
    kind: text(told.kind),
    project: text(told.project) || null,
    count: typeof told.count === "number" ? told.count : 1,
    data: told.data,
    created_at: typeof told.created_at === "number" ? told.created_at : Date.now(),
    read_at: typeof told.read_at === "number" ? told.read_at : null,
  };
}

function object(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
