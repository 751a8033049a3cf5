/** Owns the bell in the top bar: how many notifications are unread, and the list that it opens. */
import { type Api, type Notification, Problem, sentence } from "./api.ts";
import { fill, h, icon, on } from "./dom.ts";
import { Feed, type Target, type Told, wordsOf } from "./feed.ts";
import type { Hub } from "./hub.ts";
import { ago } from "./words.ts";

const MOST_SHOWN = 99;

/** What the bell asks of the workspace. */
export interface BellHost {
  /** The person wants to see what a notification is about. */
  follow(target: Target): void;
  /** A notification has just come. */
  came(kind: string): void;
}

/** The notifications of the person. */
export class Bell {
  readonly #feed = new Feed();
  readonly #count = h("span", { class: "bell-count", "data-testid": "bell-count", hidden: true });
  readonly #button = h("button", { type: "button", class: "icon-button bell", "aria-controls": "notifications", "aria-expanded": "false", "data-testid": "bell" }, icon("bell"), this.#count);
  readonly #mark = h("button", { type: "button", class: "link", "data-testid": "mark-read" }, "Mark all as read");
  readonly #failure = h("p", { class: "failure", role: "alert" });
  readonly #list = h("ul", { class: "notifications" });
  readonly #panel = h(
    "section",
    { class: "bell-panel", id: "notifications", "aria-label": "Notifications", hidden: true },
    h("div", { class: "bell-head" }, h("h2", {}, "Notifications"), this.#mark),
    this.#failure,
    this.#list,
  );
  readonly #said = h("span", { class: "only-heard", role: "status", "aria-live": "polite" });
  readonly element = h("div", { class: "bell-place" }, this.#button, this.#panel, this.#said);
  #turn = 0;
  #drawn = "";
  readonly #stop: () => void;

  constructor(
    private readonly api: Api,
    private readonly hub: Hub,
    private readonly host: BellHost,
  ) {
    on(this.#button, { click: () => this.#open(this.#panel.hidden) });
    on(this.#mark, { click: () => void this.#markAll() });
    on(this.element, {
      keydown: (event) => {
        if (event.key !== "Escape" || this.#panel.hidden) return;
        event.stopPropagation();
        this.#open(false);
        this.#button.focus();
      },
    });
    document.addEventListener("pointerdown", this.#outside);
    this.#stop = hub.follow("feed:me", {
      read: () => void this.#read(),
      message: ({ data }) => this.#take(data),
      ended: () => {},
    });
    this.#draw();
    void this.#read();
  }

  /** Reads the list again if the hub can't tell what is new. */
  refresh(): void {
    if (!this.hub.live) void this.#read();
  }

  /** Ends what the bell listens to. */
  destroy(): void {
    this.#turn += 1;
    this.#stop();
    document.removeEventListener("pointerdown", this.#outside);
  }

  readonly #outside = (event: Event): void => {
    if (!this.#panel.hidden && !this.element.contains(event.target as Node)) this.#open(false);
  };

  #open(open: boolean): void {
    this.#panel.hidden = !open;
    this.#button.setAttribute("aria-expanded", String(open));
    if (open) this.#draw();
  }

  async #read(): Promise<void> {
    const turn = ++this.#turn;
    this.#feed.begin();
    try {
      const [items, unread] = await Promise.all([this.api.notifications(), this.api.unread()]);
      if (turn !== this.#turn) return;
      this.#feed.read(items, unread);
      fill(this.#failure);
      this.#draw();
    } catch (error) {
      if (turn === this.#turn) this.#fail(error);
    }
  }

  #take(data: unknown): void {
    const made = this.#feed.apply(data);
    this.#draw();
    if (!made) return;
    this.#said.textContent = wordsOf(made).title;
    this.host.came(made.kind);
  }

  async #markAll(): Promise<void> {
    const newest = this.#feed.items[0];
    if (!newest) return;
    await this.#marking(async () => this.#feed.marked({ upTo: newest.id }, await this.api.markReadUpTo(newest.id)));
  }

  async #marking(act: () => Promise<void>): Promise<void> {
    try {
      await act();
      fill(this.#failure);
      this.#draw();
    } catch (error) {
      // It may be gone, or be another by now: its group has grown.
      if (error instanceof Problem && error.status === 404) void this.#read();
      else this.#fail(error);
    }
  }

  #choose(one: Notification, target: Target | null): void {
    if (one.read_at === null) void this.#marking(async () => this.#feed.marked({ id: one.id }, await this.api.markRead(one.id)));
    if (!target) return;
    this.#open(false);
    this.host.follow(target);
  }

  #fail(error: unknown): void {
    if (!(error instanceof Problem && error.code === "unreachable")) fill(this.#failure, sentence(error));
  }

  #draw(): void {
    const { unread, items } = this.#feed;
    this.#count.hidden = !unread;
    this.#count.textContent = unread > MOST_SHOWN ? `${MOST_SHOWN}+` : String(unread);
    const label = unread ? `Notifications, ${unread} unread` : "Notifications";
    this.#button.setAttribute("aria-label", label);
    this.#button.title = label;
    // A focus that sits on what goes away would be lost.
    if (!unread && document.activeElement === this.#mark) this.#button.focus();
    this.#mark.hidden = !unread;
    if (this.#panel.hidden) return;
    const now = Date.now();
    const rows = items.map((one) => ({ one, told: wordsOf(one), when: ago(one.created_at, now) }));
    const drawn = JSON.stringify(rows.map(({ one, told, when }) => [one.id, one.read_at === null, told, when]));
    if (drawn === this.#drawn) return; // Drawing anew would take the keyboard focus away.
    this.#drawn = drawn;
    if (!rows.length) return fill(this.#list, h("li", { class: "empty quiet" }, "Nothing yet."));
    const focused = (document.activeElement as HTMLElement | null)?.dataset.notification;
    fill(this.#list, ...rows.map(({ one, told, when }) => h("li", {}, this.#row(one, told, when))));
    if (focused) [...this.#list.querySelectorAll("button")].find((button) => button.dataset.notification === focused)?.focus();
  }

  #row(one: Notification, told: Told, when: string): HTMLButtonElement {
    const unread = one.read_at === null;
    const button = h(
      "button",
      { type: "button", class: unread ? "notification unread" : "notification", "data-testid": "notification", "data-kind": one.kind, "data-unread": String(unread), "data-notification": one.id },
      h("span", { class: "notification-title" }, told.title, unread ? h("span", { class: "only-heard" }, ", unread") : null),
      told.detail ? h("span", { class: "notification-detail" }, told.detail) : null,
      h("span", { class: "quiet" }, when),
    );
    return on(button, { click: () => this.#choose(one, told.target) });
  }
}
