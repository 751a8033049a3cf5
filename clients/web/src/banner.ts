/** Owns the warning that accounts with known passwords exist on this hub. */
import type { DemoUser } from "./api.ts";
import { h, icon } from "./dom.ts";

/** The strip over the page; it cannot be put away while the accounts exist. */
export function demoWarning(users: DemoUser[]): HTMLElement {
  const names = users.map((user) => user.login).join(" and ");
  return h(
    "div",
    { class: "demo-warning", role: "note", "data-testid": "demo-warning" },
    icon("warning"),
    h("p", {}, h("strong", {}, "Demo accounts with known passwords"), ` (${names}): do not expose this address.`),
  );
}
