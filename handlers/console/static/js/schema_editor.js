// What a session is to come to: its fields, one row each. Off until it is wanted.

import { el, fill } from "./dom.js";
import { icon } from "./icons.js";
import { typeOf, written } from "./investigations.js";
import { select, toggle } from "./parts.js";

const MOST = 30;
const KINDS = [
  ["enum", "One of …"],
  ["Number", "Number"],
  ["String", "Text"],
];

export class SchemaEditor {
  constructor(schema) {
    this.rows = Object.entries(schema ?? {}).map(([name, type]) => this.row(name, typeOf(type)));
    this.list = el("ol", { class: "schema-rows", role: "list" });
    this.add = el("button", { class: "button small", type: "button", onclick: () => this.grow() }, icon("plus"), "Add a field");
    this.body = el("div", { class: "stack tight" }, this.list, el("div", {}, this.add));
    this.switch = toggle("Ask for a disposition", this.rows.length > 0, (on) => this.turn(on));
    this.node = el(
      "fieldset",
      { class: "stack tight", dataset: { path: "schema" } },
      el("legend", { class: "visually-hidden" }, "Disposition"),
      el("div", { class: "row" }, this.switch, el("b", {}, "Disposition")),
      el("p", { class: "hint muted" }, "The structured answer that this session is to come to, such as a verdict. Other sessions can depend on it."),
      this.body,
    );
    this.turn(this.rows.length > 0);
  }

  turn(on) {
    this.body.hidden = !on;
    if (on && this.rows.length === 0) this.grow();
    else this.draw();
  }

  grow() {
    const row = this.row("", { kind: "enum", values: [], optional: false, list: false });
    this.rows.push(row);
    this.draw();
    row.name.focus();
  }

  draw() {
    fill(this.list, this.rows.map((row) => row.node));
    this.add.disabled = this.rows.length >= MOST;
  }

  row(name, type) {
    const row = {
      name: el("input", { class: "input", type: "text", value: name, maxlength: "60", autocomplete: "off", placeholder: "verdict", "aria-label": "Name of the field" }),
      kind: select(KINDS, { value: type.kind, "aria-label": "What it holds" }),
      values: el("input", { class: "input schema-values", type: "text", value: type.values.join(" | "), autocomplete: "off", placeholder: "CONFIRMED | REFUTED | OPEN", "aria-label": "Its values, with | between them" }),
      optional: el("input", { type: "checkbox", checked: type.optional }),
      list: el("input", { type: "checkbox", checked: type.list }),
    };
    const away = () => {
      this.rows = this.rows.filter((one) => one !== row);
      this.draw();
      this.add.focus();
    };
    const describe = () => {
      row.values.hidden = row.kind.value !== "enum";
    };
    row.kind.addEventListener("change", describe);
    describe();
    row.node = el(
      "li",
      { class: "schema-row" },
      row.name,
      row.kind,
      el("span", { class: "row schema-more" }, el("label", { class: "check" }, row.optional, "optional"), el("label", { class: "check" }, row.list, "list")),
      el("button", { class: "button quiet icon small", type: "button", "aria-label": `Remove the field ${name || "without a name"}`, title: "Remove this field", onclick: away }, icon("close")),
      row.values,
    );
    return row;
  }

  /** The schema as it is sent: null when none is wanted. */
  read() {
    if (this.switch.getAttribute("aria-checked") !== "true") return null;
    const entries = this.rows.map((row) => [row.name.value.trim(), written(typed(row))]).filter(([name, type]) => name || type);
    return entries.length ? Object.fromEntries(entries) : null;
  }

  /** The first thing that keeps it from being sent: [control, sentence]. */
  missing() {
    if (this.read() === null) return null;
    const names = new Set();
    for (const row of this.rows) {
      const name = row.name.value.trim();
      if (!name) return [row.name, "Give the field of the disposition a name."];
      if (names.has(name)) return [row.name, `Two fields are called ${name}. Give one of them another name.`];
      names.add(name);
      if (row.kind.value === "enum" && typed(row).values.length < 2) return [row.values, `Say which values ${name} takes: at least two, with | between them.`];
    }
    return null;
  }

  /** The control of a field, to show a problem at. */
  control(name) {
    return this.rows.find((row) => row.name.value.trim() === name)?.name ?? this.add;
  }
}

function typed({ kind, values, optional, list }) {
  const given = values.value.split("|").map((one) => one.trim()).filter(Boolean);
  return { kind: kind.value, values: kind.value === "enum" ? given : [], optional: optional.checked, list: list.checked };
}
