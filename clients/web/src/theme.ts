/** Owns light and dark: the system's choice until the person makes their own, kept in this browser. */
import { h, icon } from "./dom.ts";
import { Signal } from "./signal.ts";

const STORAGE_KEY = "tandem.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

/** Told when the theme turns. */
export const themeChanged = new Signal();

/** Whether the page is dark now. */
export function isDark(): boolean {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : system.matches;
}

/** Takes up the choice of an earlier visit. */
export function startTheme(): void {
  const chosen = localStorage.getItem(STORAGE_KEY);
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
  system.addEventListener("change", () => themeChanged.emit());
}

/** The button that turns the theme. */
export function themeToggle(): HTMLButtonElement {
  const button = h("button", { type: "button", class: "icon-button", "data-testid": "theme-toggle" });
  const show = () => {
    const label = isDark() ? "Use the light theme" : "Use the dark theme";
    button.setAttribute("aria-label", label);
    button.title = label;
    button.replaceChildren(icon(isDark() ? "sun" : "moon"));
  };
  button.addEventListener("click", () => {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    localStorage.setItem(STORAGE_KEY, next);
    themeChanged.emit();
  });
  const stop = themeChanged.listen(() => (button.isConnected ? show() : stop()));
  show();
  return button;
}
