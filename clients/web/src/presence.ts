/** Owns the row of who is in the document on screen. */
import type { DemoUser, User } from "./api.ts";
import { fill, h, icon, on } from "./dom.ts";
import { badgeOf, initials, type Person } from "./people.ts";
import { count } from "./words.ts";

const SHOWN = 6;

/** The avatars over the text. */
export class Presence {
  readonly #list = h("ul", { class: "people", "aria-label": "Who is here", "data-testid": "people" });
  readonly element: HTMLElement;
  #shown = "";

  constructor(
    private readonly user: User,
    others: DemoUser[],
    private readonly reveal: (person: Person) => void,
  ) {
    const other = others.find((candidate) => candidate.login !== user.login);
    this.element = h("div", { class: "presence" }, this.#list, other && others.some((known) => known.login === user.login) ? second(other) : null);
  }

  /** Shows these people; with no document open there is only oneself. */
  show(people: Person[] | null): void {
    const all = people?.length ? people : [{ ...badgeOf(this.user), clients: [], self: true }];
    const shown = JSON.stringify(all);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const rest = all.slice(SHOWN);
    fill(
      this.#list,
      ...all.slice(0, SHOWN).map((person) => h("li", {}, this.#avatar(person))),
      rest.length ? h("li", {}, h("span", { class: "avatar more", title: rest.map((person) => person.name).join(", ") }, `+${rest.length}`)) : null,
    );
  }

  #avatar(person: Person): HTMLElement {
    const windows = person.clients.length > 1 ? `, ${count(person.clients.length, "window")}` : "";
    const label = person.self ? `${person.name} (you${windows})` : `${person.name}${windows}: show their caret`;
    const button = h(
      "button",
      { type: "button", class: person.self ? "avatar self" : "avatar", title: label, "aria-label": label, "data-testid": `person-${person.login}` },
      initials(person.name),
      h("span", { class: "person-name" }, person.self ? `${person.name} (you)` : person.name),
    );
    button.style.setProperty("--person", person.color);
    return on(button, { click: () => this.reveal(person) });
  }
}

function second(user: DemoUser): HTMLAnchorElement {
  const link = h(
    "a",
    { class: "button small second-window", target: "_blank", rel: "noopener", title: `Open a second window and join as ${user.name}` },
    icon("window"),
    h("span", {}, `Join as ${user.name}`),
  );
  // The address is read at the click: it names the file that is on screen by then.
  const aim = () => (link.href = `/?user=${encodeURIComponent(user.login)}${location.hash}`);
  aim();
  return on(link, { click: aim, auxclick: aim, focus: aim, mouseenter: aim });
}
