/**
 * Owns what a plan is at a moment, from what was read of it and the messages that came since. A message
 * of an earlier attempt counts for nothing, one of a later attempt empties the steps. Messages come from
 * services, so they are read strictly. Pure: asks nobody, draws nothing.
 */
import type { Plan, PlanStatus, PlanStep } from "./api.ts";

/** What an attempt is at. */
export type Stage = "context" | "writing" | "repair";

/** A step that is being written. */
export interface LiveStep {
  position: number;
  title: string;
  detail: string;
}

/** A place in the code that a plan rests on. */
export interface Place {
  path: string;
  first: number | null;
  last: number | null;
  symbol: string;
}

/** What a finished plan says beyond its steps. */
export interface Summary {
  text: string;
  /** The model that made it; none for one made without. */
  model: string | null;
  /** Whether who made it is known. */
  known: boolean;
  repaired: boolean;
  places: Place[];
}

/** What a message changed. `read`: the plan has more to say than the message told. */
export type Change = "none" | "shown" | "read";

const ENDED: readonly PlanStatus[] = ["done", "failed", "cancelled"];
const STEP_STATES = ["pending", "running", "done", "failed", "skipped"] as const;

/** Whether a plan in that state changes no more. */
export function hasEnded(status: PlanStatus): boolean {
  return ENDED.includes(status);
}

/** One plan that is followed. */
export class FollowedPlan {
  #plan: Plan | null = null;
  #attempt = 0;
  #steps = new Map<number, PlanStep>();
  #live = new Map<number, LiveStep>();
  #stage: Stage | null = null;
  /** What messages said of its state before it was read, or since. */
  #status: PlanStatus | null = null;
  #reason: string | null = null;
  #told: string | null = null;

  /** The plan as it was read; `null` until then. */
  get plan(): Plan | null {
    return this.#plan;
  }

  get status(): PlanStatus {
    return this.#status ?? "queued";
  }

  /** Why it failed. */
  get reason(): string | null {
    return this.#reason;
  }

  /** What a running attempt is at. */
  get stage(): Stage | null {
    return this.status === "running" ? this.#stage : null;
  }

  /** The steps that are there, in order, without those that were left out again. */
  get steps(): PlanStep[] {
    return [...this.#steps.values()].filter((step) => step.status !== "skipped").sort((a, b) => a.position - b.position);
  }

  /** The step that is being written. */
  get live(): LiveStep | null {
    if (this.status !== "running") return null;
    const first = [...this.#live.values()].sort((a, b) => a.position - b.position)[0];
    return first ?? null;
  }

  /** What the finished plan says; its text alone until the plan has been read again. */
  get summary(): Summary | null {
    if (this.status !== "done") return null;
    const summary = summaryOf(this.#plan?.body);
    return { ...summary, text: summary.text || this.#told || "" };
  }

  /** Takes the plan as it was just read; messages may have come that it does not know yet. */
  read(plan: Plan): void {
    this.#plan = plan;
    const ended = hasEnded(plan.status);
    if (ended || plan.attempt > this.#attempt) this.#begin(plan.attempt);
    else if (plan.attempt < this.#attempt) return;
    if (ended || this.#status === null || !hasEnded(this.#status)) {
      this.#status = plan.status === "queued" && this.#attempt > 0 && this.#stage ? "running" : plan.status;
      this.#reason = plan.reason;
    }
    for (const step of plan.steps) {
      this.#steps.set(step.position, step);
      this.#live.delete(step.position);
    }
  }

  /** Takes a message of the plan's channel. */
  apply(key: string | null, data: unknown): Change {
    const told = object(data);
    if (!told) return "none";
    return key === null ? this.#event(told) : this.#value(key, told);
  }

  #event(told: Record<string, unknown>): Change {
    const data = object(told.data) ?? {};
    switch (told.type) {
      case "plan.progress": {
        const step = stepOf(data.step);
        if (!step || !this.#counts(data.attempt)) return "none";
        this.#steps.set(step.position, step);
        this.#live.delete(step.position);
        return "shown";
      }
      case "plan.created":
        if (!this.#ends("done", data.attempt)) return "none";
        this.#told = text(data.summary);
        return "read";
      case "plan.failed":
        if (!this.#ends("failed", data.attempt)) return "none";
        this.#reason = text(data.reason) || null;
        return "read";
      case "plan.cancelled":
        return this.#ends("cancelled", this.#attempt) ? "read" : "none";
      default:
        return "none";
    }
  }

  #value(key: string, told: Record<string, unknown>): Change {
    const stage = key === "stage" ? stageOf(told.stage) : null;
    const position = index(told.step);
    const isStep = position !== null && key === `step:${position}`;
    if ((!stage && !isStep) || !this.#counts(told.attempt)) return "none";
    if (stage) this.#stage = stage;
    // Only a repair writes steps anew that were finished before.
    else if (position !== null && (!this.#steps.has(position) || this.#stage === "repair")) {
      this.#live.set(position, { position, title: text(told.title), detail: text(told.detail) });
    } else return "none";
    return "shown";
  }

  /** Whether what was told of an attempt counts; a later attempt than the last begins with it. */
  #counts(told: unknown): boolean {
    const attempt = index(told);
    if (attempt === null || attempt < this.#attempt || (this.#status !== null && hasEnded(this.#status))) return false;
    if (attempt > this.#attempt) this.#begin(attempt);
    this.#status = "running";
    return true;
  }

  #ends(status: PlanStatus, attempt: unknown): boolean {
    const known = this.#status !== null && hasEnded(this.#status);
    const told = index(attempt);
    if (known || told === null || told < this.#attempt) return false;
    if (told > this.#attempt) this.#begin(told);
    this.#status = status;
    this.#live.clear();
    return true;
  }

  #begin(attempt: number): void {
    this.#attempt = attempt;
    this.#steps.clear();
    this.#live.clear();
    this.#stage = null;
  }
}

function summaryOf(value: unknown): Summary {
  const body = object(value) ?? {};
  const by = object(body.by);
  const places = Array.isArray(body.context) ? body.context.map(placeOf).filter((place) => place !== null) : [];
  return {
    text: text(body.summary),
    model: by?.kind === "model" ? text(by.name) || "a language model" : null,
    known: by?.kind === "model" || by?.kind === "outline",
    repaired: body.repaired === true,
    places,
  };
}

function placeOf(value: unknown): Place | null {
  const place = object(value);
  if (!place || !text(place.path)) return null;
  return { path: text(place.path), first: index(place.first_line), last: index(place.last_line), symbol: text(place.symbol) };
}

function stepOf(value: unknown): PlanStep | null {
  const step = object(value);
  const position = index(step?.position);
  if (!step || position === null) return null;
  return {
    position,
    title: text(step.title),
    detail: text(step.detail),
    status: STEP_STATES.find((state) => state === step.status) ?? "done",
    files: list(step.files).filter((path): path is string => typeof path === "string"),
    depends_on: list(step.depends_on).filter((other): other is number => index(other) !== null),
    minutes: index(step.minutes),
  };
}

function stageOf(value: unknown): Stage | null {
  return value === "context" || value === "writing" || value === "repair" ? value : null;
}

function object(value: unknown): Record<string, unknown> | null {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : null;
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** A whole number from 0 on. */
function index(value: unknown): number | null {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : null;
}
