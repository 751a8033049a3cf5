/**
 * Owns the page of somebody who is signed in: it puts the parts together and follows the address.
 * The parts never name each other; what passes between them passes here.
 */
import { Api, type DocumentEntry, type Info, type Project, sentence } from "./api.ts";
import { demoWarning } from "./banner.ts";
import { Bell } from "./bell.ts";
import { Desk } from "./desk.ts";
import { fill, h, icon, iconButton, on } from "./dom.ts";
import type { Target } from "./feed.ts";
import { Files } from "./files.ts";
import { Hub } from "./hub.ts";
import { languageOf } from "./language.ts";
import { badgeOf, peopleIn } from "./people.ts";
import { Plans } from "./plans.ts";
import { Presence } from "./presence.ts";
import { ProjectPicker } from "./projects.ts";
import { currentRoute, pushRoute, replaceRoute, routeTo } from "./route.ts";
import type { Session } from "./session.ts";
import { brand } from "./signin.ts";
import { Stage } from "./stage.ts";
import { StatusBar } from "./status.ts";
import { themeToggle } from "./theme.ts";
import { usageButton } from "./usage.ts";

const FILES_EVERY_MS = 10_000;

/** The workspace of one login in this window. */
export class Workspace {
  readonly #api: Api;
  readonly #desk: Desk;
  readonly #hub: Hub;
  readonly #files: Files;
  readonly #stage: Stage;
  readonly #status: StatusBar;
  readonly #plans: Plans;
  readonly #bell: Bell;
  readonly #presence: Presence;
  readonly #picker: ProjectPicker;
  readonly #page = h("div", { class: "workspace" });
  readonly #plansToggle = iconButton("plan", "Plans", { "aria-controls": "plans", "aria-expanded": "false", "data-testid": "plans-toggle" });
  readonly #title = h("span", { class: "file-title" });
  #projects: Project[] = [];
  #project: Project | null = null;
  #turn = 0;
  #denied = false;
  #paused = false;
  readonly #poll: ReturnType<typeof setInterval>;

