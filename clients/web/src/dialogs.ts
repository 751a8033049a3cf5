/** Owns the questions that the page asks over itself: one text, or yes and no. */
import { fill, h, on } from "./dom.ts";
import { sentence } from "./api.ts";

interface Asked {
  title: string;
  hint: string;
  action: string;
}

/** Asks for one text. `act` runs with it; if it fails the dialog stays and says why. */
export function askText(asked: Asked & { label: string; value?: string; placeholder?: string }, act: (text: string) => Promise<void>): void {
  const input = h("input", {
    id: "asked-text",
    "data-testid": "dialog-input",
    type: "text",
    required: true,
    maxlength: "512",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    placeholder: asked.placeholder,
    "aria-describedby": "asked-hint",
  });
  input.value = asked.value ?? "";
  const field = h("div", { class: "field" }, h("label", { for: "asked-text" }, asked.label), input);
  show(asked, field, false, () => act(input.value.trim()));
  input.focus();
  input.setSelectionRange(0, Math.max(input.value.lastIndexOf("."), 0) || input.value.length);
}

/** Asks whether to do something that cannot be undone. */
export function askWhether(asked: Asked, act: () => Promise<void>): void {
  show(asked, null, true, act);
}

function show(asked: Asked, field: HTMLElement | null, danger: boolean, act: () => Promise<void>): void {
  const failure = h("p", { class: "failure", role: "alert" });
  const submit = h("button", { type: "submit", class: danger ? "button danger" : "button primary", "data-testid": "dialog-action" }, asked.action);
  const cancel = h("button", { type: "button", class: "button", autofocus: danger }, "Cancel");
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id: "asked-title" }, asked.title),
    h("p", { class: "hint", id: "asked-hint" }, asked.hint),
    field,
    failure,
    h("div", { class: "dialog-actions" }, cancel, submit),
  );
  const dialog = h("dialog", { "aria-labelledby": "asked-title", "data-testid": "dialog" }, form);
  on(cancel, { click: () => dialog.close() });
  on(dialog, { close: () => dialog.remove() });
  on(form, {
    submit: (event) => {
      event.preventDefault();
      submit.disabled = true;
      fill(failure);
      act()
        .then(() => dialog.close())
        .catch((error: unknown) => fill(failure, sentence(error)))
        .finally(() => (submit.disabled = false));
    },
  });
  document.body.append(dialog);
  dialog.showModal();
}
