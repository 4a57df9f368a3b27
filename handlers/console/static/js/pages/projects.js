// Projects: places where investigations are kept, and one box to ask a question at once.

import { get, may, post } from "../api.js";
import { doing } from "../doing.js";
import { el, fill } from "../dom.js";
import { icon } from "../icons.js";
import { many, projectLink, sessionLink, shareBadge, updated } from "../investigations.js";
import { badge, empty, page } from "../parts.js";
import { tabs } from "../project_tabs.js";
import { go } from "../router.js";
import { problem } from "../toast.js";

export async function show(container, { signal }) {
  const { projects } = await get("/api/projects", { signal });
  const body = page("Projects", {
    lead: "Questions to data and systems, asked in sessions that come to results: tables, charts and a determination that others can build on.",
    actions: may("operator") ? [newLink()] : [],
  });
  body.append(may("operator") ? askBox() : "", tabs("projects"));
  body.append(projects.length ? el("ul", { class: "rows", role: "list" }, projects.map(row)) : nothing());
  fill(container, body);
}

const newLink = () => el("a", { class: "button primary", href: "/console/projects/new" }, icon("plus"), "New project");

function nothing() {
  const text = "A project gathers the sessions of one investigation: what they ask, what they wait for, and what they come to. Begin with a blank one or from a template.";
  return empty("project", "No projects yet", text, ...(may("operator") ? [newLink()] : []));
}

function row(project) {
  return el(
    "li",
    { class: "row-card tall project-row" },
    el(
      "div",
      { class: "row-main" },
      el("p", { class: "row-title" }, el("a", { href: projectLink(project.project) }, project.name), project.domain && badge(project.domain)),
      project.description && el("p", { class: "clamp muted" }, project.description),
      el(
        "p",
        { class: "row-more muted" },
        el("span", {}, many(project.sessions, "session")),
        project.results > 0 && el("span", {}, many(project.results, "key result")),
        updated(project.active_at ?? project.updated_at, "Active"),
      ),
    ),
    shareBadge(project),
  );
}

/** A question without a project of its own: it is asked in the private one. */
function askBox() {
  const text = el("textarea", { class: "input ask-text", rows: "1", maxlength: "20000", placeholder: "Ask a question", "aria-label": "Ask a question" });
  const send = doing("Ask", () => ask(text), { kind: "primary", failing: "The question was not asked" });
  const grow = () => {
    text.style.height = "auto";
    text.style.height = `${Math.min(text.scrollHeight + 2, 220)}px`;
  };
  text.addEventListener("input", grow);
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send.click();
  });
  return el("form", { class: "ask-box", onsubmit: (event) => (event.preventDefault(), send.click()) }, icon("search"), text, send);
}

async function ask(text) {
  const words = text.value.trim();
  if (!words) {
    text.focus();
    return;
  }
  try {
    const made = await post("/api/ask", { text: words }, { headers: { "Idempotency-Key": crypto.randomUUID() } });
    await go(sessionLink(made.session, made.project?.project ?? made.project));
  } catch (error) {
    problem(error, "The question was not asked");
  }
}
