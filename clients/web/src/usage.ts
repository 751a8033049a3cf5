/** Owns the dialog that tells what the person has used in the last 30 days. */
import { type Amounts, type Api, sentence } from "./api.ts";
import { fill, h, on } from "./dom.ts";
import { grouped, lasting } from "./words.ts";

/** The button that opens it. */
export function usageButton(api: Api): HTMLButtonElement {
  const button = h("button", { type: "button", class: "link usage-open", "aria-haspopup": "dialog", "data-testid": "usage-open" }, "Usage");
  return on(button, { click: () => showUsage(api) });
}

function showUsage(api: Api): void {
  const body = h("div", { "aria-live": "polite" }, h("p", { class: "quiet" }, "Reading…"));
  const close = h("button", { type: "button", class: "button", autofocus: true }, "Close");
  const dialog = h(
    "dialog",
    { class: "usage", "aria-labelledby": "usage-title", "data-testid": "usage" },
    h("h2", { id: "usage-title" }, "Usage, last 30 days"),
    body,
    h("div", { class: "dialog-actions" }, close),
  );
  on(close, { click: () => dialog.close() });
  on(dialog, { close: () => dialog.remove() });
  document.body.append(dialog);
  dialog.showModal();
  api.usage().then(
    (amounts) => fill(body, table(amounts)),
    (error: unknown) => fill(body, h("p", { class: "failure" }, sentence(error))),
  );
}

function table(amounts: Amounts): HTMLDListElement {
  const rows: Array<[name: string, words: string, value: number, shown: string]> = [
    ["connected", "Connected", amounts.connected_ms, lasting(amounts.connected_ms)],
    ["messages", "Messages sent", amounts.messages, grouped(amounts.messages)],
    ["edits", "Edits", amounts.edits, grouped(amounts.edits)],
    ["plans", "Plans asked for", amounts.plans, grouped(amounts.plans)],
    ["tokens", "Tokens of language models", amounts.tokens_in + amounts.tokens_out, `${grouped(amounts.tokens_in)} read, ${grouped(amounts.tokens_out)} written`],
  ];
  return h(
    "dl",
    { class: "usage-table" },
    ...rows.flatMap(([name, words, value, shown]) => [h("dt", {}, words), h("dd", { "data-testid": `usage-${name}`, "data-value": String(value) }, shown)]),
  );
}
