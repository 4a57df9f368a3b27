// A session of a project besides its talk: where it belongs, what it waits for, what it came to.

import { get, may, post } from "./api.js";
import { DispositionPanel } from "./disposition_panel.js";
import { doing } from "./doing.js";
import { el, fill } from "./dom.js";
import { isGoing } from "./going.js";
import { icon } from "./icons.js";
import { showPreview, start } from "./investigation_actions.js";
import { dependencyLine, many, projectApi, projectLink, sessionApi, sessionLink } from "./investigations.js";
import { ResultsPanel } from "./results_panel.js";
import { problem, toast } from "./toast.js";

const LOOK_AFTER_MS = 250;
const PARTS = [
  ["talk", "Talk"],
  ["results", "Key results"],
  ["disposition", "Disposition"],
  ["depends", "Depends on"],
];
const LOOKED_AT = new Set(["session.changed", "turn.started", "turn.finished", "tool.finished"]);

export class InvestigationPanel {
  /**
   * `project` is null for a session that is to come to something by itself. `host` gives drawn()
   * when the page around it has to follow, show(part).
   */
  constructor(session, project, host) {
    this.session = session;
    this.id = project;
    this.host = host;
    const shared = { session, view: () => this.view, mayWrite: () => this.mayWrite(), changed: () => this.load(), editLink: () => this.editLink() };
    this.results = new ResultsPanel(shared);
    this.disposition = new DispositionPanel(shared);
    this.depends = el("div", { class: "stack tight" });
    this.steps = el("div", { class: "steps" });
    this.crumb = project && el("a", { class: "crumb", href: projectLink(project) });
    const parts = PARTS.filter(([part]) => project || part !== "depends");
    this.tabs = el("div", { class: "tabs part-tabs", role: "tablist", "aria-label": "Parts of this session" }, parts.map(([part, words]) => this.tab(part, words)));
    this.node = el(
      "aside",
      { class: "findings", "aria-label": "Findings" },
      this.disposition.node,
      this.results.node,
      project && el("section", { class: "findings-part", "aria-label": "Depends on", dataset: { part: "depends" } }, el("h2", {}, "Depends on"), this.depends),
      this.steps,
    );
  }

  async load(signal) {
    const [view, project] = await Promise.all([get(sessionApi(this.session, "/investigation"), { signal }), this.id && get(projectApi(this.id), { signal })]);
    this.view = view;
    this.project = project;
    const { results } = await get(sessionApi(this.session, "/results"), { query: { all: this.shared() ? 1 : null }, signal });
    this.draw(results);
    this.host.drawn();
  }

  /** An event of the session: look again, several together. */
  heard({ kind }) {
    if (!LOOKED_AT.has(kind)) return;
    clearTimeout(this.looking);
    this.looking = setTimeout(() => this.again(), LOOK_AFTER_MS);
  }

  async again() {
    if (isGoing(this.session)) return;
    try {
      await this.load();
    } catch (error) {
      if (error.status !== 404) problem(error, "What it came to could not be read");
    }
  }

  close() {
    clearTimeout(this.looking);
  }

  /** Whether whoever looks may write here at all. */
  shared() {
    return this.project ? this.project.may_write : may("operator");
  }

  mayWrite() {
    return this.shared() && !this.view.archived;
  }

  editLink() {
    return this.id && `${projectLink(this.id)}/sessions/${this.session}`;
  }

  /** Whether it waits to be started with its request. */
  get unstarted() {
    return Boolean(this.project) && this.view.state === "not_started" && Boolean(this.view.request);
  }

  // -- drawing ---------------------------------------------------------------------------------

  draw(results) {
    const found = this.results.update(results, { started: this.view.state !== "not_started" });
    this.disposition.update();
    if (this.crumb) fill(this.crumb, icon("project"), this.project.name);
    const words = this.tabs.querySelector('[data-part="results"]');
    words.textContent = found ? `Key results (${found})` : "Key results";
    if (this.project) this.drawDepends();
    this.drawSteps();
  }

  drawDepends() {
    const { dependencies } = this.view;
    const others = this.project.investigations ?? [];
    const link = (one) => (others.some(({ session }) => session === one.session) ? sessionLink(one.session, this.id) : null);
    const after = others.filter((one) => one.dependencies.some(({ session }) => session === this.session));
    fill(
      this.depends,
      dependencies.length ? el("ul", { class: "depends-list", role: "list" }, dependencies.map((one) => el("li", {}, dependencyLine(one, link(one))))) : el("p", { class: "muted" }, "Nothing: it can start at any time."),
      after.length > 0 && el("p", { class: "muted" }, "Needed by ", after.map((one, place) => [place > 0 && ", ", el("a", { href: sessionLink(one.session, this.id) }, one.title)])),
      this.mayWrite() && el("div", { class: "actions" }, el("a", { class: "button small", href: this.editLink() }, icon("sliders"), "Edit session")),
    );
  }

  drawSteps() {
    const { used, limit } = this.view.iterations ?? {};
    // The last one is for the answer: no tool is used in it.
    const spent = used >= limit - 1;
    const more = spent && this.mayWrite() && doing("Allow 35 more", () => this.extend(), { kind: "small", failing: "It was not given more steps" });
    fill(this.steps, limit ? el("p", { class: spent ? "bad-words" : "muted" }, `${used} of ${many(limit, "step")} used${spent ? ": there is none left to find out more" : ""}`) : null, more);
  }

  async extend() {
    await post(sessionApi(this.session, "/extend"), {});
    toast("It may take 35 more steps");
    await this.load();
  }

  tab(part, words) {
    return el("button", { class: "tab", type: "button", role: "tab", "aria-selected": String(part === "talk"), tabindex: part === "talk" ? "0" : "-1", dataset: { part }, onclick: () => this.host.show(part), onkeydown: (event) => this.step(event) }, words);
  }

  step(event) {
    const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!way) return;
    event.preventDefault();
    const all = [...this.tabs.children];
    const next = all[(all.indexOf(event.currentTarget) + way + all.length) % all.length];
    next.focus();
    this.host.show(next.dataset.part);
  }

  /** Which part a small screen shows. */
  select(part) {
    for (const one of this.tabs.children) {
      const on = one.dataset.part === part;
      one.setAttribute("aria-selected", String(on));
      one.tabIndex = on ? 0 : -1;
    }
  }

  /** What stands in place of the talk until it starts. */
  beginning() {
    const { view } = this;
    const waits = view.dependencies.filter(({ unmet }) => unmet);
    const begin = doing("Start", () => start(this.session), { kind: "primary", glyph: "play", failing: "It was not started", name: "Start session" });
    begin.disabled = !view.ready;
    return el(
      "section",
      { class: "unstarted", "aria-label": "Not started" },
      el("p", { class: "muted" }, "(Not started)"),
      el("p", { class: "unstarted-request" }, view.request),
      view.dependencies.length > 0 && el("div", { class: "stack tight" }, el("h2", {}, waits.length ? "It waits for" : "Everything it waited for is there"), el("ul", { class: "depends-list", role: "list" }, view.dependencies.map((one) => el("li", {}, dependencyLine(one, sessionLink(one.session, this.id)))))),
      el("div", { class: "actions" }, this.mayWrite() && begin, el("button", { class: "button", type: "button", onclick: () => showPreview(this.session) }, icon("eye"), "Prompt preview"), this.mayWrite() && el("a", { class: "button quiet", href: this.editLink() }, icon("pencil"), "Edit")),
    );
  }
}
