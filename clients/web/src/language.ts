/** Owns which language a file is in, by the end of its name. */
import { css } from "@codemirror/lang-css";
import { html } from "@codemirror/lang-html";
import { javascript } from "@codemirror/lang-javascript";
import { json } from "@codemirror/lang-json";
import { markdown, markdownLanguage } from "@codemirror/lang-markdown";
import { python } from "@codemirror/lang-python";
import { rust } from "@codemirror/lang-rust";
import type { Extension } from "@codemirror/state";

/** A language as the status bar names it and the editor reads it. */
export interface Language {
  name: string;
  extension: Extension;
}

const LANGUAGES: Array<{ name: string; ends: string[]; make: () => Extension }> = [
  { name: "Rust", ends: ["rs"], make: () => rust() },
  { name: "TypeScript", ends: ["ts", "mts", "cts"], make: () => javascript({ typescript: true }) },
  { name: "TypeScript React", ends: ["tsx"], make: () => javascript({ typescript: true, jsx: true }) },
  { name: "JavaScript", ends: ["js", "mjs", "cjs", "jsx"], make: () => javascript({ jsx: true }) },
  { name: "Python", ends: ["py", "pyi"], make: () => python() },
  { name: "Markdown", ends: ["md", "markdown"], make: () => markdown({ base: markdownLanguage }) },
  { name: "JSON", ends: ["json", "webmanifest"], make: () => json() },
  { name: "CSS", ends: ["css"], make: () => css() },
  { name: "HTML", ends: ["html", "htm", "svg", "vue"], make: () => html() },
];

/** The language of a path; plain text if none is known. */
export function languageOf(path: string): Language {
  const end = path.slice(path.lastIndexOf(".") + 1).toLowerCase();
  const found = path.includes(".") ? LANGUAGES.find((language) => language.ends.includes(end)) : undefined;
  return found ? { name: found.name, extension: found.make() } : { name: "Plain text", extension: [] };
}
