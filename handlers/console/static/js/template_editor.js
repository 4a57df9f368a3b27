// A template as text, checked while it is written: what is wrong stands beside its line.

import { post, put } from "./api.js";
import { doing } from "./doing.js";
import { el, fill } from "./dom.js";
import { icon } from "./icons.js";
import { many, templateApi, templateLink } from "./investigations.js";
import { go, guard } from "./router.js";
import { problem, toast } from "./toast.js";

const CHECK_AFTER_MS = 400;
const LONGEST = 200_000;

export class TemplateEditor {
  /** `name` is what it is saved as now; null for a new one. */
  constructor(source, { signal, name }) {
    this.signal = signal;
    this.name = name;
    this.saved = name === null ? null : source;
    this.checked = null;
    this.asked = 0;
    this.lines = el("pre", { class: "editor-lines", "aria-hidden": "true" });
    this.text = el("textarea", { class: "editor-text", wrap: "off", spellcheck: "false", autocomplete: "off", autocapitalize: "off", maxlength: String(LONGEST), "aria-label": "Source of the template", autofocus: name === null });
    this.text.value = source;
    this.text.addEventListener("input", () => this.typed());
    this.text.addEventListener("scroll", () => (this.lines.style.transform = `translateY(${-this.text.scrollTop}px)`));
    this.text.addEventListener("keydown", (event) => {
      if (!(event.key === "s" && (event.ctrlKey || event.metaKey))) return;
      event.preventDefault();
      this.save.click();
    });
    this.problems = el("ol", { class: "editor-problems", role: "list" });
    this.verdict = el("p", { class: "editor-verdict", role: "status" });
    this.save = doing("Save", () => this.store(), { kind: "primary", failing: "The template was not saved" });
    this.format = doing("Reformat", () => this.reformat(), { failing: "It was not reformatted" });
    this.node = el(
      "div",
      { class: "editor-columns" },
      el("div", { class: "editor" }, el("div", { class: "editor-gutter" }, this.lines), this.text),
      el("aside", { class: "stack tight editor-side", "aria-label": "Check" }, this.verdict, this.problems, el("div", { class: "actions" }, this.save, this.format)),
    );
    guard(() => this.changed);
    this.number([]);
    this.check();
  }

  get source() {
    return this.text.value;
  }

  get changed() {
    return this.saved === null ? this.source.trim() !== "" && this.touched : this.source !== this.saved;
  }

  close() {
    clearTimeout(this.waiting);
  }

  /** As tall as its text, within reason. */
  grow() {
    const lines = Math.min(34, Math.max(16, this.source.split("\n").length + 1));
    this.text.style.height = `${lines * 21 + 26}px`;
  }

  typed() {
    this.touched = true;
    this.number(this.wrong ?? []);
    this.grow();
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.check(), CHECK_AFTER_MS);
  }

  /** The numbers of the lines; those with a problem stand out. */
  number(wrong) {
    const count = this.source.split("\n").length;
    const key = `${count} ${wrong.join()}`;
    if (key === this.numbered) return;
    this.numbered = key;
    const bad = new Set(wrong);
    fill(this.lines, Array.from({ length: count }, (_, place) => el("span", { class: bad.has(place + 1) ? "bad" : null }, `${place + 1}\n`)));
  }

  async check() {
    this.asked += 1;
    const asked = this.asked;
    try {
      const found = await post("/api/templates/check", { source: this.source }, { signal: this.signal });
      // Answers may overtake each other: the newest question counts.
      if (asked === this.asked) this.tell(found);
      return found;
    } catch (error) {
      if (error.name !== "AbortError") fill(this.verdict, icon("alert"), "It could not be checked.");
      return null;
    }
  }

  tell({ errors, formatted, name }) {
    this.checked = { errors, formatted, name };
    this.wrong = errors.map((one) => one.line);
    this.number(this.wrong);
    this.verdict.className = errors.length ? "editor-verdict bad" : "editor-verdict ok";
    fill(this.verdict, icon(errors.length ? "alert" : "check"), errors.length ? many(errors.length, "problem") : name && name !== this.name ? `It can be saved, as “${name}”` : "No problems");
    fill(this.problems, errors.map((one) => this.problem(one)));
  }

  problem({ line, message }) {
    return el("li", {}, el("button", { class: "editor-problem", type: "button", onclick: () => this.jump(line) }, el("b", {}, `Line ${line}`), el("span", {}, message)));
  }

  /** Select a line and bring it into sight. */
  jump(line) {
    const lines = this.source.split("\n");
    const from = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
    this.text.focus();
    this.text.setSelectionRange(from, from + (lines[line - 1]?.length ?? 0));
    const tall = this.text.scrollHeight / Math.max(1, lines.length);
    this.text.scrollTop = Math.max(0, (line - 1) * tall - this.text.clientHeight / 2);
    this.text.scrollLeft = 0;
  }

  async reformat() {
    const found = await this.check();
    if (!found) return;
    if (found.formatted === null) {
      toast("It is reformatted once it has no problems");
      return;
    }
    if (found.formatted === this.source) {
      toast("It is formatted already");
      return;
    }
    // As if it was typed, so that it can be undone.
    this.text.focus();
    this.text.select();
    document.execCommand("insertText", false, found.formatted);
    if (this.source !== found.formatted) this.text.value = found.formatted;
    this.text.setSelectionRange(0, 0);
    this.text.scrollTop = 0;
    this.typed();
  }

  async store() {
    const found = await this.check();
    if (!found) return;
    if (found.errors.length) {
      this.jump(found.errors[0].line);
      return;
    }
    try {
      const made = await put(templateApi(found.name), { source: this.source });
      this.saved = this.source;
      toast(`${made.template ?? found.name} is saved`);
      if (found.name !== this.name) await go(templateLink(found.name), { replace: true });
    } catch (error) {
      if (!error.body?.errors) return problem(error, "The template was not saved");
      this.tell({ errors: error.body.errors, formatted: null, name: found.name });
    }
  }
}
