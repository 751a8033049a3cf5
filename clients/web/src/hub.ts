/**
 * Owns the session with the hub over `/ws`, beside the documents' own connection: which channels this
 * window follows, how far each was read, and the way back after a break. Knows nothing of what the
 * messages say, and draws nothing.
 */
import type { ClientFrame, Position, ServerFrame } from "../../../protocol/generated/tandem.ts";
import { Problem, type TokenSource } from "./api.ts";
import { Signal } from "./signal.ts";

/** What a channel brings. */
export interface Message {
  data: unknown;
  /** Of a value that replaces the last one of the same key: its key. */
  key: string | null;
}

/** Who follows a channel. */
export interface Follower {
  /** What the channel is about is to be read now: all that comes later is told. Also after a gap. */
  read(): void;
  message(message: Message): void;
  /** The hub does not let the person follow it, or not any more. */
  ended(reason: string): void;
}

interface Channel {
  follower: Follower;
  /** Up to where it was read; none before the first answer. */
  position: Position | null;
  /** Of each key the newest version that came. */
  versions: Map<string, number>;
  /** The request that asks for it. */
  asked: number;
}

const SUBPROTOCOL = "tandem.v1.json";
const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 15_000;
/** A connection that lasted so long is not what one backs off from. */
const STEADY_MS = 10_000;
const CONNECT_WITHIN_MS = 15_000;
const ASK_AGAIN_MS = 2_000;
const LEAST_LEFT_MS = 2_000;
const TEMPORARY = new Set(["rate_limited", "internal", "overloaded", "unavailable", "timeout"]);
/** The token is not taken, or not any more: a renewed one may be. */
const TOKEN_CODES = new Set([4401, 4410, 4501]);
const FINAL_CODES = new Set([1002, 1003, 1007, 1009]);

type Frame = ServerFrame;
type Of<T extends Frame["type"]> = Extract<Frame, { type: T }>;

/** The session of this window. It begins with the first channel. */
export class Hub {
  /** Told when `live` turns. */
  readonly changed = new Signal();
  readonly #channels = new Map<string, Channel>();
  #socket: WebSocket | null = null;
  #live = false;
  #turn = 0;
  #connecting = false;
  #halted = false;
  #closed = false;
  #id = 0;
  #brought: string | undefined;
  #stale: string | undefined;
  #retryMs = FIRST_RETRY_MS;
  #after: number | null = null;
  #since = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #due: ReturnType<typeof setTimeout> | undefined;
  #beat: ReturnType<typeof setInterval> | undefined;
  #heard = 0;
  #pinged = 0;

