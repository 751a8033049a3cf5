/**
 * Owns the CodeMirror editor of one document: its text bound to Yjs, the others' carets, the theme.
 * Decides nothing about connections.
 */
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, indentWithTab } from "@codemirror/commands";
import { bracketMatching, foldGutter, foldKeymap, HighlightStyle, indentOnInput, syntaxHighlighting } from "@codemirror/language";
import { highlightSelectionMatches, searchKeymap } from "@codemirror/search";
import { Compartment, EditorState, type Extension } from "@codemirror/state";
import {
  crosshairCursor,
  drawSelection,
  dropCursor,
  EditorView,
  highlightActiveLine,
  highlightActiveLineGutter,
  highlightSpecialChars,
  keymap,
  lineNumbers,
  rectangularSelection,
} from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { yCollab, yUndoManagerKeymap } from "y-codemirror.next";
import type { OpenDocument } from "./document.ts";
import { languageOf } from "./language.ts";
import { caretOf, strictAwareness } from "./people.ts";

const COLOURS = HighlightStyle.define([
  { tag: [tags.keyword, tags.modifier, tags.operatorKeyword, tags.self], class: "syn-keyword" },
  { tag: [tags.string, tags.special(tags.string), tags.regexp, tags.character, tags.monospace], class: "syn-string" },
  { tag: [tags.number, tags.bool, tags.null, tags.atom, tags.unit], class: "syn-number" },
  { tag: [tags.comment, tags.meta], class: "syn-comment" },
  { tag: [tags.typeName, tags.className, tags.namespace, tags.tagName], class: "syn-type" },
  { tag: [tags.function(tags.variableName), tags.function(tags.propertyName), tags.macroName], class: "syn-function" },
  { tag: [tags.propertyName, tags.attributeName, tags.labelName], class: "syn-property" },
  { tag: [tags.heading, tags.strong], class: "syn-strong" },
  { tag: tags.emphasis, class: "syn-emphasis" },
  { tag: [tags.link, tags.url], class: "syn-link" },
  { tag: tags.strikethrough, class: "syn-strike" },
  { tag: tags.invalid, class: "syn-invalid" },
]);

/** The editor on screen. */
export class Editor {
  /** Told when the caret moves, with its line and column (from 1). */
  onCaret: (line: number, column: number) => void = () => {};
  readonly #view: EditorView;
  readonly #writing = new Compartment();
  readonly #shade = new Compartment();

  constructor(
    host: HTMLElement,
    private readonly document: OpenDocument,
    dark: boolean,
  ) {
    this.#view = new EditorView({
      parent: host,
      state: EditorState.create({
        doc: document.text.toString(),
        extensions: [
          basics(document.entry.path),
          this.#writing.of(EditorState.readOnly.of(document.readOnly)),
          this.#shade.of(EditorView.darkTheme.of(dark)),
          yCollab(document.text, document.provider.awareness && strictAwareness(document.provider.awareness, document.text), {
            undoManager: document.undo,
          }),
          EditorView.updateListener.of((update) => {
            if (update.selectionSet || update.docChanged) this.#tellCaret();
          }),
        ],
      }),
    });
  }

  /** Whether typing changes the text. */
  setReadOnly(readOnly: boolean): void {
    if (this.#view.state.readOnly === readOnly) return;
    this.#view.dispatch({ effects: this.#writing.reconfigure(EditorState.readOnly.of(readOnly)) });
  }

  /** Follows the page's theme. */
  setDark(dark: boolean): void {
    this.#view.dispatch({ effects: this.#shade.reconfigure(EditorView.darkTheme.of(dark)) });
  }

  /** Scrolls to where somebody's caret is; false if they have none in this text. */
  reveal(clients: number[]): boolean {
    const { awareness } = this.document.provider;
    for (const client of clients) {
      const at = awareness && caretOf(awareness, client, this.document.text);
      if (typeof at === "number" && at <= this.#view.state.doc.length) {
        this.#view.dispatch({ effects: EditorView.scrollIntoView(at, { y: "center" }) });
        return true;
      }
    }
    return false;
  }

  /** Puts the keyboard into the text. */
  focus(): void {
    this.#view.focus();
    this.#tellCaret();
  }

  /** Takes the editor off the page. */
  destroy(): void {
    this.#view.destroy();
  }

  #tellCaret(): void {
    const { head } = this.#view.state.selection.main;
    const line = this.#view.state.doc.lineAt(head);
    this.onCaret(line.number, head - line.from + 1);
  }
}

function basics(path: string): Extension {
  return [
    // Yjs counts every character: a carriage return must stay one, and none should come by pasting.
    EditorState.lineSeparator.of("\n"),
    EditorView.clipboardInputFilter.of((text) => text.replace(/\r\n?/g, "\n")),
    EditorState.allowMultipleSelections.of(true),
    EditorState.tabSize.of(4),
    lineNumbers(),
    highlightActiveLineGutter(),
    highlightSpecialChars(),
    foldGutter(),
    drawSelection(),
    dropCursor(),
    indentOnInput(),
    syntaxHighlighting(COLOURS),
    bracketMatching(),
    closeBrackets(),
    autocompletion(),
    rectangularSelection(),
    crosshairCursor(),
    highlightActiveLine(),
    highlightSelectionMatches(),
    EditorView.contentAttributes.of({ "aria-label": `Text of ${path}`, spellcheck: "false", autocapitalize: "off", autocorrect: "off" }),
    keymap.of([
      ...closeBracketsKeymap,
      ...yUndoManagerKeymap,
      ...defaultKeymap,
      ...searchKeymap,
      ...foldKeymap,
      ...completionKeymap,
      indentWithTab,
    ]),
    languageOf(path).extension,
  ];
}
