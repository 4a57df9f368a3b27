// A form made from a schema, and its values.

import { el } from "./dom.js";
import { shown, typeOf } from "./investigations.js";
import { field, select } from "./parts.js";

const NONE = "";

export class DispositionForm {
  constructor(schema, values) {
    this.fields = Object.entries(schema).map(([name, type]) => made(name, typeOf(type), values?.[name]));
    this.problem = el("p", { class: "notice bad", role: "alert", hidden: true });
    this.node = el("div", { class: "stack" }, this.fields.map(({ node }) => node), this.problem);
    this.first = this.fields[0]?.control;
  }

  read() {
    const found = this.fields.map(({ name, value }) => [name, value()]).filter(([, value]) => value !== undefined);
    return Object.fromEntries(found);
  }

  /** Show what the service says: "name: what is wrong", one a line. */
  tell(words) {
    for (const one of this.fields) one.control.removeAttribute?.("aria-invalid");
    this.problem.hidden = false;
    this.problem.textContent = words;
    const named = this.fields.find(({ name }) => words.split("\n").some((line) => line.startsWith(`${name}:`)));
    named?.control.setAttribute("aria-invalid", "true");
    named?.control.focus();
  }
}

function made(name, type, value) {
  const label = type.optional ? `${name} (optional)` : name;
  if (type.kind === "enum") return type.list ? checks(name, label, type, value) : choice(name, label, type, value);
  if (type.list) return lines(name, label, type, value);
  return type.kind === "Number" ? number(name, label, value) : text(name, label, value);
}

function choice(name, label, type, value) {
  const known = type.values.includes(value);
  const control = select([...(known && !type.optional ? [] : [[NONE, "Choose …"]]), ...type.values], { value: known ? value : NONE });
  // What was set before the schema changed is told, not kept.
  const hint = value !== undefined && value !== null && !known ? `It was ${shown(value)}, which is no value of it any more.` : null;
  return { name, control, node: field(label, control, { hint }), value: () => control.value || undefined };
}

function checks(name, label, type, value) {
  const boxes = type.values.map((one) => ({ one, box: el("input", { type: "checkbox", checked: [value].flat().includes(one) }) }));
  const node = el("fieldset", { class: "field" }, el("legend", {}, label), el("div", { class: "row wrap" }, boxes.map(({ one, box }) => el("label", { class: "check" }, box, one))));
  const read = () => boxes.filter(({ box }) => box.checked).map(({ one }) => one);
  return { name, control: boxes[0].box, node, value: () => (read().length ? read() : undefined) };
}

function lines(name, label, type, value) {
  const control = el("textarea", { rows: "3" });
  control.value = [value].flat().filter((one) => one !== undefined && one !== null).join("\n");
  const read = () => control.value.split("\n").map((one) => one.trim()).filter(Boolean);
  const parsed = () => (type.kind === "Number" ? read().map(asNumber) : read());
  return { name, control, node: field(label, control, { hint: "One a line." }), value: () => (read().length ? parsed() : undefined) };
}

function number(name, label, value) {
  const control = el("input", { type: "number", step: "any", value: value ?? "", autocomplete: "off" });
  return { name, control, node: field(label, control), value: () => (control.value === "" ? undefined : Number(control.value)) };
}

function text(name, label, value) {
  const control = el("textarea", { rows: "2", maxlength: "4000" });
  control.value = value ?? "";
  return { name, control, node: field(label, control), value: () => control.value.trim() || undefined };
}

/** What is no number is sent as it is: the service says what is wrong with it. */
const asNumber = (words) => (Number.isFinite(Number(words)) ? Number(words) : words);
