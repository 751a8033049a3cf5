/** Owns the panel of a project's plans: asking for one, the one on screen as it comes, and the older ones. */
import { type Api, type Plan, type PlanLine, Problem, type Role, sentence } from "./api.ts";
import { fill, h, iconButton, on } from "./dom.ts";
import type { Hub, Message } from "./hub.ts";
import { FollowedPlan, hasEnded } from "./plan.ts";
import { PlanView, STATUS_WORDS } from "./planview.ts";
import { ago } from "./words.ts";

/** What the panel asks of the workspace. */
export interface PlansHost {
  /** Whether the project on screen has that file. */
  has(path: string): boolean;
  /** A file was opened from a plan. */
  opened(): void;
  /** The person wants the panel closed. */
  close(): void;
}

interface Shown {
  id: string;
  followed: FollowedPlan;
  stop: () => void;
}

/** The plans of one project. */
export class Plans {
  readonly #text = h("textarea", { id: "plan-request", rows: "3", maxlength: "16384", placeholder: "Add a dark theme", "data-testid": "plan-request" });
  readonly #make = h("button", { type: "submit", class: "button primary", "data-testid": "plan-make" }, "Make a plan");
  readonly #failure = h("p", { class: "failure", role: "alert" });
  readonly #form = h(
    "form",
    { class: "plan-form" },
    h("div", { class: "field" }, h("label", { for: "plan-request" }, "What do you want?"), this.#text),
    this.#make,
  );
  readonly #readers = h("p", { class: "hint" }, "Editors of this project can ask for plans here.");
  readonly #away = h("p", { class: "hint", role: "status" });
  readonly #view: PlanView;
  readonly #list = h("ul", { class: "plan-list" });
  readonly #head = h("h2", { tabindex: "-1" }, "Plans");
  readonly element: HTMLElement;
  #project: string | null = null;
  #mayEdit = false;
  #lines: PlanLine[] = [];
  #shown: Shown | null = null;
  /** The plan that the person chose; without one the newest is shown. */
  #chosen: string | null = null;
  /** Names what is in the form, so that asking twice for it is asking once. */
  #key = newKey();
  /** Whether the failure shown answers something that the person did: then it stays until they do more. */
  #failedByHand = false;
  #drawn = "";
  readonly #stopHub: () => void;

