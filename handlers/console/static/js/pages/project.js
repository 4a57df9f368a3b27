// One project: its sessions in their order, and who may see it.

import { get, patch, post, remove } from "../api.js";
import { ask, confirm, open } from "../dialog.js";
import { facts } from "../doing.js";
import { el, fill } from "../dom.js";
import { icon } from "../icons.js";
import { InvestigationRows } from "../investigation_rows.js";
import { many, projectApi, projectLink, shareBadge, templateLink } from "../investigations.js";
import { menu } from "../menu.js";
import { badge, empty, field, page } from "../parts.js";
import { people } from "../project_people.js";
import { backLink } from "../project_tabs.js";
import { go, title } from "../router.js";
import { live } from "../socket.js";
import { problem, toast } from "../toast.js";

const LOOK_AFTER_MS = 300;

export async function show(container, { project: id, signal }) {
  const view = new ProjectPage(container, id, signal);
  await view.load();
  view.draw();
  const leave = live.watch((session) => view.told(session));
  return () => {
    leave();
    clearTimeout(view.looking);
  };
}

class ProjectPage {
  constructor(container, id, signal) {
    this.container = container;
    this.id = id;
    this.signal = signal;
    this.rows = null;
  }

  async load() {
    this.project = await get(projectApi(this.id), { signal: this.signal });
    title(this.project.name);
  }

  /** A session changed somewhere: look again, unless its row is in somebody's hand. */
  told(session) {
    const ours = session.project === this.id || this.project.investigations.some((one) => one.session === session.session);
    if (!ours) return;
    clearTimeout(this.looking);
    this.looking = setTimeout(() => this.again().catch(() => {}), LOOK_AFTER_MS);
  }

  async again() {
    const before = this.project;
    await this.load();
    if (this.signal.aborted) return;
    if (this.rows?.busy) this.told({ project: this.id });
    else if (frame(this.project) !== frame(before)) this.draw();
    else this.rows?.draw(this.project);
  }

  draw() {
    const { project } = this;
    const body = page(project.name, { lead: project.description || null, actions: this.actions() });
    body.prepend(backLink("/console/projects", "Projects"));
    body.querySelector("h1").after(el("p", { class: "row wrap project-badges" }, project.domain && badge(project.domain), shareBadge(project), project.template && el("a", { class: "muted", href: templateLink(project.template) }, `from ${project.template}`)));
    body.append(el("div", { class: "project-columns" }, el("section", { class: "stack", "aria-label": "Sessions" }, this.sessions()), el("div", { class: "stack" }, people(project, () => this.again()), this.about())));
    const focused = document.activeElement?.closest?.("[data-keep]")?.dataset.keep;
    fill(this.container, body);
    if (focused) body.querySelector(`[data-keep="${CSS.escape(focused)}"]`)?.focus();
  }

  actions() {
    const { project } = this;
    const more = el("button", { class: "button icon", type: "button", "aria-label": "More about this project" }, icon("more"));
    more.addEventListener("click", () => menu(more, this.items()));
    return project.may_write
      ? [el("a", { class: "button", href: `${projectLink(this.id)}/edit` }, icon("pencil"), "Edit"), el("a", { class: "button primary", href: `${projectLink(this.id)}/new` }, icon("plus"), "New session"), more]
      : [];
  }

  sessions() {
    const { project } = this;
    if (project.investigations.length > 0) {
      this.rows = new InvestigationRows(project, () => this.again());
      return [this.rows.node];
    }
    this.rows = null;
    const begin = project.may_write && el("a", { class: "button primary", href: `${projectLink(this.id)}/new` }, icon("plus"), "New session");
    const text = "Each session asks one thing. It can wait for others, and build on what they came to.";
    return [empty("project", "No sessions yet", text, ...(begin ? [begin] : []))];
  }

  about() {
    const { project } = this;
    const tools = project.tools === null ? "all of the agent's" : project.tools.length ? el("span", { class: "row wrap" }, project.tools.map((one) => el("code", {}, one))) : "none";
    return el(
      "section",
      { class: "card", "aria-label": "About" },
      el("h2", {}, "About"),
      facts(["Agent", project.agent ?? "each session says"], ["Tools", tools], ["Prompt", project.prompt && el("p", { class: "prompt" }, project.prompt)]),
    );
  }

  // -- the menu --------------------------------------------------------------------------------

  items() {
    const { project } = this;
    const own = project.may_own ? null : `Only ${project.owner} or an administrator may.`;
    return [
      { label: "Save as template", icon: "blueprint", run: () => this.save() },
      { label: "Hand over", icon: "person", disabled: own, run: () => this.handOver() },
      null,
      { label: "Delete", icon: "trash", danger: true, disabled: own, run: () => this.destroy() },
    ];
  }

  async save() {
    const name = await ask({ title: "Save as template", label: "Name", value: this.project.name, hint: "One of that name is replaced." });
    if (!name) return;
    try {
      const made = await post(projectApi(this.id, "/template"), { name });
      toast(`Template ${made.template} is saved`, { action: { label: "Open", run: () => go(templateLink(made.template)) } });
    } catch (error) {
      problem(error, "It was not saved as a template");
    }
  }

  async handOver() {
    const owner = await ask({ title: "Hand the project over", label: "New owner", action: "Hand over", hint: `${this.project.owner} may edit it afterwards, but not delete it.` });
    if (!owner) return;
    try {
      await patch(projectApi(this.id), { owner });
      toast(`${this.project.name} belongs to ${owner}`);
      await this.again();
    } catch (error) {
      if (error.status === 404) return go("/console/projects");
      problem(error, "It was not handed over");
    }
  }

  async destroy() {
    const { project } = this;
    const { sessions, results, name } = project;
    if (sessions === 0) {
      if (!(await confirm({ title: "Delete this project?", text: `“${name}” has no sessions. This cannot be undone.`, action: "Delete", danger: true }))) return;
    } else if (!(await typed(name, `${many(sessions, "session")} with all messages and files${results ? `, and ${many(results, "key result")},` : ""} will be gone with it. This cannot be undone. Templates stay.`))) {
      return;
    }
    try {
      await remove(projectApi(this.id), { query: { sessions: sessions > 0 ? "delete" : null } });
      toast(`“${name}” is deleted`);
      await go("/console/projects");
    } catch (error) {
      problem(error, "The project was not deleted");
    }
  }
}

/** What is around the sessions: while that is the same nobody loses what they write there. */
function frame(project) {
  const { investigations, sessions: _s, results: _r, updated_at: _u, active_at: _a, ...rest } = project;
  return JSON.stringify([rest, investigations.length > 0]);
}

/** Ask to type the name of what will be gone; true when it was. */
async function typed(name, text) {
  const input = el("input", { type: "text", autocomplete: "off", spellcheck: "false" });
  const same = async () => {
    const right = input.value.trim() === name.trim();
    input.setAttribute("aria-invalid", String(!right));
    if (!right) input.focus();
    return right;
  };
  const body = el("div", { class: "stack" }, el("p", {}, text), field(`Type “${name}” to delete it`, input));
  const chosen = await open({
    title: "Delete this project?",
    body,
    focus: input,
    actions: [{ label: "Cancel", value: null }, { label: "Delete", value: "yes", primary: true, danger: true, run: same }],
  });
  return chosen === "yes";
}
