// Give a tool result a title and a way it is shown: that makes it a key result.

import { patch } from "./api.js";
import { KINDS, chart } from "./chart.js";
import { open } from "./dialog.js";
import { el, fill } from "./dom.js";
import { field, segments, select } from "./parts.js";
import { resultApi } from "./result_card.js";
import { problem } from "./toast.js";

const NONE = "";
const MOST_SERIES = 8;
const VIEWS = [
  ["both", "Chart and table"],
  ["chart", "Chart"],
  ["table", "Table"],
];

/** Ask how it is shown; true when it was stored. */
export async function editResult(session, result, data) {
  let table;
  try {
    ({ table } = await data.read());
  } catch (error) {
    problem(error, "The data of it could not be read");
    return false;
  }
  const form = new Form(result, table);
  const chosen = await open({
    title: result.title ? "Edit key result" : "Promote to key result",
    body: form.node,
    focus: form.title,
    wide: true,
    actions: [
      { label: "Cancel", value: null },
      { label: result.title ? "Save" : "Promote", value: "yes", primary: true, run: () => form.store(session, result) },
    ],
  });
  return chosen === "yes";
}

class Form {
  constructor(result, table) {
    this.table = table;
    this.title = el("input", { type: "text", maxlength: "200", value: result.title ?? "", autocomplete: "off" });
    this.description = el("textarea", { rows: "2", maxlength: "4000" });
    this.description.value = result.description ?? "";
    this.display = result.display ?? "both";
    this.problem = el("p", { class: "notice bad", role: "alert", hidden: true });
    this.node = el("div", { class: "stack" }, field("Title", this.title), field("Description", this.description, { hint: "What it says, and what to mind." }), table && this.chartPart(result.chart), this.problem);
  }

  chartPart(spec) {
    const { columns, rows } = this.table;
    const numbers = columns.filter((_, place) => rows.some((row) => row[place] !== null) && rows.every((row) => row[place] === null || typeof row[place] === "number"));
    if (numbers.length === 0) return el("p", { class: "muted" }, "It has no column of numbers, so it is shown as a table.");
    this.kind = select([[NONE, "No chart"], ...KINDS], { value: spec?.kind ?? NONE });
    this.x = select(columns, { value: spec?.x ?? columns.find((one) => !numbers.includes(one)) ?? columns[0] });
    const first = numbers.find((one) => one !== this.x.value) ?? numbers[0];
    this.boxes = numbers.map((name) => ({ name, box: el("input", { type: "checkbox", checked: spec ? spec.y.includes(name) : name === first }) }));
    this.preview = el("div", {});
    const more = el(
      "div",
      { class: "stack" },
      el("fieldset", { class: "field" }, el("legend", {}, "Numbers"), el("div", { class: "row wrap" }, this.boxes.map(({ name, box }) => el("label", { class: "check" }, box, name)))),
      el("div", { class: "field" }, el("span", { class: "label" }, "Shown first"), el("div", {}, segments("Shown first", VIEWS, this.display, (way) => (this.display = way)))),
      this.preview,
    );
    const along = field("Along", this.x);
    const draw = () => {
      const wanted = this.spec();
      more.hidden = !this.kind.value;
      along.hidden = !this.kind.value;
      fill(this.preview, wanted && wanted.y.length > 0 && chart(wanted, this.table));
    };
    for (const control of [this.kind, this.x, ...this.boxes.map(({ box }) => box)]) control.addEventListener("change", draw);
    draw();
    return [el("div", { class: "fields" }, field("Chart", this.kind), along), more];
  }

  spec() {
    if (!this.kind?.value) return null;
    const y = this.boxes.filter(({ box }) => box.checked).map(({ name }) => name);
    return { kind: this.kind.value, x: this.x.value, y: y.slice(0, MOST_SERIES) };
  }

  async store(session, result) {
    const title = this.title.value.trim();
    if (!title) return this.tell("Give it a title.");
    const spec = this.spec();
    if (spec?.y.length === 0) return this.tell("Choose at least one column of numbers, or no chart.");
    const named = spec && result.chart?.title ? { ...spec, title: result.chart.title } : spec;
    try {
      await patch(resultApi(session, result.result), { title, description: this.description.value.trim(), chart: named, display: named ? this.display : "table" });
    } catch (error) {
      return this.tell(error.message);
    }
    return true;
  }

  tell(words) {
    this.problem.hidden = false;
    this.problem.textContent = words;
    return false;
  }
}