  constructor(
    private readonly api: Api,
    private readonly hub: Hub,
    private readonly user: string,
    host: PlansHost,
  ) {
    this.#view = new PlanView({ has: (path) => host.has(path), opened: () => host.opened(), cancel: () => void this.#cancel() });
    const close = on(iconButton("close", "Close plans"), { click: () => host.close() });
    this.element = h(
      "aside",
      { class: "plans", id: "plans", "aria-label": "Plans", hidden: true },
      h("div", { class: "plans-head" }, this.#head, close),
      this.#form,
      this.#readers,
      this.#failure,
      this.#away,
      this.#view.element,
      h("h3", { class: "plans-older" }, "Plans of this project"),
      this.#list,
    );
    on(this.element, { keydown: (event) => event.key === "Escape" && !event.isComposing && host.close() });
    on(this.#text, {
      input: () => (this.#key = newKey()),
      keydown: (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && this.#form.requestSubmit(),
    });
    on(this.#form, {
      submit: (event) => {
        event.preventDefault();
        void this.#ask();
      },
    });
    this.#stopHub = hub.changed.listen(() => this.#draw());
  }

  /** Turns to a project; `null`: there is none. */
  setProject(project: string | null, role: Role): void {
    this.#mayEdit = role === "editor" || role === "owner";
    if (project !== this.#project) {
      this.#project = project;
      this.#lines = [];
      this.#chosen = null;
      this.#leave();
      void this.refresh();
    }
    this.#draw();
  }

  /** Opens the panel, perhaps at a plan. */
  open(plan: string | null, focus: boolean): void {
    this.element.hidden = false;
    this.#chosen = plan ?? this.#chosen;
    if (plan) this.#show(plan);
    void this.refresh();
    this.#draw();
    // A touch keyboard would cover half of a phone: there the text waits to be touched.
    if (focus) (this.#form.hidden || plan || matchMedia("(hover: none)").matches ? this.#head : this.#text).focus();
  }

  /** Closes the panel; nothing is followed meanwhile. */
  close(): void {
    this.element.hidden = true;
    this.#leave();
  }

  /** Leaves the hub alone. */
  destroy(): void {
    this.close();
    this.#stopHub();
  }

  /** Reads the list again. */
  async refresh(): Promise<void> {
    const project = this.#project;
    if (project === null || this.element.hidden) return;
    try {
      const lines = await this.api.plans(project);
      if (project !== this.#project || this.element.hidden) return;
      this.#lines = lines;
      if (!this.#failedByHand) fill(this.#failure);
      const before = this.#shown;
      const next = this.#chosen ?? lines[0]?.id;
      if (next) this.#show(next);
      if (before && before === this.#shown && this.#isBehind(before)) void this.#read(before);
      this.#draw();
    } catch (error) {
      if (project === this.#project) this.#fail(error);
    }
  }

  /** The project's files changed: what a plan names may exist now. */
  filesChanged(): void {
    if (!this.element.hidden) this.#draw();
  }

  #show(id: string): void {
    if (this.#shown?.id === id) return;
    this.#leave();
    this.#forgive();
    const shown: Shown = { id, followed: new FollowedPlan(), stop: () => {} };
    this.#shown = shown;
    // Followed first and read then: nothing falls between the two.
    shown.stop = this.hub.follow(`plan:${id}`, {
      read: () => void this.#read(shown),
      message: (message) => this.#take(shown, message),
      ended: () => void this.#read(shown),
    });
    if (!this.hub.live) void this.#read(shown);
  }

  /** Whether the plan on screen has to be read again: what happened to it may not have been told. */
  #isBehind({ id, followed }: Shown): boolean {
    if (!followed.plan) return true;
    const line = this.#lines.find((one) => one.id === id);
    return !hasEnded(followed.status) && (!this.hub.live || (!!line && hasEnded(line.status)));
  }

  #leave(): void {
    this.#shown?.stop();
    this.#shown = null;
  }

  async #read(shown: Shown): Promise<void> {
    try {
      const plan = await this.api.plan(shown.id);
      if (shown !== this.#shown) return;
      shown.followed.read(plan);
      if (hasEnded(plan.status)) shown.stop();
      if (!this.#failedByHand) fill(this.#failure);
      this.#draw();
    } catch (error) {
      if (shown === this.#shown) this.#fail(error);
    }
  }

  #take(shown: Shown, message: Message): void {
    if (shown !== this.#shown) return;
    const change = shown.followed.apply(message.key, message.data);
    if (change === "read") void this.#read(shown);
    if (change !== "none") this.#draw();
  }

  async #ask(): Promise<void> {
    const project = this.#project;
    const request = this.#text.value.trim();
    if (project === null || !request) return this.#text.focus();
    this.#make.disabled = true;
    this.#forgive();
    try {
      const plan = await this.api.askForPlan(project, request, this.#key);
      this.#text.value = "";
      this.#key = newKey();
      if (project === this.#project) this.#asked(plan);
    } catch (error) {
      this.#fail(error, true);
    } finally {
      this.#make.disabled = false;
    }
  }

  #asked(plan: Plan): void {
    this.#lines = [plan, ...this.#lines.filter((line) => line.id !== plan.id)];
    this.#chosen = null;
    this.#show(plan.id);
    this.#shown?.followed.read(plan);
    this.#draw();
    if (document.activeElement === this.#make || document.activeElement === document.body) this.#text.focus();
  }

  async #cancel(): Promise<void> {
    const shown = this.#shown;
    if (!shown) return;
    try {
      shown.followed.read(await this.api.cancelPlan(shown.id));
      this.#forgive();
    } catch (error) {
      this.#fail(error, true);
      void this.#read(shown);
    }
    if (this.element.contains(document.activeElement) || document.activeElement === document.body) this.#head.focus();
    this.#draw();
  }

  #fail(error: unknown, byHand = false): void {
    // The state bar already tells that the hub is away; what somebody asked for needs an answer.
    if (!byHand && error instanceof Problem && error.code === "unreachable") return;
    if (this.#failedByHand && !byHand) return;
    this.#failedByHand = byHand;
    fill(this.#failure, sentence(error));
  }

  #forgive(): void {
    this.#failedByHand = false;
    fill(this.#failure);
  }

  #draw(): void {
    if (this.element.hidden) return;
    const followed = this.#shown?.followed ?? null;
    const plan = followed?.plan;
    this.#form.hidden = this.#project === null || !this.#mayEdit;
    this.#readers.hidden = this.#project === null || this.#mayEdit;
    const waits = !this.hub.live && plan && followed && !hasEnded(followed.status);
    const words = waits ? "The connection is away: what comes meanwhile is shown when it is back." : "";
    if (this.#away.textContent !== words) fill(this.#away, words);
    this.#view.show(followed, this.#mayEdit || plan?.requested_by === this.user);
    this.#drawList();
  }

  #drawList(): void {
    const now = Date.now();
    const rows = this.#lines.map((line) => ({
      id: line.id,
      request: line.request,
      status: line.id === this.#shown?.id && this.#shown.followed.plan ? this.#shown.followed.status : line.status,
      when: ago(line.created_at, now),
      current: line.id === this.#shown?.id,
    }));
    const drawn = JSON.stringify(rows);
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    const focused = this.#list.contains(document.activeElement) ? (document.activeElement as HTMLElement).dataset.plan : undefined;
    if (!rows.length) return fill(this.#list, h("li", { class: "empty quiet" }, "No plans yet."));
    fill(this.#list, ...rows.map((row) => h("li", {}, this.#row(row))));
    if (focused) [...this.#list.querySelectorAll("button")].find((button) => button.dataset.plan === focused)?.focus();
  }

  #row(row: { id: string; request: string; status: PlanLine["status"]; when: string; current: boolean }): HTMLButtonElement {
    const button = h(
      "button",
      { type: "button", class: "plan-row", "aria-current": row.current ? "true" : false, "data-plan": row.id, "data-testid": "plan-row" },
      h("span", { class: "plan-row-words" }, row.request),
      h("span", { class: "plan-row-state" }, h("span", { class: "plan-state", "data-state": row.status }, STATUS_WORDS[row.status]), h("span", { class: "quiet" }, row.when)),
    );
    return on(button, {
      click: () => {
        this.#chosen = row.id === this.#lines[0]?.id ? null : row.id;
        this.#show(row.id);
        this.#draw();
        this.element.scrollTo({ top: 0 });
      },
    });
  }
}

/** Random, also where a page without TLS may not ask for UUIDs. */
function newKey(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
