/** Owns the middle of the page: the editor of the document on screen, or words in its place. */
import type { OpenDocument } from "./document.ts";
import { fill, h, icon } from "./dom.ts";
import { Editor } from "./editor.ts";
import type { Person } from "./people.ts";
import { isDark, themeChanged } from "./theme.ts";

/** Where the text is. */
export class Stage {
  readonly #notice = h("div", { class: "notice", role: "alert", hidden: true, "data-testid": "notice" });
  readonly #readOnly = h(
    "p",
    { class: "read-only", hidden: true, "data-testid": "read-only" },
    icon("lock"),
    "You may read this file, and see others write, but not change it.",
  );
  readonly #host = h("div", { class: "editor", "data-testid": "editor" });
  readonly element = h("main", { class: "stage", "aria-label": "Editor" }, this.#notice, this.#readOnly, this.#host);
  #document: OpenDocument | null = null;
  #editor: Editor | null = null;
  #path = "";
  #wantsFocus = false;
  readonly #stopTheme: () => void;

  constructor(private readonly onCaret: (line: number, column: number) => void) {
    this.#stopTheme = themeChanged.listen(() => this.#editor?.setDark(isDark()));
  }

  /** Shows a document; its text appears once the hub's copy has come. */
  show(document: OpenDocument, focus: boolean): void {
    if (document === this.#document && document.entry.path === this.#path) return this.refresh();
    this.#clear();
    this.#document = document;
    this.#path = document.entry.path;
    this.#wantsFocus = focus;
    fill(this.#host, h("p", { class: "placeholder" }, `Opening ${document.entry.path}…`));
    this.refresh();
  }

  /** Shows what the document on screen has become. */
  refresh(): void {
    const document = this.#document;
    if (!document) return;
    if (document.foreign) return this.say("This file holds something that is not text. This page cannot show it.");
    if (document.loaded && !this.#editor) this.#mount(document);
    this.#editor?.setReadOnly(document.readOnly || !!document.denial?.lasting);
    this.#readOnly.hidden = !document.readOnly || !!document.denial;
    this.#tell(noticeOf(document));
  }

  /** Shows words, and perhaps something to do, instead of a text. */
  say(...content: Array<HTMLElement | string>): void {
    this.#clear();
    fill(this.#host, h("div", { class: "placeholder" }, ...content));
  }

  /** Scrolls to a person's caret. */
  reveal(person: Person): void {
    if (this.#editor?.reveal(person.clients) === false && !person.self) this.#tell(`${person.name} has no caret in this file yet.`);
    this.#editor?.focus();
  }

  /** Takes the editor off the page. */
  destroy(): void {
    this.#clear();
    this.#stopTheme();
  }

  #mount(document: OpenDocument): void {
    fill(this.#host);
    this.#editor = new Editor(this.#host, document, isDark());
    this.#editor.onCaret = this.onCaret;
    if (this.#wantsFocus) this.#editor.focus();
  }

  #clear(): void {
    this.#editor?.destroy();
    this.#editor = null;
    this.#document = null;
    this.#path = "";
    this.#readOnly.hidden = true;
    this.#tell("");
    fill(this.#host);
  }

  #tell(words: string): void {
    if (this.#notice.textContent !== words) fill(this.#notice, words);
    this.#notice.hidden = !words;
  }
}

function noticeOf(document: OpenDocument): string {
  const { denial, ledger } = document;
  if (ledger.refused) {
    return "The hub did not accept your last changes, as you may only read this file now. Copy what you need of them, then reload the page.";
  }
  if (!denial) return "";
  const kept = denial.lasting && ledger.unsaved > 0 ? " Changes that were not saved are still shown here: copy what you need." : "";
  return denial.reason + kept;
}
