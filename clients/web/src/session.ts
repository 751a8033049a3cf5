/**
 * Owns the login of this tab: its tokens in sessionStorage, and their renewal before they expire.
 * A refresh token works once, and using it twice ends the login. A duplicated tab starts with a copy
 * of it, so one tab per login (the holder of a lock) renews, and tells the copies over a channel.
 * Never talks to documents or the screen: it tells `onRenewed` and `onEnded`.
 */
import { type AuthAnswer, open, Problem, type User } from "./api.ts";

const STORAGE_KEY = "tandem.session";
const LONGEST_MARGIN_MS = 120_000;
const RETRY_MS = 5_000;
const COPY_WAIT_MS = 10_000;

interface Tokens {
  user: User;
  access: string;
  refresh: string;
  session: string;
  expiresAt: number;
  /** How long before the expiry a token counts as used up. */
  margin: number;
}

type Told = { kind: "ask" } | { kind: "tokens"; tokens: Tokens } | { kind: "ended" };

/** Somebody who is signed in, in this tab. */
export class Session {
  /** Told after each renewal. */
  onRenewed: () => void = () => {};
  /** Told once when the login is over, with the reason in words (empty: the person signed out). */
  onEnded: (reason: string) => void = () => {};

  #tokens: Tokens;
  #leading = false;
  #over = false;
  #renewal: Promise<void> | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #wake: Array<() => void> = [];
  readonly #gone = new AbortController();
  readonly #channel: BroadcastChannel;

  private constructor(tokens: Tokens) {
    this.#tokens = tokens;
    this.#channel = new BroadcastChannel(`tandem-session-${tokens.session}`);
    this.#channel.onmessage = (event: MessageEvent<Told>) => this.#told(event.data);
    this.#lead();
  }

  /** The login that this tab already had, if any. */
  static restore(): Session | null {
    try {
      const tokens = JSON.parse(sessionStorage.getItem(STORAGE_KEY) ?? "null") as Tokens | null;
      return tokens?.refresh && tokens.user?.login && tokens.session ? new Session(tokens) : null;
    } catch {
      return null;
    }
  }

  /** The login that the hub has just granted. */
  static begin(answer: AuthAnswer): Session {
    const tokens = fromAnswer(answer);
    save(tokens);
    return new Session(tokens);
  }

  /** Who is signed in. */
  get user(): User {
    return this.#tokens.user;
  }

  /** An access token with life left in it; `stale` is one that the hub has just refused. */
  async token(stale?: string): Promise<string> {
    if (this.#over) throw signedOut();
    if (!this.#fresh() || stale === this.#tokens.access) await this.#renew(stale);
    return this.#tokens.access;
  }

  /** Ends the login, here and in the hub. */
  async signOut(): Promise<void> {
    const token = this.#tokens.access;
    this.#end("", true);
    await open.logout(token).catch(() => {}); // The tokens are forgotten here either way.
  }

  /** Forgets the login in this tab without ending it in the hub. */
  forget(): void {
    this.#end("", false);
  }

  #fresh(): boolean {
    return this.#tokens.expiresAt - Date.now() > this.#tokens.margin;
  }

  #renew(stale?: string): Promise<void> {
    this.#renewal ??= this.#renewOnce(stale).finally(() => {
      this.#renewal = null;
    });
    return this.#renewal;
  }

  async #renewOnce(stale?: string): Promise<void> {
    const wanted = () => !this.#over && (!this.#fresh() || stale === this.#tokens.access);
    const deadline = Date.now() + COPY_WAIT_MS;
    while (wanted() && !this.#leading) {
      if (Date.now() > deadline) throw new Problem("The window that renews your sign-in does not answer.", 0, "unreachable");
      this.#post({ kind: "ask" });
      await new Promise<void>((resolve) => {
        this.#wake.push(resolve);
        setTimeout(resolve, 1_000);
      });
    }
    if (wanted()) await this.#rotate();
    if (this.#over) throw signedOut();
  }

  async #rotate(): Promise<void> {
    try {
      this.#accept(fromAnswer(await open.refresh(this.#tokens.refresh)));
      this.#post({ kind: "tokens", tokens: this.#tokens });
    } catch (error) {
      if (!(error instanceof Problem) || ![400, 401, 403, 422].includes(error.status)) throw error;
      this.#end("Your sign-in has ended. Please sign in again.", true);
    }
  }

  #accept(tokens: Tokens): void {
    this.#tokens = tokens;
    save(tokens);
    this.#schedule();
    this.#stir();
    this.onRenewed();
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    if (this.#over || !this.#leading) return;
    const due = this.#tokens.expiresAt - this.#tokens.margin - Date.now();
    this.#timer = setTimeout(() => void this.#renewInTime(), Math.max(due, 0) + 50);
  }

  async #renewInTime(): Promise<void> {
    try {
      await this.#renew();
    } catch {
      // The hub is out of reach: the old token may still have life, and this comes round again.
      if (!this.#over) this.#timer = setTimeout(() => void this.#renewInTime(), RETRY_MS);
    }
  }

  #told(told: Told): void {
    if (told.kind === "ended") this.#end("You signed out in another window.", false);
    else if (told.kind === "tokens" && told.tokens.session === this.#tokens.session) this.#accept(told.tokens);
    else if (told.kind === "ask" && this.#leading) {
      void this.#renewIfSpent().then(
        () => this.#post({ kind: "tokens", tokens: this.#tokens }),
        () => {}, // The asking tab asks again.
      );
    }
  }

  async #renewIfSpent(): Promise<void> {
    if (!this.#fresh()) await this.#renew();
  }

  #post(told: Told): void {
    if (!this.#over) this.#channel.postMessage(told);
  }

  #stir(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  /** Waits to be the tab that renews, and stays it until this tab closes or the login ends. */
  #lead(): void {
    const begin = () => {
      this.#leading = true;
      this.#schedule();
      this.#stir();
    };
    // Browsers offer locks on https and localhost only; elsewhere each tab must renew for itself.
    if (!navigator.locks) return begin();
    const held = new Promise<void>((resolve) => this.#gone.signal.addEventListener("abort", () => resolve()));
    navigator.locks
      .request(`tandem-session-${this.#tokens.session}`, { signal: this.#gone.signal }, () => {
        begin();
        return held;
      })
      .catch(() => {}); // Aborted while waiting: the login ended first.
  }

  #end(reason: string, tell: boolean): void {
    if (this.#over) return;
    if (tell) this.#post({ kind: "ended" });
    this.#over = true;
    clearTimeout(this.#timer);
    sessionStorage.removeItem(STORAGE_KEY);
    this.#gone.abort();
    this.#channel.close();
    this.#stir();
    this.onEnded(reason);
  }
}

function fromAnswer(answer: AuthAnswer): Tokens {
  const life = answer.expires_in * 1000;
  return {
    user: answer.user,
    access: answer.access_token,
    refresh: answer.refresh_token,
    session: answer.session,
    expiresAt: Date.now() + life,
    margin: Math.min(LONGEST_MARGIN_MS, life / 3),
  };
}

function signedOut(): Problem {
  return new Problem("You are signed out.", 401, "unauthorized");
}

function save(tokens: Tokens): void {
  sessionStorage.setItem(STORAGE_KEY, JSON.stringify(tokens));
}
