/**
 * Owns the connection to the hub and the documents on it: one socket for all, the one on screen and
 * those left with changes that are not yet durable. Says in what state both are. Draws nothing.
 */
import { HocuspocusProviderWebsocket } from "@hocuspocus/provider";
import type { DocumentEntry, TokenSource } from "./api.ts";
import { OpenDocument } from "./document.ts";
import type { Badge } from "./people.ts";
import { Signal } from "./signal.ts";
import { watchedWebSocket } from "./wire.ts";

/** How the connection stands. `idle`: there is no document to be connected for. */
export type Connection = "idle" | "connecting" | "connected" | "offline";

/** What a person is told about the state of their work. */
export interface DeskState {
  connection: Connection;
  /** Changes in all documents of this window that are not known to be durable. */
  unsaved: number;
  readOnly: boolean;
}

const CONNECTING_FOR_MS = 4_000;

/** The documents that this window works on. */
export class Desk {
  readonly changed = new Signal();
  #documents = new Map<string, OpenDocument>();
  #current: OpenDocument | null = null;
  #socket: HocuspocusProviderWebsocket | null = null;
  #reachable = false;
  #waitingSince = Date.now();
  #patience: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly token: TokenSource,
    private readonly badge: Badge,
  ) {
    window.addEventListener("online", this.#hurry);
    window.addEventListener("beforeunload", this.#warn);
  }

  /** The document on screen. */
  get current(): OpenDocument | null {
    return this.#current;
  }

  /** How things stand. */
  get state(): DeskState {
    let unsaved = 0;
    for (const document of this.#documents.values()) unsaved += document.ledger.unsaved;
    return { connection: this.#connection(), unsaved, readOnly: this.#current?.readOnly ?? false };
  }

  /** Brings a document onto the screen. */
  show(entry: DocumentEntry): OpenDocument {
    const document = this.#documents.get(entry.id) ?? this.#open(entry);
    if (document !== this.#current) {
      const left = this.#current;
      this.#current = document;
      this.#waitFromNow();
      left?.provider.setAwarenessField("cursor", null);
      this.#tidy();
    }
    this.changed.emit();
    return document;
  }

  /** Takes the document off the screen. */
  hide(): void {
    this.#current = null;
    this.#tidy();
    this.changed.emit();
  }

  /** Forgets a document that is gone from the hub, with whatever was not saved of it. */
  drop(id: string): void {
    const document = this.#documents.get(id);
    if (!document) return;
    if (document === this.#current) this.#current = null;
    this.#documents.delete(id);
    document.close();
    this.changed.emit();
  }

  /** Gives every document the renewed token. */
  renewToken(): void {
    for (const document of this.#documents.values()) document.renewToken();
  }

  /** Leaves all documents and the hub. */
  close(): void {
    window.removeEventListener("online", this.#hurry);
    window.removeEventListener("beforeunload", this.#warn);
    clearTimeout(this.#patience);
    for (const document of this.#documents.values()) document.close();
    this.#documents.clear();
    this.#current = null;
    this.#socket?.destroy();
    this.#socket = null;
  }

  #open(entry: DocumentEntry): OpenDocument {
    const document = new OpenDocument(entry, this.#connect(), this.token, this.badge);
    document.changed.listen(() => {
      if (document !== this.#current && document.ledger.settled) this.#tidy();
      this.changed.emit();
    });
    this.#documents.set(entry.id, document);
    return document;
  }

  /** The socket opens with the first document: the hub does not keep one that says nothing. */
  #connect(): HocuspocusProviderWebsocket {
    if (this.#socket) return this.#socket;
    const url = new URL("/hocuspocus", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    this.#waitFromNow();
    this.#socket = new HocuspocusProviderWebsocket({
      url: url.href,
      WebSocketPolyfill: watchedWebSocket({
        opened: () => this.#documents.forEach((document) => document.reopened()),
        sentAll: (id) => this.#documents.get(id)?.ledger.sentAll(),
        sentOne: (id) => this.#documents.get(id)?.ledger.sentOne(),
        answered: (id, saved) => this.#answered(id, saved),
      }),
      delay: 500,
      minDelay: 500,
      maxDelay: 5_000,
      onConnect: () => this.#reached(true),
      onDisconnect: () => this.#reached(false),
    });
    return this.#socket;
  }

  #answered(id: string, saved: boolean): void {
    const document = this.#documents.get(id);
    document?.ledger.answered(saved);
    document?.changed.emit();
  }

  #reached(reachable: boolean): void {
    // Each failed attempt ends in a disconnect: only the first begins a new wait.
    if (this.#reachable && !reachable) this.#waitingSince = 0;
    this.#reachable = reachable;
    if (reachable) this.#waitFromNow();
    this.changed.emit();
  }

  #waitFromNow(): void {
    this.#waitingSince = Date.now();
    clearTimeout(this.#patience);
    this.#patience = setTimeout(() => this.changed.emit(), CONNECTING_FOR_MS + 50);
  }

  #connection(): Connection {
    if (!this.#current) return "idle";
    if (this.#reachable) return this.#current.live || this.#current.denial?.lasting ? "connected" : "connecting";
    return Date.now() - this.#waitingSince < CONNECTING_FOR_MS ? "connecting" : "offline";
  }

  /** Closes what is not on screen and owes the hub nothing. */
  #tidy(): void {
    for (const [id, document] of this.#documents) {
      const waits = !document.ledger.settled && !document.denial?.lasting;
      if (document === this.#current || waits) continue;
      this.#documents.delete(id);
      document.close();
    }
  }

  readonly #hurry = (): void => {
    if (this.#socket && this.#socket.status !== "connected") void this.#socket.connect();
  };

  readonly #warn = (event: BeforeUnloadEvent): void => {
    if (this.state.unsaved > 0) event.preventDefault();
  };
}
