// Templates: blueprints of projects, each in one Markdown file.

import { get, may, post, remove } from "../api.js";
import { ask, confirm } from "../dialog.js";
import { doing } from "../doing.js";
import { el, fill } from "../dom.js";
import { icon } from "../icons.js";
import { many, projectLink, templateApi, templateLink, updated } from "../investigations.js";
import { render } from "../markdown.js";
import { menu } from "../menu.js";
import { empty, page, segments } from "../parts.js";
import { backLink, tabs } from "../project_tabs.js";
import { go, looking, title } from "../router.js";
import { TemplateEditor } from "../template_editor.js";
import { problem, toast } from "../toast.js";

const LARGEST_FILE = 200_000;
const SKETCH = "# New template\n\nWhat projects of this kind are about.\n\n## Sessions\n\n### First question\n\nWhat is to be found out?\n";

export async function show(container, params) {
  if (params.template) return showOne(container, params);
  if (!params.query.has("new")) return showAll(container, params);
  if (may("operator")) return edit(container, params, null, imported ?? SKETCH);
  fill(container, looking("a template"));
}

// -- all of them --------------------------------------------------------------------------------

async function showAll(container, { signal }) {
  const { templates } = await get("/api/templates", { signal });
  const body = page("Templates", {
    lead: "Blueprints of projects, each in one Markdown file: sessions with what they ask, what they depend on and what they are to come to.",
    actions: may("operator") ? buttons() : [],
  });
  body.append(tabs("templates"), templates.length ? el("ul", { class: "rows", role: "list" }, templates.map(row)) : nothing());
  fill(container, body);
}

function nothing() {
  const text = "Save a project as a template to begin it again elsewhere, write one here, or import a file.";
  return empty("blueprint", "No templates yet", text, ...(may("operator") ? buttons() : []));
}

const buttons = () => [importButton(), el("a", { class: "button primary", href: "/console/templates?new" }, icon("plus"), "New template")];

function row(one) {
  return el(
    "li",
    { class: "row-card tall project-row" },
    el(
      "div",
      { class: "row-main" },
      el("p", { class: "row-title" }, el("a", { href: templateLink(one.template) }, one.template)),
      one.description && el("p", { class: "clamp muted" }, one.description),
      el("p", { class: "row-more muted" }, el("span", {}, many(one.sessions, "session")), one.made_by && el("span", {}, `by ${one.made_by}`), updated(one.updated_at)),
    ),
    may("operator") ? instantiateButton(one.template, "small") : null,
  );
}

/** What was read from a file is edited before it is saved. */
let imported = null;

function importButton() {
  const file = el("input", { type: "file", accept: ".md,.markdown,.txt,text/markdown,text/plain", class: "visually-hidden", tabindex: "-1", "aria-label": "A file to import" });
  file.addEventListener("change", async () => {
    const [found] = file.files;
    if (!found) return;
    if (found.size > LARGEST_FILE) {
      toast("This file is no template", { kind: "bad", more: "A template has at most 200 kB." });
      return;
    }
    imported = await found.text();
    await go("/console/templates?new");
    imported = null;
  });
  return el("span", { class: "import" }, el("button", { class: "button", type: "button", onclick: () => file.click() }, icon("up"), "Import"), file);
}

function instantiateButton(template, kind) {
  const work = async () => {
    // Not waited for: the button is free again while the dialog is open.
    instantiate(template);
  };
  return doing("New project", work, { kind, glyph: "project", name: `New project from ${template}` });
}

async function instantiate(template) {
  const name = await ask({ title: `New project from ${template}`, label: "Name of the project", value: template, action: "Make project" });
  if (!name) return;
  try {
    const made = await post(templateApi(template, "/instantiate"), { name });
    toast(`${made.name} is made`);
    await go(projectLink(made.project));
  } catch (error) {
    problem(error, "No project could be made of it");
  }
}

// -- one of them --------------------------------------------------------------------------------

async function showOne(container, params) {
  const one = await get(templateApi(params.template), { signal: params.signal });
  title(one.template);
  return edit(container, params, one, one.source);
}

function edit(container, { signal, query }, one, source) {
  const editor = may("operator") ? new TemplateEditor(source, { signal, name: one?.template ?? null }) : null;
  const reading = el("div", { class: "card md template-reading" });
  const part = el("div", {});
  const choose = (way) => {
    fill(reading, render(editor?.source ?? source));
    fill(part, way === "source" && editor ? editor.node : reading);
    if (way === "source") editor?.grow();
  };
  const body = page(one?.template ?? "New template", {
    lead: one ? `${many(one.sessions, "session")}${one.made_by ? `, by ${one.made_by}` : ""}.` : "Write it below, and save it: its name is in the first heading.",
    actions: one ? [scanOne(one), instantiateOne(one), moreMenu(one)].filter(Boolean) : [],
  });
  body.prepend(backLink("/console/templates", "Templates"));
  if (editor) body.append(el("div", {}, segments("How the template is shown", [["source", "Source"], ["read", "Read"]], "source", choose)));
  body.append(part);
  choose("source");
  fill(container, body);
  return editor ? () => editor.close() : null;
}

const instantiateOne = (one) => may("operator") && instantiateButton(one.template, "primary");

function scanOne({ template, sessions }) {
  if (!may("operator") || sessions === 0) return null;
  const work = async () => {
    const text = `It begins ${many(sessions, "session")} in a new project of yours, each as soon as what it depends on allows. What becomes of them is told in a session of its own.`;
    if (!(await confirm({ title: `Run ${template} as a scan?`, text, action: "Run" }))) return;
    const { session } = await post(templateApi(template, "/scan"), {}, { headers: { "Idempotency-Key": crypto.randomUUID() } });
    await go(`/console/sessions/${session}`);
  };
  return doing("Run as a scan", work, { glyph: "play", failing: "The scan was not begun" });
}

function moreMenu(one) {
  const button = el("button", { class: "button icon", type: "button", "aria-label": "More about this template" }, icon("more"));
  const save = () => {
    const link = el("a", { href: templateApi(one.template, "/file"), download: "" });
    document.body.append(link);
    link.click();
    link.remove();
  };
  button.addEventListener("click", () =>
    menu(button, [
      { label: "Export as a file", icon: "download", run: save },
      ...(may("operator") ? [null, { label: "Delete", icon: "trash", danger: true, run: () => drop(one) }] : []),
    ]),
  );
  return button;
}

async function drop({ template }) {
  const text = "Projects that were made from it stay as they are.";
  if (!(await confirm({ title: `Delete ${template}?`, text, action: "Delete", danger: true }))) return;
  try {
    await remove(templateApi(template));
    toast(`${template} is deleted`);
    await go("/console/templates");
  } catch (error) {
    problem(error, "The template was not deleted");
  }
}
