/** Owns how one plan looks: its state, its steps as they come, and what it says when it is done. */
import type { PlanStatus, PlanStep } from "./api.ts";
import { fill, h, on } from "./dom.ts";
import { type FollowedPlan, hasEnded, type Place, type Stage, type Summary } from "./plan.ts";
import { routeTo } from "./route.ts";
import { count, minutesLong } from "./words.ts";

/** How a plan's state reads. */
export const STATUS_WORDS: Record<PlanStatus, string> = {
  queued: "waiting for a planner",
  running: "being made",
  done: "ready",
  failed: "could not be made",
  cancelled: "cancelled",
};

const STAGE_WORDS: Record<Stage, string> = {
  context: "reading the code…",
  writing: "writing…",
  repair: "correcting what it wrote…",
};

/** What the view asks of the page. */
export interface PlanHost {
  /** Whether the project has that file. */
  has(path: string): boolean;
  /** A file was opened from the plan. */
  opened(): void;
  /** The plan is to be given up. */
  cancel(): void;
}

/** One plan on screen. */
export class PlanView {
  readonly #request = h("p", { class: "plan-asked" });
  readonly #status = h("span", { class: "plan-state", "data-testid": "plan-status" });
  readonly #stage = h("span", { class: "quiet", "data-testid": "plan-stage" });
  readonly #cancel = h("button", { type: "button", class: "button small", "data-testid": "plan-cancel" }, "Cancel");
  readonly #error = h("p", { class: "failure", "data-testid": "plan-error" });
  readonly #summary = h("p", { class: "plan-summary", "data-testid": "plan-summary" });
  readonly #by = h("p", { class: "quiet plan-by", "data-testid": "plan-by" });
  readonly #steps = h("ol", { class: "plan-steps", "aria-label": "Steps" });
  readonly #liveTitle = h("h4", {});
  readonly #liveDetail = h("p", { class: "plan-detail" });
  // Read aloud once it is finished, as an entry of the log: not at each word.
  readonly #live = h("div", { class: "plan-live", "data-testid": "plan-live", "aria-label": "The step under way", role: "group" }, this.#liveTitle, this.#liveDetail);
  readonly #end = h("div", { class: "plan-end" });
  readonly #places = h("details", { class: "plan-places" });
  readonly element = h(
    "section",
    { class: "plan", "aria-label": "Plan", hidden: true },
    this.#request,
    h("div", { class: "plan-bar" }, h("p", { role: "status", "aria-live": "polite" }, this.#status, this.#stage), this.#cancel),
    this.#error,
    this.#summary,
    this.#by,
    h("div", { class: "plan-log", role: "log", "aria-live": "polite", "aria-relevant": "additions", "aria-label": "Finished steps" }, this.#steps),
    this.#live,
    this.#end,
    this.#places,
  );
  readonly #drawn: string[] = [];
  #drawnPlaces = "";

  constructor(private readonly host: PlanHost) {
    on(this.#cancel, { click: () => this.host.cancel() });
  }

  /** Shows a plan as it is; `null`: none. */
  show(followed: FollowedPlan | null, mayCancel: boolean): void {
    const plan = followed?.plan;
    this.element.hidden = !plan;
    if (!followed || !plan) return;
    const { status, stage, live, summary } = followed;
    const reading = this.#inSight();
    say(this.#request, plan.request);
    this.#status.dataset.state = status;
    say(this.#status, STATUS_WORDS[status]);
    say(this.#stage, stage ? STAGE_WORDS[stage] : "");
    this.#cancel.hidden = hasEnded(status) || !mayCancel;
    say(this.#error, status === "failed" ? `The plan could not be made: ${followed.reason || "no reason was told"}.`.replace(/([.!?])\.$/, "$1") : "");
    this.#error.hidden = status !== "failed";
    this.#say(summary, plan.project);
    this.#list(followed.steps, plan.project);
    this.#live.hidden = !live;
    say(this.#liveTitle, live ? numbered(live.position, live.title || "…") : "");
    prose(this.#liveDetail, live?.detail ?? "");
    if (live && reading) this.#end.scrollIntoView({ block: "nearest" });
  }

  /** Whether a person sees the end of what is there, and so wants to see what comes. */
  #inSight(): boolean {
    const scroller = this.element.parentElement;
    if (!scroller || this.element.hidden) return false;
    return this.#end.getBoundingClientRect().top <= scroller.getBoundingClientRect().bottom + 8;
  }

  #say(summary: Summary | null, project: string): void {
    prose(this.#summary, summary?.text ?? "");
    say(this.#by, summary?.known ? `${maker(summary)}${summary.repaired ? ", corrected once" : ""}.` : "");
    this.#summary.hidden = !summary?.text;
    this.#by.hidden = !summary?.known;
    const places = summary?.places ?? [];
    this.#places.hidden = !places.length;
    const drawn = JSON.stringify(places.map((place) => [place, this.host.has(place.path)]));
    if (drawn === this.#drawnPlaces) return;
    this.#drawnPlaces = drawn;
    fill(
      this.#places,
      h("summary", {}, `Rests on ${count(places.length, "place")} in the code`),
      h("ul", {}, ...places.map((place) => h("li", {}, this.#file(project, place.path, placeWords(place))))),
    );
  }

  /** Draws what changed only: all anew would take the keyboard focus away, and be read aloud again. */
  #list(steps: PlanStep[], project: string): void {
    const inPlan = new Set(steps.map((step) => step.position));
    for (const [at, step] of steps.entries()) {
      const drawn = JSON.stringify([project, step, step.files.map((path) => this.host.has(path)), step.depends_on.filter((other) => inPlan.has(other))]);
      const old = this.#steps.children[at];
      if (this.#drawn[at] === drawn && old) continue;
      this.#drawn[at] = drawn;
      const made = this.#step(step, project, inPlan);
      if (old) old.replaceWith(made);
      else this.#steps.append(made);
    }
    while (this.#steps.children.length > steps.length) this.#steps.lastElementChild?.remove();
    this.#drawn.length = steps.length;
  }

  #step(step: PlanStep, project: string, inPlan: Set<number>): HTMLLIElement {
    const after = step.depends_on.filter((other) => inPlan.has(other)).map((other) => String(other + 1));
    const facts = [
      step.minutes ? `about ${minutesLong(step.minutes)}` : "",
      after.length ? `after ${after.length > 1 ? "steps" : "step"} ${after.join(", ")}` : "",
      step.status === "failed" ? "could not be worked out" : "",
    ].filter(Boolean);
    return h(
      "li",
      { class: "plan-step", "data-testid": "plan-step", "data-status": step.status },
      h("h4", {}, numbered(step.position, step.title)),
      step.detail ? h("p", { class: "plan-detail" }, ...withCode(step.detail)) : null,
      step.files.length ? h("ul", { class: "plan-files", "aria-label": "Files" }, ...step.files.map((path) => h("li", {}, this.#file(project, path, path)))) : null,
      facts.length ? h("p", { class: "quiet plan-facts" }, facts.join(" · ")) : null,
    );
  }

  #file(project: string, path: string, words: string): HTMLElement {
    if (!this.host.has(path)) return h("span", { class: "plan-file quiet", title: "Not a file of this project yet" }, words);
    const link = h("a", { class: "plan-file", href: routeTo(project, path), title: `Open ${path}` }, words);
    return on(link, { click: () => this.host.opened() });
  }
}

function numbered(position: number, title: string): string {
  return `${position + 1}. ${title}`;
}

function maker(summary: Summary): string {
  return summary.model === null ? "From the code’s outline, without a language model" : `Made by ${summary.model}`;
}

function placeWords(place: Place): string {
  const lines = place.first === null ? "" : place.last !== null && place.last !== place.first ? `:${place.first}–${place.last}` : `:${place.first}`;
  return `${place.path}${lines}${place.symbol ? ` ${place.symbol}` : ""}`;
}

/** Where `backticks` stand the words are code, as models write it; all else is taken as it is. */
function withCode(words: string): Array<Node | string> {
  return words.split(/`([^`\n]+)`/).map((part, at) => (at % 2 ? h("code", {}, part) : part));
}

const proseOf = new WeakMap<HTMLElement, string>();

function prose(element: HTMLElement, words: string): void {
  if (proseOf.get(element) === words) return;
  proseOf.set(element, words);
  fill(element, ...withCode(words));
}

function say(element: HTMLElement, words: string): void {
  if (element.textContent !== words) element.textContent = words;
}
