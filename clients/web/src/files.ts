/** Owns the list of a project's files: folders, the file on screen, and what one may do with each. */
import { type Api, type DocumentEntry, Problem, type Role, sentence } from "./api.ts";
import { askText, askWhether } from "./dialogs.ts";
import { fill, h, iconButton, on } from "./dom.ts";
import { routeTo } from "./route.ts";

/** What the list asks of the workspace. */
export interface FilesHost {
  opened(path: string): void;
  renamed(from: DocumentEntry, path: string): void;
  deleted(entry: DocumentEntry): void;
  refreshed(): void;
}

/** The files of one project. */
export class Files {
  readonly element: HTMLElement;
  entries: DocumentEntry[] = [];
  #project: string | null = null;
  #role: Role = "viewer";
  #current: string | null = null;
  #shown = "";
  readonly #list = h("div", { class: "file-tree", "data-testid": "file-list" });
  readonly #failure = h("p", { class: "failure", role: "alert" });
  readonly #add = iconButton("plus", "New file", { "data-testid": "new-file" });

  constructor(
    private readonly api: Api,
    private readonly host: FilesHost,
  ) {
    this.#add.hidden = true;
    on(this.#add, { click: () => this.#create() });
    this.element = h(
      "nav",
      { class: "files", "aria-label": "Files" },
      h("div", { class: "files-head" }, h("h2", {}, "Files"), this.#add),
      this.#failure,
      this.#list,
    );
  }

  /** Whether the person may add, rename and delete. */
  get mayEdit(): boolean {
    return this.#role === "editor" || this.#role === "owner";
  }

  /** Turns to a project and reads its files; throws if that fails. */
  async setProject(project: string, role: Role): Promise<void> {
    const other = project !== this.#project;
    this.#project = project;
    this.#role = role;
    this.#add.hidden = !this.mayEdit;
    if (other) {
      this.entries = [];
      this.#draw();
    }
    await this.#read();
  }

  /** Marks the file on screen. */
  setCurrent(path: string | null): void {
    this.#current = path;
    this.#draw();
  }

  /** Reads the list again and tells the host. Failures are shown in the list. */
  async refresh(): Promise<void> {
    try {
      await this.#read();
      this.host.refreshed();
    } catch (error) {
      // The state bar already tells that the hub is away.
      if (!(error instanceof Problem && error.code === "unreachable")) fill(this.#failure, sentence(error));
    }
  }

  async #read(): Promise<void> {
    const project = this.#project;
    if (project === null) return;
    const entries = await this.api.documents(project);
    if (project !== this.#project) return;
    this.entries = entries.sort((a, b) => a.path.localeCompare(b.path));
    fill(this.#failure);
    this.#draw();
  }

  #draw(): void {
    const shown = JSON.stringify([this.#current, this.mayEdit, this.#project, this.entries.map((entry) => [entry.id, entry.path])]);
    if (shown === this.#shown) return; // Drawing anew would take the keyboard focus away.
    this.#shown = shown;
    if (!this.entries.length) {
      fill(this.#list, h("p", { class: "empty" }, this.mayEdit ? "No files yet. Add the first one with +." : "No files yet."));
      return;
    }
    fill(this.#list, this.#folder("", this.entries));
  }

  #folder(prefix: string, entries: DocumentEntry[]): HTMLUListElement {
    const folders = new Map<string, DocumentEntry[]>();
    const here: DocumentEntry[] = [];
    for (const entry of entries) {
      const slash = entry.path.indexOf("/", prefix.length);
      if (slash < 0) here.push(entry);
      else {
        const name = entry.path.slice(0, slash + 1);
        folders.set(name, [...(folders.get(name) ?? []), entry]);
      }
    }
    return h(
      "ul",
      {},
      ...[...folders].map(([name, inside]) =>
        h("li", {}, h("span", { class: "folder" }, name.slice(prefix.length, -1)), this.#folder(name, inside)),
      ),
      ...here.map((entry) => this.#file(entry, entry.path.slice(prefix.length))),
    );
  }

  #file(entry: DocumentEntry, name: string): HTMLLIElement {
    const current = entry.path === this.#current;
    const link = h(
      "a",
      {
        href: routeTo(entry.project, entry.path),
        class: "file",
        title: entry.path,
        "aria-current": current ? "page" : false,
        "data-testid": `file-${entry.path}`,
      },
      name,
    );
    on(link, { click: () => this.host.opened(entry.path) });
    if (!this.mayEdit) return h("li", { class: "file-row" }, link);
    const rename = iconButton("pencil", `Rename ${entry.path}`, { "data-testid": `rename-${entry.path}` });
    const remove = iconButton("trash", `Delete ${entry.path}`, { "data-testid": `delete-${entry.path}` });
    on(rename, { click: () => this.#rename(entry) });
    on(remove, { click: () => this.#delete(entry) });
    return h("li", { class: "file-row" }, link, h("span", { class: "file-actions" }, rename, remove));
  }

  #create(): void {
    const project = this.#project;
    if (project === null) return;
    askText(
      {
        title: "New file",
        label: "Path",
        placeholder: "src/lib.rs",
        hint: "Slashes make folders; the ending chooses the language.",
        action: "Create",
      },
      async (path) => {
        const entry = await this.api.createDocument(project, path);
        await this.refresh();
        location.hash = routeTo(project, entry.path);
      },
    );
  }

  #rename(entry: DocumentEntry): void {
    askText(
      { title: "Rename file", label: "Path", value: entry.path, hint: "Everyone in the file keeps writing meanwhile.", action: "Rename" },
      async (path) => {
        if (path !== entry.path) await this.api.renameDocument(entry.id, path);
        this.host.renamed(entry, path);
        await this.refresh();
      },
    );
  }

  #delete(entry: DocumentEntry): void {
    askWhether(
      { title: `Delete ${entry.path}?`, hint: "It goes for everyone in the project, with its history. This cannot be undone.", action: "Delete" },
      async () => {
        await this.api.deleteDocument(entry.id);
        this.host.deleted(entry);
        await this.refresh();
      },
    );
  }
}
