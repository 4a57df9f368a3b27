// What a session waits for: other sessions of its project, with a condition if wanted.

import { el, fill } from "./dom.js";
import { icon } from "./icons.js";
import { choices } from "./investigations.js";
import { select } from "./parts.js";

const COMPLETE = "";

export class DependencyEditor {
  /** `siblings` are the sessions that can be depended on, `given` what it depends on now. */
  constructor(siblings, given = []) {
    this.siblings = siblings;
    // What was deleted cannot be asked for again; it goes when the form is saved.
    this.rows = given.filter((one) => siblings.some(({ session }) => session === one.session)).map((one) => this.row(one));
    this.lost = given.filter((one) => !siblings.some(({ session }) => session === one.session));
    this.list = el("ol", { class: "depend-rows", role: "list" });
    this.add = el("button", { class: "button small", type: "button", onclick: () => this.grow() }, icon("plus"), "Add a dependency");
    const none = el("p", { class: "hint muted" }, siblings.length ? "It can be started once these sessions have come to what is asked of them." : "There is no other session in this project to wait for.");
    const lost = this.lost.map((one) => el("p", { class: "notice warn" }, icon("alert"), `“${one.title}” was deleted. Saving takes it out.`));
    this.node = el("fieldset", { class: "stack tight", dataset: { path: "dependencies" } }, el("legend", { class: "legend-title" }, "Depends on"), none, lost, this.list, siblings.length > 0 && el("div", {}, this.add));
    this.draw();
  }

  grow() {
    const taken = new Set(this.rows.map((row) => row.session.value));
    const free = this.siblings.find(({ session }) => !taken.has(session));
    if (!free) return;
    const row = this.row({ session: free.session });
    this.rows.push(row);
    this.draw();
    row.session.focus();
  }

  draw() {
    fill(this.list, this.rows.map((row) => row.node));
    this.add.disabled = this.rows.length >= this.siblings.length;
  }

  row({ session, field = null, value = null }) {
    const options = this.siblings.map((one) => [one.session, one.title]);
    const row = { session: select(options, { value: session, "aria-label": "The session to wait for" }), when: el("span", { class: "depend-when" }) };
    const conditions = (wanted) => {
      const upstream = this.siblings.find((one) => one.session === row.session.value);
      const found = choices(upstream?.schema).flatMap(([name, values]) => values.map((one) => [JSON.stringify([name, one]), `${name} = ${one}`]));
      // A condition that the schema has no room for any more stays until somebody takes another.
      const lost = wanted !== COMPLETE && found.every(([given]) => given !== wanted) ? [[wanted, `${JSON.parse(wanted).join(" = ")}, which its schema lacks now`]] : [];
      row.condition = select([[COMPLETE, "is complete"], ...found, ...lost], { value: wanted, "aria-label": "What it has to come to" });
      fill(row.when, row.condition);
    };
    row.session.addEventListener("change", () => conditions(COMPLETE));
    conditions(field ? JSON.stringify([field, value]) : COMPLETE);
    const away = () => {
      this.rows = this.rows.filter((one) => one !== row);
      this.draw();
      this.add.focus();
    };
    row.node = el("li", { class: "depend-row" }, row.session, row.when, el("button", { class: "button quiet icon small", type: "button", "aria-label": "Remove this dependency", title: "Remove this dependency", onclick: away }, icon("close")));
    return row;
  }

  /** The dependencies as they are sent. */
  read() {
    return this.rows.map(({ session, condition }) => {
      if (condition.value === COMPLETE) return { session: session.value };
      const [field, value] = JSON.parse(condition.value);
      return { session: session.value, field, value };
    });
  }

  /** The control of a row, to show a problem at. */
  control(place) {
    return this.rows[place]?.session ?? this.add;
  }
}