  constructor(
    private readonly root: HTMLElement,
    private session: Session,
    private readonly info: Info | null,
  ) {
    const token = (stale?: string) => this.session.token(stale);
    this.#api = new Api(token);
    this.#desk = new Desk(token, badgeOf(session.user));
    this.#hub = new Hub(token);
    this.#status = new StatusBar(usageButton(this.#api));
    this.#stage = new Stage((line, column) => this.#status.setCaret(line, column));
    this.#presence = new Presence(session.user, info?.demo?.users ?? [], (person) => this.#stage.reveal(person));
    this.#picker = new ProjectPicker(
      this.#api,
      (project) => (location.hash = routeTo(project)),
      (project) => void this.#projectMade(project),
    );
    this.#files = new Files(this.#api, {
      opened: () => this.#drawer(false),
      renamed: (entry, path) => this.#renamed(entry, path),
      deleted: (entry) => this.#gone(entry),
      refreshed: () => this.#filesRead(),
    });
    this.#plans = new Plans(this.#api, this.#hub, session.user.id, {
      has: (path) => this.#files.entries.some((entry) => entry.path === path),
      opened: () => this.#narrow() && this.#showPlans(false),
      close: () => this.#showPlans(false),
    });
    this.#bell = new Bell(this.#api, this.#hub, {
      follow: (target) => void this.#visit(target).catch((error: unknown) => this.#stage.say(sentence(error))),
      came: (kind) => void (kind.startsWith("member.") && this.#membership()),
    });
    this.#desk.changed.listen(() => this.#show());
    session.onRenewed = () => this.#renewed();
    window.addEventListener("hashchange", this.#follow);
    window.addEventListener("focus", this.#look);
    this.#poll = setInterval(() => document.visibilityState === "visible" && this.#look(), FILES_EVERY_MS);
    this.#build();
    this.#show();
    void this.#start();
  }

  /** How many changes would be lost if this window let go of its documents. */
  get unsaved(): number {
    return this.#desk.state.unsaved;
  }

  /** Whose workspace it is. */
  get login(): string {
    return this.session.user.login;
  }

  /** Waits, with its documents, for the same person to sign in again. */
  pause(): void {
    this.#paused = true;
  }

  /** Goes on where it was, under a new login of the same person. */
  resume(session: Session): void {
    this.#paused = false;
    this.session = session;
    session.onRenewed = () => this.#renewed();
    fill(this.root, this.#page);
    this.#name(this.#desk.current?.entry.path ?? null);
    this.#renewed();
    this.#look();
  }

  /** Leaves the hub and takes the page down. */
  destroy(): void {
    window.removeEventListener("hashchange", this.#follow);
    window.removeEventListener("focus", this.#look);
    clearInterval(this.#poll);
    this.#turn += 1;
    this.#stage.destroy();
    this.#plans.destroy();
    this.#bell.destroy();
    this.#hub.close();
    this.#desk.close();
  }

  #build(): void {
    const menu = iconButton("menu", "Files", { class: "icon-button drawer-button", "aria-expanded": "false", "data-testid": "files-toggle" });
    on(menu, { click: () => this.#drawer(!this.#page.classList.contains("drawer-open")) });
    const leave = on(h("button", { type: "button", class: "link sign-out", title: "Sign out", "data-testid": "sign-out" }, icon("leave"), h("span", {}, "Sign out")), {
      click: () => this.#signOut(),
    });
    const shade = on(h("div", { class: "drawer-shade" }), {
      click: () => {
        this.#drawer(false);
        this.#showPlans(false);
      },
    });
    on(this.#plansToggle, { click: () => this.#showPlans(!this.#plansOpen) });
    fill(
      this.#page,
      this.info?.demo ? demoWarning(this.info.demo.users) : null,
      h("header", { class: "top-bar" }, menu, brand(), this.#picker.element, this.#title, h("span", { class: "grow" }), this.#presence.element, this.#plansToggle, this.#bell.element, themeToggle(), leave),
      h("div", { class: "middle" }, this.#files.element, shade, this.#stage.element, this.#plans.element),
      this.#status.element,
    );
    on(this.#page, {
      keydown: (event) => {
        if (event.key === "Escape" && this.#page.classList.contains("drawer-open")) {
          this.#drawer(false);
          menu.focus();
        }
      },
    });
    fill(this.root, this.#page);
  }

  async #start(): Promise<void> {
    try {
      this.#projects = await this.#api.projects();
      await this.#goTo(false);
    } catch (error) {
      this.#stage.say(sentence(error), this.#button("Try again", () => void this.#start()));
    }
  }

  readonly #follow = (): void => {
    if (this.#paused) return;
    this.#goTo(true).catch((error: unknown) => this.#stage.say(sentence(error)));
  };

  readonly #look = (): void => {
    if (this.#paused) return;
    void this.#files.refresh();
    void this.#plans.refresh();
    this.#bell.refresh();
  };

  #renewed(): void {
    this.#desk.renewToken();
    this.#hub.renewToken();
  }

  /** Shows what the address names. A later call makes an earlier one void. */
  async #goTo(byHand: boolean): Promise<void> {
    const turn = ++this.#turn;
    const route = currentRoute();
    const project = this.#choose(route.project);
    this.#picker.show(this.#projects, project?.id ?? null);
    if (!project) return this.#noProject(route.project);
    if (project !== this.#project || !this.#files.entries.some((entry) => entry.path === route.path)) {
      this.#project = project;
      this.#plans.setProject(project.id, project.role);
      await this.#files.setProject(project.id, project.role);
      if (turn !== this.#turn) return;
      this.#plans.filesChanged();
    }
    const path = route.path ?? this.#files.entries[0]?.path ?? null;
    if (path === null) return this.#noFile();
    const entry = this.#files.entries.find((candidate) => candidate.path === path);
    if (!entry) return this.#missing(project, path);
    if (route.path === null || route.project !== project.id) replaceRoute(routeTo(project.id, path));
    this.#open(entry, byHand);
  }

  #choose(wanted: string | null): Project | null {
    if (wanted !== null) return this.#projects.find((project) => project.id === wanted) ?? null;
    return this.#projects.find((project) => project.id === this.info?.demo?.project) ?? this.#projects[0] ?? null;
  }

  #open(entry: DocumentEntry, focus: boolean): void {
    const document = this.#desk.show(entry);
    document.entry = entry;
    this.#status.setLanguage(languageOf(entry.path).name);
    this.#stage.show(document, focus);
    this.#name(entry.path);
    this.#show();
  }

  #name(path: string | null): void {
    this.#files.setCurrent(path);
    this.#title.textContent = path ?? "";
    document.title = path ? `${path} · Tandem` : "Tandem";
  }

  #leave(): void {
    this.#desk.hide();
    this.#status.setLanguage("");
    this.#name(null);
  }

  #noProject(wanted: string | null): void {
    this.#leave();
    this.#plans.setProject(null, "viewer");
    if (wanted !== null && this.#projects.length) {
      this.#stage.say(h("p", {}, `There is no project “${wanted}” that you are a member of.`), this.#button("Show my projects", () => (location.hash = "")));
      return;
    }
    this.#stage.say(
      h("p", {}, "You are not a member of a project yet. Make one, or ask an owner to add you."),
      this.#button("New project", () => this.#picker.create()),
    );
  }

  #noFile(): void {
    this.#leave();
    this.#stage.say(h("p", {}, this.#files.mayEdit ? "This project has no files yet. Add the first one with + in the list." : "This project has no files yet."));
  }

  #missing(project: Project, path: string): void {
    this.#leave();
    const make = async () => {
      await this.#api.createDocument(project.id, path);
      await this.#files.refresh();
      await this.#goTo(true);
    };
    this.#stage.say(
      h("p", {}, `There is no file “${path}” in this project.`),
      this.#files.mayEdit ? this.#button("Create it", () => void make().catch((error: unknown) => this.#stage.say(sentence(error)))) : "",
    );
  }

  #button(words: string, act: () => void): HTMLButtonElement {
    return on(h("button", { type: "button", class: "button primary" }, words), { click: act });
  }

  async #projectMade(project: Project): Promise<void> {
    this.#projects = await this.#api.projects().catch(() => [...this.#projects, project]);
    location.hash = routeTo(project.id);
  }

  #renamed(entry: DocumentEntry, path: string): void {
    if (this.#desk.current?.entry.id === entry.id) replaceRoute(routeTo(entry.project, path));
  }

  /** The list was read: the file on screen may have another name now, or be gone. */
  #filesRead(): void {
    this.#plans.filesChanged();
    const current = this.#desk.current;
    if (!current) {
      const { path } = currentRoute();
      if (this.#files.entries.some((entry) => path === null || entry.path === path)) this.#follow();
      return;
    }
    if (current.entry.project !== this.#project?.id) return;
    const now = this.#files.entries.find((entry) => entry.id === current.entry.id);
    if (now && now.path !== current.entry.path) {
      replaceRoute(routeTo(now.project, now.path));
      this.#open(now, false);
    } else if (!now && current.ledger.unsaved === 0) {
      this.#gone(current.entry);
    }
  }

  #gone(entry: DocumentEntry): void {
    const shown = this.#desk.current?.entry.id === entry.id;
    this.#desk.drop(entry.id);
    if (!shown) return;
    this.#leave();
    this.#stage.say(h("p", {}, `“${entry.path}” was deleted.`));
  }

  #show(): void {
    const current = this.#desk.current;
    this.#status.show(this.#desk.state);
    this.#presence.show(current?.provider.awareness ? peopleIn(current.provider.awareness) : null);
    this.#stage.refresh();
    const denied = !!current?.denial?.lasting;
    if (denied && !this.#denied) this.#look();
    this.#denied = denied;
  }

  /** Shows what a notification is about. */
  async #visit(target: Target): Promise<void> {
    if (!this.#projects.some((project) => project.id === target.project)) this.#projects = await this.#api.projects();
    if (target.project !== this.#project?.id) {
      pushRoute(routeTo(target.project, "path" in target ? target.path : undefined));
      await this.#goTo(true);
    }
    if (target.project !== this.#project?.id) return;
    if ("plan" in target) return this.#showPlans(true, target.plan);
    if (!("path" in target)) return;
    const path = this.#files.entries.find((entry) => entry.id === target.document)?.path ?? target.path;
    location.hash = routeTo(target.project, path);
  }

  /** Somebody gave the person a project, took one away, or gave them another role. */
  async #membership(): Promise<void> {
    this.#projects = await this.#api.projects().catch(() => this.#projects);
    const now = this.#projects.find((project) => project.id === this.#project?.id);
    if (!this.#project || (now && now.role !== this.#project.role)) this.#follow();
    else this.#picker.show(this.#projects, this.#project.id);
  }

  get #plansOpen(): boolean {
    return this.#page.classList.contains("plans-open");
  }

  /** Whether drawers lie over the text instead of beside it. */
  #narrow(): boolean {
    return matchMedia("(max-width: 900px)").matches;
  }

  #showPlans(open: boolean, plan: string | null = null): void {
    if (!open && !this.#plansOpen) return;
    const inside = this.#plans.element.contains(document.activeElement);
    this.#page.classList.toggle("plans-open", open);
    this.#plansToggle.setAttribute("aria-expanded", String(open));
    if (open) {
      this.#drawer(false);
      this.#plans.open(plan, true);
    } else {
      this.#plans.close();
      if (inside) this.#plansToggle.focus();
    }
  }

  #drawer(open: boolean): void {
    if (open && this.#narrow()) this.#showPlans(false);
    this.#page.classList.toggle("drawer-open", open);
    this.#page.querySelector(".drawer-button")?.setAttribute("aria-expanded", String(open));
  }

  #signOut(): void {
    const { unsaved } = this.#desk.state;
    if (unsaved && !confirm("Some changes are not saved yet and will be lost. Sign out all the same?")) return;
    void this.session.signOut();
  }
}
