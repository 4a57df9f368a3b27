// The fields of a project: what it is called, what its agents are told, what they may use.

import { el, fill, uid } from "./dom.js";
import { icon } from "./icons.js";
import { SHARES } from "./investigations.js";
import { field, segments, select } from "./parts.js";
import { suggested } from "./project_people.js";

const DOMAINS = ["Data quality", "Finance", "Operations", "Product", "Research", "Sales", "Security", "Support"];

export class ProjectForm {
  /** `agents` are the configured ones, `tools` what may be used, `domains` those in use already. */
  constructor({ agents, tools, domains = [], project = null }) {
    const known = uid("domains");
    this.name = el("input", { type: "text", value: project?.name ?? "", maxlength: "120", required: true, autocomplete: "off", autofocus: true });
    this.domain = el("input", { type: "text", value: project?.domain ?? "", maxlength: "120", autocomplete: "off", list: known, placeholder: "Security" });
    this.description = area(project?.description, 2, "What it is about, for those who find it in the list.");
    this.prompt = area(project?.prompt, 5, "You look into … Be exact, cite what you found.");
    this.agent = select([["", "Each session says"], ...agents.map((one) => [one.agent, `${one.agent} · ${one.model}`])], { value: project?.agent ?? "" });
    this.chosen = new Set(project?.tools ?? tools);
    this.narrow = Boolean(project?.tools);
    this.tools = tools;
    const options = [...new Set([...domains.filter(Boolean), ...DOMAINS])].sort().map((one) => el("option", { value: one }));
    this.node = el(
      "div",
      { class: "stack wide-gaps" },
      el(
        "div",
        { class: "stack" },
        el("div", { class: "fields" }, field("Name", this.name), field("Domain", this.domain)),
        el("datalist", { id: known }, options),
        field("Description", this.description),
      ),
      el("div", { class: "stack" }, field("Prompt", this.prompt, { hint: "Every agent of this project is told this first." }), field("Agent", this.agent), this.toolsPart()),
    );
  }

  toolsPart() {
    const list = el("div", { class: "check-list" }, this.tools.map((tool) => this.check(tool)));
    const choose = (way) => {
      this.narrow = way === "some";
      list.hidden = !this.narrow;
    };
    const ways = segments("Tools", [["all", "All of the agent's"], ["some", "Only these"]], this.narrow ? "some" : "all", choose);
    choose(this.narrow ? "some" : "all");
    return el("fieldset", { class: "field", dataset: { path: "tools" } }, el("legend", {}, "Tools"), el("div", {}, ways), list);
  }

  check(tool) {
    const box = el("input", { type: "checkbox", checked: this.chosen.has(tool), value: tool });
    box.addEventListener("change", () => (box.checked ? this.chosen.add(tool) : this.chosen.delete(tool)));
    return el("label", { class: "check" }, box, el("code", {}, tool));
  }

  read() {
    return {
      name: this.name.value.trim(),
      domain: this.domain.value.trim(),
      description: this.description.value.trim(),
      prompt: this.prompt.value.trim(),
      agent: this.agent.value || null,
      tools: this.narrow ? this.tools.filter((one) => this.chosen.has(one)) : null,
    };
  }

  /** Mark the control that the service found wrong: "name: …". */
  mark(message) {
    for (const control of [this.name, this.domain, this.description, this.prompt, this.agent]) control.removeAttribute("aria-invalid");
    const control = this[/^(\w+)/.exec(message)?.[1]];
    if (!(control instanceof HTMLElement)) return;
    control.setAttribute("aria-invalid", "true");
    control.focus();
  }
}

/** Who else may see it; rows of a name and what they may do. */
export class MembersForm {
  constructor() {
    this.rows = [];
    this.list = el("ol", { class: "member-rows", role: "list" });
    const add = el("button", { class: "button small", type: "button", onclick: () => this.grow() }, icon("plus"), "Add a person");
    this.node = el(
      "fieldset",
      { class: "stack tight", dataset: { path: "members" } },
      el("legend", { class: "legend-title" }, "Members"),
      el("p", { class: "hint muted" }, "Only you see the project until you name others: people of this console, tokens, or telegram:ID."),
      this.list,
      el("div", {}, add),
    );
  }

  grow() {
    const name = el("input", { class: "input", type: "text", maxlength: "120", autocomplete: "off", placeholder: "ann", "aria-label": "Name of the member" });
    const share = select(SHARES, { "aria-label": "What they may do" });
    const away = el("button", { class: "button quiet icon small", type: "button", "aria-label": "Leave this member out" }, icon("close"));
    const row = { name, share, node: el("li", { class: "member-row" }, name, suggested(name), share, away) };
    away.addEventListener("click", () => {
      this.rows = this.rows.filter((one) => one !== row);
      fill(this.list, this.rows.map((one) => one.node));
    });
    this.rows.push(row);
    fill(this.list, this.rows.map((one) => one.node));
    name.focus();
  }

  read() {
    return this.rows.map(({ name, share }) => ({ name: name.value.trim(), share: share.value })).filter(({ name }) => name);
  }
}

function area(value, rows, placeholder) {
  const node = el("textarea", { rows: String(rows), maxlength: "20000", placeholder });
  node.value = value ?? "";
  return node;
}
