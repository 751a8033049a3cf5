/** Owns the choice of a project, and making one. */
import type { Api, Project } from "./api.ts";
import { askText } from "./dialogs.ts";
import { fill, h, on } from "./dom.ts";

const NEW = "\u0000new";

/** The picker in the top bar: plain text while there is one project. */
export class ProjectPicker {
  readonly element = h("div", { class: "project", "data-testid": "project" });

  constructor(
    private readonly api: Api,
    private readonly chosen: (project: string) => void,
    private readonly created: (project: Project) => void,
  ) {}

  /** Shows the projects, `current` chosen. */
  show(projects: Project[], current: string | null): void {
    const select = h(
      "select",
      { "aria-label": "Project", "data-testid": "project-picker" },
      current === null ? h("option", { value: "" }, "Choose a project") : null,
      ...projects.map((project) => h("option", { value: project.id }, project.name || project.id)),
      h("option", { value: NEW }, "New project…"),
    );
    select.value = current ?? "";
    on(select, {
      change: () => {
        const { value } = select;
        if (value !== NEW) return this.chosen(value);
        select.value = current ?? "";
        this.create();
      },
    });
    fill(this.element, select);
  }

  /** Asks for the name of a new project and makes it. */
  create(): void {
    askText(
      { title: "New project", label: "Name", placeholder: "My project", hint: "You will be its owner.", action: "Create" },
      async (name) => this.created(await this.api.createProject(name)),
    );
  }
}
