/**
 * Owns who is in a document, as awareness tells it. What other clients say of themselves is not
 * trusted: names are cut, colours must be plain hex, carets must resolve. Draws nothing.
 */
import type { Awareness } from "y-protocols/awareness";
import * as Y from "yjs";
import type { User } from "./api.ts";

/** What this client says of its person in awareness, field `user`. */
export interface Badge {
  login: string;
  name: string;
  color: string;
  colorLight: string;
}

/** One person who is here, however many windows they have. */
export interface Person extends Badge {
  /** Awareness ids of their windows. */
  clients: number[];
  self: boolean;
}

/** Each reads well under white text and as a caret on both themes. */
const COLOURS = ["#4f46e5", "#7e22ce", "#047857", "#be185d", "#0369a1", "#b45309", "#b91c1c", "#4d7c0f"] as const;
const LONGEST_NAME = 40;

/** The badge of a signed-in user. */
export function badgeOf(user: User): Badge {
  return badge(user.login, user.name || user.login, undefined);
}

/** Everyone in the document, oneself first. */
export function peopleIn(awareness: Awareness): Person[] {
  const people = new Map<string, Person>();
  for (const [client, state] of awareness.getStates()) {
    const shown = readBadge(state.user, client);
    const self = client === awareness.clientID;
    const known = people.get(shown.login);
    if (known) {
      known.clients.push(client);
      known.self ||= self;
    } else {
      people.set(shown.login, { ...shown, clients: [client], self });
    }
  }
  return [...people.values()].sort((a, b) => Number(b.self) - Number(a.self) || a.name.localeCompare(b.name));
}

/** Up to two letters that stand for a name. */
export function initials(name: string): string {
  const words = name.trim().split(/[\s._-]+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  return letters.map((word) => [...(word ?? "")][0]?.toUpperCase() ?? "").join("") || "?";
}

/** Where a client's caret is in `text`, if it is in it. */
export function caretOf(awareness: Awareness, client: number, text: Y.Text): number | null {
  const head = (awareness.getStates().get(client)?.cursor as { head?: unknown } | undefined)?.head;
  return resolve(head, text);
}

/**
 * The awareness as the editor binding may see it: its own state untouched, everyone else's read
 * strictly, as the binding writes colours into style attributes and trusts positions.
 */
export function strictAwareness(awareness: Awareness, text: Y.Text): Awareness {
  return new Proxy(awareness, {
    get(target, property) {
      if (property === "getStates") return () => strictStates(target, text);
      const value = Reflect.get(target, property, target) as unknown;
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

function strictStates(awareness: Awareness, text: Y.Text): Map<number, Record<string, unknown>> {
  const states = new Map<number, Record<string, unknown>>();
  for (const [client, state] of awareness.getStates()) {
    if (client === awareness.clientID) {
      states.set(client, state);
      continue;
    }
    const cursor = state.cursor as { anchor?: unknown; head?: unknown } | null | undefined;
    const visible = cursor && resolve(cursor.anchor, text) !== null && resolve(cursor.head, text) !== null;
    states.set(client, { user: readBadge(state.user, client), cursor: visible ? cursor : null });
  }
  return states;
}

function resolve(position: unknown, text: Y.Text): number | null {
  if (typeof position !== "object" || position === null || !text.doc) return null;
  try {
    const found = Y.createAbsolutePositionFromRelativePosition(Y.createRelativePositionFromJSON(position), text.doc);
    return found && found.type === text ? found.index : null;
  } catch {
    return null;
  }
}

function readBadge(value: unknown, client: number): Badge {
  const told = (typeof value === "object" && value !== null ? value : {}) as Record<string, unknown>;
  const name = cut(told.name) || "Guest";
  return badge(cut(told.login) || (cut(told.name) ? name : `guest-${client}`), name, told.color);
}

function badge(login: string, name: string, wanted: unknown): Badge {
  const color = typeof wanted === "string" && /^#[0-9a-f]{6}$/i.test(wanted) ? wanted : colourFor(login);
  return { login, name, color, colorLight: `${color}33` };
}

function colourFor(login: string): string {
  let sum = 0;
  for (const character of login) sum = (sum * 31 + (character.codePointAt(0) ?? 0)) >>> 0;
  return COLOURS[sum % COLOURS.length] ?? COLOURS[0];
}

function cut(value: unknown): string {
  return typeof value === "string" ? [...value.trim()].slice(0, LONGEST_NAME).join("") : "";
}