  constructor(
    private readonly token: TokenSource,
    private readonly dial: (subprotocol: string) => WebSocket = dialHub,
  ) {
    globalThis.addEventListener?.("online", this.#hurry);
  }

  /** Whether the hub serves the session right now. */
  get live(): boolean {
    return this.#live;
  }

  /** Follows a channel; the answer ends that. A channel has one follower: the last one. */
  follow(name: string, follower: Follower): () => void {
    const channel: Channel = { follower, position: null, versions: new Map(), asked: 0 };
    this.#channels.set(name, channel);
    if (this.#live) this.#subscribe(name, channel);
    else void this.#connect();
    return () => {
      if (this.#channels.get(name) !== channel) return;
      this.#channels.delete(name);
      if (this.#live) this.#send({ type: "unsubscribe", id: this.#next(), channel: name });
    };
  }

  /** Brings the hub a renewed token, or comes back with it. */
  renewToken(): void {
    this.#halted = false;
    if (this.#live) void this.#refresh();
    else this.#hurry();
  }

  /** Leaves the hub. */
  close(): void {
    this.#closed = true;
    globalThis.removeEventListener?.("online", this.#hurry);
    this.#channels.clear();
    this.#drop();
  }

  readonly #hurry = (): void => {
    if (!this.#socket && this.#channels.size) void this.#connect();
  };

  async #connect(): Promise<void> {
    if (this.#closed || this.#halted || this.#socket || this.#connecting) return;
    clearTimeout(this.#retry);
    this.#connecting = true;
    const turn = ++this.#turn;
    try {
      this.#brought = await this.token(this.#stale);
    } catch (error) {
      // A login that is over comes back through `renewToken` only.
      const over = error instanceof Problem && error.status === 401;
      if (turn === this.#turn && !over) this.#later();
      return;
    } finally {
      this.#connecting = false;
    }
    if (turn !== this.#turn || this.#closed) return;
    this.#stale = undefined;
    this.#open(this.dial(SUBPROTOCOL), this.#brought);
  }

  #open(socket: WebSocket, token: string): void {
    this.#socket = socket;
    const mine = (act: () => void) => () => {
      if (this.#socket === socket) act();
    };
    socket.onopen = mine(() => this.#send({ type: "connect", id: this.#next(), token }));
    socket.onmessage = (event: MessageEvent<unknown>) => {
      if (this.#socket === socket) this.#hear(event.data);
    };
    socket.onclose = (event: CloseEvent) => {
      if (this.#socket === socket) this.#lost(event.code);
    };
    this.#retry = setTimeout(mine(() => !this.#live && this.#lost(0)), CONNECT_WITHIN_MS);
  }

  /** Forgets the socket, whatever state it is in. */
  #drop(): void {
    this.#turn += 1;
    clearTimeout(this.#retry);
    clearTimeout(this.#due);
    clearInterval(this.#beat);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    const was = this.#live;
    this.#live = false;
    if (was) this.changed.emit();
  }

  #lost(code: number): void {
    if (this.#live && Date.now() - this.#since > STEADY_MS) this.#retryMs = FIRST_RETRY_MS;
    this.#drop();
    if (TOKEN_CODES.has(code)) this.#stale = this.#brought;
    else if ((code >= 4400 && code < 4500) || FINAL_CODES.has(code)) {
      this.#halted = true;
      return;
    }
    this.#later();
  }

  #later(): void {
    if (this.#closed) return;
    // What the hub asked for is spread by the hub already.
    const wait = this.#after ?? this.#retryMs * (0.5 + Math.random() / 2);
    this.#after = null;
    this.#retryMs = Math.min(this.#retryMs * 2, LAST_RETRY_MS);
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => void this.#connect(), wait);
  }

  /** Brings the hub the token of now, if that is another. With `stale` that one is not wanted any more. */
  async #refresh(stale?: string): Promise<void> {
    const turn = this.#turn;
    try {
      const token = await this.token(stale);
      if (turn !== this.#turn || !this.#live || token === this.#brought) return;
      clearTimeout(this.#due);
      this.#brought = token;
      this.#send({ type: "refresh", id: this.#next(), token });
    } catch {
      // Out of reach: the session of the old token goes on until the hub ends it.
    }
  }

  #next(): number {
    this.#id = (this.#id % 0xffff_fffe) + 1;
    return this.#id;
  }

  #send(frame: ClientFrame): void {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(frame));
  }

  #subscribe(name: string, channel: Channel): void {
    channel.asked = this.#next();
    const frame: ClientFrame = { type: "subscribe", id: channel.asked, channel: name, presence: false };
    if (channel.position) frame.position = channel.position;
    this.#send(frame);
  }

  #hear(text: unknown): void {
    this.#heard = Date.now();
    this.#pinged = 0;
    const frame = read(text);
    switch (frame?.type) {
      case "connected":
        return this.#connected(frame);
      case "subscribed":
        return this.#subscribed(frame);
      case "message":
        return this.#message(frame);
      case "reset":
        return this.#reset(frame);
      case "error":
        return this.#refused(frame);
      case "expiring":
        return this.#expiring(frame);
      case "reconnect":
        this.#after = Math.max(0, Number(frame.after_ms) || 0);
        return;
      case "revoked":
        if (frame.channel) this.#end(frame.channel, frame.reason);
    }
  }

  /** The login renews its token in time by itself, and tells; half of the time left is for that. */
  #expiring(frame: Of<"expiring">): void {
    const old = this.#brought;
    void this.#refresh();
    clearTimeout(this.#due);
    this.#due = setTimeout(() => {
      if (this.#brought === old) void this.#refresh(old);
    }, Math.max(Number(frame.in_ms) || 0, LEAST_LEFT_MS) / 2);
  }

  #connected(frame: Of<"connected">): void {
    clearTimeout(this.#retry);
    this.#live = true;
    this.#since = Date.now();
    for (const [name, channel] of this.#channels) this.#subscribe(name, channel);
    const every = Math.max(Number(frame.ping_ms) || 0, 1_000);
    clearInterval(this.#beat);
    this.#beat = setInterval(() => this.#feel(every), every / 2);
    this.changed.emit();
  }

  /** A browser sees no pings: after a silence it asks, and gives up on one who does not answer. */
  #feel(every: number): void {
    const now = Date.now();
    if (this.#pinged) {
      if (now - this.#pinged >= every) this.#lost(0);
    } else if (now - this.#heard >= every) {
      this.#pinged = now;
      this.#send({ type: "ping", id: this.#next() });
    }
  }

  #subscribed(frame: Of<"subscribed">): void {
    const channel = this.#channels.get(frame.channel);
    if (!channel || frame.id !== channel.asked) return;
    const goesOn = channel.position !== null && frame.recovered;
    channel.position = { epoch: frame.epoch, offset: frame.offset };
    if (goesOn) return;
    channel.versions.clear();
    channel.follower.read();
  }

  #message(frame: Of<"message">): void {
    const channel = this.#channels.get(frame.channel);
    if (!channel) return;
    if (frame.offset != null && channel.position) {
      if (frame.offset <= channel.position.offset) return;
      channel.position.offset = frame.offset;
    }
    if (frame.key != null && frame.version != null) {
      if (frame.version <= (channel.versions.get(frame.key) ?? -1)) return;
      channel.versions.set(frame.key, frame.version);
    }
    channel.follower.message({ data: frame.data, key: frame.key ?? null });
  }

  #reset(frame: Of<"reset">): void {
    const channel = this.#channels.get(frame.channel);
    if (!channel) return;
    channel.position = { ...frame.position };
    channel.versions.clear();
    channel.follower.read();
  }

  #refused(frame: Of<"error">): void {
    for (const [name, channel] of this.#channels) {
      if (frame.id == null || channel.asked !== frame.id) continue;
      if (!TEMPORARY.has(frame.code)) return this.#end(name, frame.message);
      setTimeout(() => {
        if (this.#live && this.#channels.get(name) === channel && channel.asked === frame.id) this.#subscribe(name, channel);
      }, frame.retry_after_ms ?? ASK_AGAIN_MS);
    }
  }

  #end(name: string, reason: string): void {
    const channel = this.#channels.get(name);
    this.#channels.delete(name);
    channel?.follower.ended(reason);
  }
}

function dialHub(subprotocol: string): WebSocket {
  const url = new URL("/ws", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return new WebSocket(url, subprotocol);
}

function read(text: unknown): Frame | null {
  try {
    const frame = typeof text === "string" ? (JSON.parse(text) as Frame | null) : null;
    return typeof frame === "object" ? frame : null;
  } catch {
    return null;
  }
}
