/**
 * Owns one open document: its Yjs text, its provider, its ledger, and what the hub last said about
 * it. Starts the conversation again when the hub ended it for a reason that passes. Draws nothing.
 */
import { HocuspocusProvider, type HocuspocusProviderWebsocket } from "@hocuspocus/provider";
import * as Y from "yjs";
import type { DocumentEntry, TokenSource } from "./api.ts";
import { Ledger } from "./ledger.ts";
import type { Badge } from "./people.ts";
import { Signal } from "./signal.ts";

/** Why the hub does not serve the document, in words; `lasting` says that it will not change by itself. */
export interface Denial {
  reason: string;
  lasting: boolean;
}

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 15_000;
const LASTING: Record<string, string> = {
  forbidden: "You are not a member of this project any more, or may not read this file.",
  permission: "You may not read this file.",
  "not found": "This file does not exist any more.",
  revoked: "Your access to this project was taken back.",
  "update refused": "The hub could not apply your last change. Reload this page to go on with the hub's copy.",
};

/** A document that this window follows. */
export class OpenDocument {
  /** Something that the screen shows about the document changed. */
  readonly changed = new Signal();
  /** Changes of this side, and whether they are durable. */
  readonly ledger = new Ledger();
  readonly doc = new Y.Doc();
  readonly text: Y.Text;
  readonly undo: Y.UndoManager;
  readonly provider: HocuspocusProvider;
  /** Whether the hub's copy has arrived at least once. */
  loaded = false;
  denial: Denial | null = null;
  /** Whether some client put something into the text that is not text: no editor could keep step. */
  foreign = false;

  #retry: ReturnType<typeof setTimeout> | undefined;
  #retryMs = FIRST_RETRY_MS;
  #closed = false;
  #brought: string | undefined;
  #stale: string | undefined;

  constructor(
    /** Its name and place; follows a rename. */
    public entry: DocumentEntry,
    socket: HocuspocusProviderWebsocket,
    private readonly token: TokenSource,
    badge: Badge,
  ) {
    this.text = this.doc.getText("text");
    this.text.observe((event) => {
      this.foreign ||= event.delta.some((part) => part.insert !== undefined && typeof part.insert !== "string");
    });
    this.undo = new Y.UndoManager(this.text);
    // Before the provider's own listener, so that a change is counted when its frame leaves.
    this.doc.on("update", (_update: Uint8Array, origin: unknown) => {
      if (origin !== this.provider) this.ledger.made();
      this.changed.emit();
    });
    this.provider = new HocuspocusProvider({
      websocketProvider: socket,
      name: entry.id,
      document: this.doc,
      token: () => this.#bring(),
      onAuthenticated: () => this.#accepted(),
      onAuthenticationFailed: ({ reason }) => this.#denied(reason),
      onSynced: () => this.#synced(),
      onDisconnect: () => this.changed.emit(),
      onClose: ({ event }) => {
        // The provider tells the end of the socket and the end of this document alike.
        if (!(event instanceof CloseEvent)) this.#denied(event.reason);
      },
      onAwarenessChange: () => this.changed.emit(),
    });
    this.provider.setAwarenessField("user", badge);
    this.provider.attach();
  }

  /** Whether the person may read but not change the text. */
  get readOnly(): boolean {
    return this.provider.authorizedScope === "readonly";
  }

  /** Whether the hub serves this document over the present connection. */
  get live(): boolean {
    return this.provider.isAuthenticated && this.provider.isSynced && !this.denial;
  }

  /** A new socket opened: the provider greets the hub again by itself. */
  reopened(): void {
    clearTimeout(this.#retry);
    this.denial = null;
    this.ledger.opened();
    this.changed.emit();
  }

  /** Brings the hub a renewed token before the old one expires. */
  renewToken(): void {
    if (this.provider.isAuthenticated) void this.provider.sendToken();
    else if (this.denial && !this.denial.lasting) this.#greet();
  }

  /** Leaves the document. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.undo.destroy();
    this.provider.destroy();
    this.doc.destroy();
  }

  async #bring(): Promise<string> {
    this.#brought = await this.token(this.#stale);
    return this.#brought;
  }

  #accepted(): void {
    this.#stale = undefined;
    this.denial = null;
    this.#retryMs = FIRST_RETRY_MS;
    this.changed.emit();
  }

  #synced(): void {
    this.loaded = true;
    this.changed.emit();
  }

  #denied(reason: string): void {
    const key = reason.toLowerCase();
    // A token that was refused is not brought again: the session renews it, or learns that it is over.
    if (/unauthorized|token|expired/.test(key)) this.#stale = this.#brought;
    const lasting = Object.keys(LASTING).find((name) => key.includes(name) || key.includes(name.replace(" ", "_")));
    this.denial = lasting
      ? { reason: LASTING[lasting] ?? reason, lasting: true }
      : { reason: "The hub does not serve this file right now. Trying again…", lasting: false };
    if (!lasting) this.#greetLater();
    this.changed.emit();
  }

  #greetLater(): void {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#greet(), this.#retryMs);
    this.#retryMs = Math.min(this.#retryMs * 2, LAST_RETRY_MS);
  }

  /** What the provider does when its socket opens, for a document that was refused on an open one. */
  #greet(): void {
    clearTimeout(this.#retry);
    const socket = this.provider.configuration.websocketProvider;
    if (this.#closed || socket.status !== "connected") return; // A new socket brings its own greeting.
    this.ledger.opened();
    void this.provider.sendToken().then(() => {
      if (!this.#closed) this.provider.startSync();
    });
  }
}
