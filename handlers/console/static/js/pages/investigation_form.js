// A session of a project before it starts: what it asks, what it is to come to, what it waits for.

import { get, patch, post, put } from "../api.js";
import { DependencyEditor } from "../dependency_editor.js";
import { doing } from "../doing.js";
import { el, fill } from "../dom.js";
import { icon } from "../icons.js";
import { showSketch, start } from "../investigation_actions.js";
import { projectApi, projectLink, sessionApi, sessionLink } from "../investigations.js";
import { field, page, select } from "../parts.js";
import { backLink, trouble } from "../project_tabs.js";
import { go, guardForm, title } from "../router.js";
import { SchemaEditor } from "../schema_editor.js";
import { toast } from "../toast.js";

export async function show(container, { project: id, session: wanted, signal }) {
  const [project, { agents }] = await Promise.all([get(projectApi(id), { signal }), get("/api/agents", { signal })]);
  const session = wanted ? project.investigations.find((one) => one.session === wanted) : null;
  const heading = session ? "Edit session" : "New session";
  const body = page(heading, { lead: session ? session.title : null, narrow: true });
  title(session ? session.title : heading);
  body.prepend(backLink(projectLink(id), project.name));
  if (wanted && !session) body.append(el("p", { class: "notice" }, icon("alert"), "This session is not in the project any more."));
  else if (!project.may_write) body.append(el("p", { class: "notice" }, icon("alert"), "You can look at this project, not change it."));
  else body.append(guardForm(new Form(project, agents, session).node));
  fill(container, body);
}

class Form {
  constructor(project, agents, session) {
    this.project = project;
    this.session = session;
    this.request = el("textarea", { rows: "5", maxlength: "20000", required: true, autofocus: true, placeholder: "What is to be found out? This is the first message of the session." });
    this.request.value = session?.request ?? "";
    this.title = el("input", { type: "text", maxlength: "200", value: session?.title ?? "", autocomplete: "off", placeholder: "From the request" });
    const own = project.agent ? [["", `As the project: ${project.agent}`]] : [];
    this.agent = select([...own, ...agents.map((one) => [one.agent, `${one.agent} · ${one.model}`])]);
    this.schema = new SchemaEditor(session?.schema);
    this.dependencies = new DependencyEditor(project.investigations.filter((one) => one.session !== session?.session), session?.dependencies);
    const { node, tell } = trouble();
    this.tell = tell;
    this.node = el(
      "form",
      { class: "stack wide-gaps", novalidate: true, onsubmit: (event) => (event.preventDefault(), this.main.click()) },
      el("div", { class: "stack" }, field("Request", this.request), el("div", { class: "fields" }, field("Title", this.title), !session && field("Agent", this.agent))),
      this.schema.node,
      session?.disposition && el("p", { class: "notice" }, icon("alert"), "It has a disposition already: when the fields change, that is stale until it is set again."),
      this.dependencies.node,
      node,
      this.buttons(),
    );
  }

  buttons() {
    const away = this.session ? sessionLink(this.session.session, this.project.project) : projectLink(this.project.project);
    const waiting = !this.session || this.session.state === "not_started";
    const preview = doing("Prompt preview", () => this.preview(), { kind: "quiet", glyph: "eye", failing: "There is no preview" });
    preview.title = "Shows what the model would be told; nothing is saved";
    const save = doing(this.session ? "Save" : "Save without starting", () => this.done(), { kind: waiting ? "" : "primary", failing: "It was not saved" });
    const begin = waiting && doing("Start session", () => this.begin(), { kind: "primary", glyph: "play", failing: "It was not started" });
    this.main = begin || save;
    return el("div", { class: "actions end form-actions" }, preview, el("span", { class: "grow" }), el("a", { class: "button quiet", href: away, dataset: { discards: "" } }, "Cancel"), save, begin);
  }

  /** Save it; the session, or null when something has to be mended first. */
  store() {
    return this.checked(() => (this.session ? this.change() : this.make()));
  }

  /** Do something with what was filled in; null when something has to be mended first. */
  async checked(work) {
    this.tell(null);
    const missing = this.missing();
    if (missing) return this.wrong(...missing);
    try {
      return await work();
    } catch (error) {
      if (![400, 409, 422].includes(error.status)) throw error;
      return this.wrong(this.control(error.message), error.message);
    }
  }

  missing() {
    if (!this.request.value.trim() && (!this.session || this.session.state === "not_started")) return [this.request, "Say what is to be found out."];
    return this.schema.missing();
  }

  wrong(control, words) {
    for (const one of this.node.querySelectorAll("[aria-invalid]")) one.removeAttribute("aria-invalid");
    this.tell(words);
    control?.setAttribute("aria-invalid", "true");
    control?.focus();
    return null;
  }

  control(message) {
    const [, name, rest] = /^(\w+)(?:\.([^:]+))?:/.exec(message) ?? [];
    if (name === "schema") return this.schema.control(rest?.replaceAll("'", ""));
    if (name === "dependencies") return this.dependencies.control(Number(rest));
    return { request: this.request, title: this.title, agent: this.agent }[name] ?? null;
  }

  /** What stands here now, but for the title, as a new session is asked for. */
  wish() {
    const schema = this.schema.read();
    const agent = this.session ? this.session.agent : this.agent.value;
    return {
      request: this.request.value.trim() || null,
      ...(schema && { schema }),
      ...(agent && { agent }),
      dependencies: this.dependencies.read(),
    };
  }

  make() {
    const named = this.title.value.trim();
    return post(projectApi(this.project.project, "/sessions"), { ...this.wish(), ...(named && { title: named }) });
  }

  /** Send what was changed, and nothing else: a schema that is sent again would be the same. */
  async change() {
    const { session, title: named, request, schema } = this.session;
    const wish = { title: this.title.value.trim() || named, request: this.request.value.trim() || null, schema: this.schema.read() };
    const fields = Object.fromEntries(Object.entries(wish).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify({ title: named, request, schema }[name] ?? null)));
    if (Object.keys(fields).length) await patch(sessionApi(session, "/investigation"), fields);
    const before = this.session.dependencies.map((one) => (one.field ? { session: one.session, field: one.field, value: one.value } : { session: one.session }));
    const wanted = this.dependencies.read();
    if (JSON.stringify(before) !== JSON.stringify(wanted)) await put(sessionApi(session, "/dependencies"), { dependencies: wanted });
    return this.session;
  }

  async done() {
    const stored = await this.store();
    if (!stored) return;
    toast(`“${stored.title}” is saved`);
    await go(this.session ? sessionLink(stored.session, this.project.project) : projectLink(this.project.project), { replace: true });
  }

  async begin() {
    const stored = await this.store();
    if (!stored) return;
    const { session } = stored;
    await start(session);
    await go(sessionLink(session, this.project.project), { replace: true });
  }

  /** What the model would be told of what stands here now. */
  async preview() {
    const found = await this.checked(() => post(projectApi(this.project.project, "/preview"), this.wish()));
    if (found) showSketch(found);
  }
}
