/** Owns the bar that says in words how the connection and the work stand. */
import type { DeskState } from "./desk.ts";
import { h } from "./dom.ts";
import { count } from "./words.ts";

const CALM_MS = 400;

/** What the save state says, as tests and styles see it in `data-state`. */
type Saving = "saved" | "saving" | "unsaved" | "readonly" | "idle";

const SAVING_WORDS: Record<Saving, string> = {
  saved: "saved",
  saving: "saving…",
  unsaved: "not saved yet",
  readonly: "read only",
  idle: "",
};

/** The bar below the text. */
export class StatusBar {
  readonly #connection = h("span", { class: "state", role: "status", "data-testid": "connection-state" });
  readonly #saving = h("span", { class: "state", "data-testid": "save-state" });
  readonly #caret = h("span", { class: "quiet caret-place" });
  readonly #language = h("span", { class: "quiet", "data-testid": "language" });
  readonly element = h("footer", { class: "status-bar" }, this.#connection, this.#saving, h("span", { class: "grow" }), this.#caret, this.#language);
  #calm: ReturnType<typeof setTimeout> | undefined;

  /** `more` stands at its end. */
  constructor(...more: HTMLElement[]) {
    this.element.append(...more);
  }

  /** Shows how things stand. */
  show(state: DeskState): void {
    setState(this.#connection, state.connection, connectionWords(state));
    const saving = savingOf(state);
    // While somebody types, commits come every few milliseconds: "saved" waits until it stays true.
    clearTimeout(this.#calm);
    if (saving === "saved" && this.#saving.dataset.state === "saving") {
      this.#calm = setTimeout(() => setState(this.#saving, "saved", SAVING_WORDS.saved), CALM_MS);
    } else {
      setState(this.#saving, saving, SAVING_WORDS[saving]);
    }
  }

  /** Names the language of the file on screen. */
  setLanguage(name: string): void {
    this.#language.textContent = name;
    this.#caret.textContent = "";
  }

  /** Shows where the person's own caret is. */
  setCaret(line: number, column: number): void {
    this.#caret.textContent = `Ln ${line}, Col ${column}`;
  }
}

function savingOf(state: DeskState): Saving {
  if (state.connection === "idle" && state.unsaved === 0) return "idle";
  if (state.unsaved > 0) return state.connection === "connected" || state.connection === "idle" ? "saving" : "unsaved";
  return state.readOnly ? "readonly" : "saved";
}

function connectionWords(state: DeskState): string {
  switch (state.connection) {
    case "connected":
      return "connected";
    case "connecting":
      return "connecting…";
    case "offline":
      return state.unsaved ? `offline, ${count(state.unsaved, "change")} kept here` : "offline";
    case "idle":
      return "no file open";
  }
}

function setState(element: HTMLElement, state: string, words: string): void {
  if (element.dataset.state === state && element.textContent === words) return;
  element.dataset.state = state;
  element.textContent = words;
}
