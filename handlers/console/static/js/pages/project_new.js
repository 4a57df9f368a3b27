// A new project, blank or from a template; the same form changes one that is there.

import { get, patch, post } from "../api.js";
import { doing } from "../doing.js";
import { el, fill } from "../dom.js";
import { icon } from "../icons.js";
import { many, projectApi, projectLink, templateApi, templateLink } from "../investigations.js";
import { empty, field, page, segments, select } from "../parts.js";
import { MembersForm, ProjectForm } from "../project_form.js";
import { backLink, trouble } from "../project_tabs.js";
import { go, guardForm, title } from "../router.js";
import { toast } from "../toast.js";

const WAYS = [
  ["blank", "Blank"],
  ["template", "From a template"],
];

export async function show(container, params) {
  return params.project ? edit(container, params) : begin(container, params);
}

async function begin(container, { query, signal }) {
  const [{ agents }, { projects }, { templates }] = await Promise.all([
    get("/api/agents", { signal }),
    get("/api/projects", { signal }),
    get("/api/templates", { signal }).catch(() => ({ templates: [] })),
  ]);
  const tools = [...new Set(agents.flatMap((one) => one.tools ?? []))].sort();
  const domains = projects.map((one) => one.domain);
  const parts = { blank: blank({ agents, tools, domains }), template: fromTemplate(templates, query.get("template")) };
  const part = el("div", {});
  const choose = (way) => fill(part, parts[way]);
  const way = query.has("template") ? "template" : "blank";
  const body = page("New project", { lead: "A place for sessions that belong to one investigation.", narrow: true });
  body.prepend(backLink("/console/projects", "Projects"));
  body.append(el("div", {}, segments("What to begin with", WAYS, way, choose)), part);
  choose(way);
  fill(container, body);
}

function blank(known) {
  const form = new ProjectForm(known);
  const members = new MembersForm();
  const make = async () => {
    const given = members.read();
    return post("/api/projects", { ...form.read(), ...(given.length && { members: given }) });
  };
  return framed(form, [members.node], "Make project", "/console/projects", async () => {
    const made = await make();
    toast(`${made.name} is made`);
    await go(projectLink(made.project), { replace: true });
  });
}

/** A form with its buttons, and what is wrong where it belongs. */
function framed(form, more, label, away, store) {
  const { node: told, tell } = trouble();
  const work = async () => {
    tell(null);
    if (!form.name.value.trim()) {
      tell("Give the project a name.");
      form.mark("name");
      return;
    }
    try {
      await store();
    } catch (error) {
      if (![400, 409, 422].includes(error.status)) throw error;
      tell(error.message);
      form.mark(error.message);
    }
  };
  const save = doing(label, work, { kind: "primary", failing: "The project was not saved" });
  const node = el(
    "form",
    { class: "stack wide-gaps", novalidate: true, onsubmit: (event) => (event.preventDefault(), save.click()) },
    form.node,
    more,
    told,
    el("div", { class: "actions end" }, el("a", { class: "button quiet", href: away, dataset: { discards: "" } }, "Cancel"), save),
  );
  return guardForm(node);
}

function fromTemplate(templates, wanted) {
  if (templates.length === 0) {
    const make = el("a", { class: "button", href: "/console/templates" }, "Templates");
    return empty("blueprint", "No templates yet", "A template is the blueprint of a project: its sessions with what they ask and depend on. Save a project as one, or write one.", make);
  }
  const chosen = select(templates.map((one) => one.template), { value: wanted });
  const name = el("input", { type: "text", maxlength: "120", autocomplete: "off" });
  const about = el("p", { class: "muted" });
  const describe = () => {
    const found = templates.find((one) => one.template === chosen.value);
    name.placeholder = found.template;
    fill(about, [found.description, `It has ${many(found.sessions, "session")}.`].filter(Boolean).join(" "), " ", el("a", { href: templateLink(found.template) }, "Read it"));
  };
  chosen.addEventListener("change", describe);
  describe();
  const work = async () => {
    const given = name.value.trim();
    const made = await post(templateApi(chosen.value, "/instantiate"), given ? { name: given } : {});
    toast(`${made.name} is made`);
    await go(projectLink(made.project), { replace: true });
  };
  const make = doing("Make project", work, { kind: "primary", failing: "No project could be made of it" });
  return el(
    "form",
    { class: "stack", novalidate: true, onsubmit: (event) => (event.preventDefault(), make.click()) },
    field("Template", chosen),
    about,
    field("Name", name, { hint: "Left empty, it is called as the template." }),
    el("div", { class: "actions end" }, el("a", { class: "button quiet", href: "/console/projects" }, "Cancel"), make),
  );
}

async function edit(container, { project: id, signal }) {
  const [project, { agents }, { projects }] = await Promise.all([
    get(projectApi(id), { signal }),
    get("/api/agents", { signal }),
    get("/api/projects", { signal }),
  ]);
  title(project.name);
  const tools = [...new Set([...(project.available_tools ?? []), ...(project.tools ?? [])])].sort();
  const form = new ProjectForm({ agents, tools, domains: projects.map((one) => one.domain), project });
  const body = page("Edit project", { lead: "Sessions are told of it from their next turn on.", narrow: true });
  body.prepend(backLink(projectLink(id), project.name));
  if (!project.may_write) body.append(el("p", { class: "notice" }, icon("alert"), "You can look at this project, not change it."));
  else {
    const store = async () => {
      await patch(projectApi(id), form.read());
      toast("The project is saved");
      await go(projectLink(id), { replace: true });
    };
    body.append(framed(form, [], "Save", projectLink(id), store));
  }
  fill(container, body);
}
