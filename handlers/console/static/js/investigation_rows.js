// The sessions of a project, in their order: what they wait for and what they came to.

import { put } from "./api.js";
import { el, fill } from "./dom.js";
import { icon } from "./icons.js";
import { destroy, rename, showPreview, start } from "./investigation_actions.js";
import { chips, dependencyLine, many, projectApi, projectLink, sessionLink, stateBadge, updated } from "./investigations.js";
import { menu } from "./menu.js";
import { reorderable } from "./reorder.js";
import { go } from "./router.js";
import { problem, toast } from "./toast.js";

const HOW = "rows-how";

export class InvestigationRows {
  /** `changed()` reads the project anew. */
  constructor(project, changed) {
    this.project = project;
    this.changed = changed;
    this.busy = false;
    this.said = el("p", { class: "visually-hidden", "aria-live": "assertive" });
    this.list = el("ol", { class: "rows investigations", role: "list", "aria-label": "Sessions" });
    this.node = el("div", {}, el("p", { class: "visually-hidden", id: HOW }, "Press Space to pick it up, the arrows to move it, Space to drop it, Escape to put it back."), this.list, this.said);
    if (project.may_write) {
      reorderable(this.list, {
        name: (item) => item.dataset.title,
        dropped: (ids) => this.order(ids),
        say: (words) => fill(this.said, words),
        busy: (on) => (this.busy = on),
      });
    }
    this.draw(project);
  }

  draw(project) {
    this.project = project;
    const drawn = JSON.stringify([project.investigations, project.may_write]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const focused = document.activeElement?.closest?.("[data-keep]")?.dataset.keep;
    fill(this.list, project.investigations.map((one) => this.row(one)));
    if (focused) this.list.querySelector(`[data-keep="${CSS.escape(focused)}"]`)?.focus();
  }

  row(one) {
    const write = this.project.may_write;
    const handle =
      write &&
      el("button", { class: "handle", type: "button", "aria-label": `Move ${one.title}`, "aria-pressed": "false", "aria-describedby": HOW, title: "Drag, or press Space and use the arrows", dataset: { keep: `handle ${one.session}` } }, icon("grip"));
    const more = el("button", { class: "button quiet icon small", type: "button", "aria-label": `More about ${one.title}`, dataset: { keep: `more ${one.session}` } }, icon("more"));
    more.addEventListener("click", () => menu(more, this.items(one)));
    return el(
      "li",
      { class: "row-card tall investigation", dataset: { id: one.session, title: one.title } },
      handle,
      el(
        "div",
        { class: "row-main" },
        el("p", { class: "row-title" }, el("a", { href: sessionLink(one.session, this.project.project) }, one.title), one.state === "not_started" && el("span", { class: "muted" }, "(Not started)"), stateBadge(one), one.archived && el("span", { class: "badge" }, "archived")),
        el("p", { class: "row-more muted" }, one.agent && el("span", {}, one.agent), updated(one.updated_at), one.results > 0 && el("span", { class: "has-results" }, icon("chart"), many(one.results, "key result"))),
        chips(one),
        one.dependencies.length > 0 && el("p", { class: "depends-list" }, one.dependencies.map((dependency) => dependencyLine(dependency))),
      ),
      write ? el("div", { class: "row-actions" }, this.starter(one), more) : null,
    );
  }

  starter(one) {
    if (one.state !== "not_started" || !one.ready || !one.request || one.archived) return null;
    return el("button", { class: "button small", type: "button", "aria-label": `Start ${one.title}`, dataset: { keep: `start ${one.session}` }, onclick: () => this.start(one) }, icon("play"), "Start");
  }

  items(one) {
    const started = one.state !== "not_started";
    const waits = one.dependencies.filter(({ unmet }) => unmet).map(({ unmet }) => unmet);
    const why = started ? "It has started already." : !one.request ? "It has no request yet. Edit it first." : waits[0] ?? null;
    return [
      { label: "Start", icon: "play", disabled: why, run: () => this.start(one) },
      { label: "Rename", icon: "pencil", run: () => this.after(rename(one)) },
      { label: "Edit", icon: "sliders", run: () => go(`${projectLink(this.project.project)}/sessions/${one.session}`) },
      { label: "Prompt preview", icon: "eye", run: () => showPreview(one.session) },
      null,
      { label: "Delete", icon: "trash", danger: true, run: () => this.after(destroy(one, () => this.project.investigations)) },
    ];
  }

  async start(one) {
    if (!(await start(one.session))) return;
    toast(`“${one.title}” is started`, { action: { label: "Open", run: () => go(sessionLink(one.session, this.project.project)) } });
    await this.changed();
  }

  async after(deed) {
    if (await deed) await this.changed();
  }

  /** Keep the new order; when that fails the old one comes back. */
  async order(ids) {
    const { project, investigations } = this.project;
    const handle = document.activeElement?.dataset?.keep;
    this.drawn = null;
    this.project.investigations = ids.map((id) => investigations.find((one) => one.session === id));
    try {
      await put(projectApi(project, "/order"), { sessions: ids });
    } catch (error) {
      problem(error, "The order was not kept");
      await this.changed();
    }
    if (handle) this.list.querySelector(`[data-keep="${CSS.escape(handle)}"]`)?.focus();
  }
}
