/** Owns the page of somebody who is not signed in: demo accounts, login, registration. */
import { type AuthAnswer, type DemoUser, type Info, open, sentence } from "./api.ts";
import { demoWarning } from "./banner.ts";
import { fill, h, on } from "./dom.ts";
import { suggestedUser } from "./route.ts";
import { themeToggle } from "./theme.ts";
import { count } from "./words.ts";

const SHORTEST_PASSWORD = 8;

/** Shows the page in `root`; `done` gets the hub's answer. `reason` says why the last login ended. */
export function showSignIn(root: HTMLElement, info: Info | null, reason: string, done: (answer: AuthAnswer) => void): void {
  document.title = "Sign in · Tandem";
  const failure = h("p", { class: "failure", role: "alert" }, reason);
  const attempt = (source: HTMLElement, call: () => Promise<AuthAnswer>) => {
    fill(failure);
    source.setAttribute("aria-busy", "true");
    call()
      .then(done)
      .catch((error: unknown) => fill(failure, sentence(error)))
      .finally(() => source.removeAttribute("aria-busy"));
  };
  const demo = info?.demo?.users ?? [];
  const wanted = suggestedUser();
  const first = demo.find((user) => user.login === wanted) ?? demo[0];
  const buttons = demo.map((user) => demoButton(user, user === first, attempt));
  const form = accountForm(attempt, wanted === first?.login ? null : wanted, !first);
  fill(
    root,
    h(
      "div",
      { class: "gate" },
      info?.demo ? demoWarning(info.demo.users) : null,
      h("div", { class: "gate-corner" }, themeToggle()),
      h(
        "main",
        { class: "gate-card" },
        brand(),
        h("h1", {}, "Write code together"),
        h("p", { class: "lead" }, "One document, many carets. Every change is saved as you type."),
        failure,
        buttons.length ? h("div", { class: "demo-users", role: "group", "aria-label": "Demo accounts" }, ...buttons) : null,
        buttons.length ? h("p", { class: "divider" }, h("span", {}, "or use your own account")) : null,
        form,
      ),
      info ? h("footer", { class: "gate-foot" }, `Tandem ${info.version}`) : null,
    ),
  );
  (root.querySelector<HTMLElement>(".demo-users .primary") ?? form.querySelector("input"))?.focus();
}

/** The mark and the name. */
export function brand(): HTMLElement {
  return h("span", { class: "brand" }, h("img", { src: "/assets/favicon.svg", alt: "", width: "24", height: "24" }), "Tandem");
}

type Attempt = (source: HTMLElement, call: () => Promise<AuthAnswer>) => void;

function demoButton(user: DemoUser, first: boolean, attempt: Attempt): HTMLButtonElement {
  const button = h(
    "button",
    { type: "button", class: first ? "button primary wide" : "button wide", "data-testid": `sign-in-${user.login}` },
    `Continue as ${user.name}`,
  );
  return on(button, { click: () => attempt(button, () => open.login(user.login, user.password)) });
}

function accountForm(attempt: Attempt, login: string | null, main: boolean): HTMLFormElement {
  let registering = false;
  const loginField = input("login", "Login", { autocomplete: "username", autocapitalize: "off", spellcheck: "false", required: true });
  const nameField = input("name", "Name that others see (optional)", { autocomplete: "name" });
  const passwordField = input("password", "Password", { type: "password", required: true });
  const submit = h("button", { type: "submit", class: main ? "button primary wide" : "button wide" });
  const turn = h("button", { type: "button", class: "link", "data-testid": "register-link" });
  const value = (field: HTMLElement) => field.querySelector("input")?.value ?? "";
  if (login) loginField.querySelector("input")?.setAttribute("value", login);
  const show = () => {
    const password = passwordField.querySelector("input");
    nameField.hidden = !registering;
    password?.setAttribute("autocomplete", registering ? "new-password" : "current-password");
    if (registering) password?.setAttribute("minlength", String(SHORTEST_PASSWORD));
    else password?.removeAttribute("minlength");
    fill(submit, registering ? "Create account" : "Sign in");
    fill(turn, registering ? "I have an account: sign in" : "No account yet? Register");
    turn.title = registering ? "" : `A login and a password of at least ${count(SHORTEST_PASSWORD, "character")}`;
  };
  show();
  on(turn, {
    click: () => {
      registering = !registering;
      show();
      loginField.querySelector("input")?.focus();
    },
  });
  const form = h("form", { class: "account", "data-testid": "login-form" }, loginField, nameField, passwordField, submit, turn);
  return on(form, {
    submit: (event) => {
      event.preventDefault();
      const [who, password, name] = [value(loginField).trim(), value(passwordField), value(nameField).trim()];
      attempt(submit, () => (registering ? open.register(who, password, name) : open.login(who, password)));
    },
  });
}

function input(name: string, label: string, attributes: Record<string, string | boolean>): HTMLDivElement {
  const id = `account-${name}`;
  return h("div", { class: "field" }, h("label", { for: id }, label), h("input", { id, name, type: "text", maxlength: "256", ...attributes }));
}
