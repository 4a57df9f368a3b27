// Where one writes: words, files, whom they are for, and what becomes of them while an answer runs.

import { el, fill, uid } from "./dom.js";
import { forget, recall, remember } from "./drafts.js";
import { initials } from "./feed_view.js";
import { icon } from "./icons.js";
import { menu, place } from "./menu.js";
import { segments } from "./parts.js";
import { size } from "./time.js";
import { toast } from "./toast.js";

const LONGEST_TEXT = 200_000;
const LIMITS = { attachment_bytes: 10_485_760, attachments_per_message: 10 };
const BUSY = [
  ["queue", "Queue"],
  ["steer", "Steer"],
  ["interrupt", "Interrupt"],
];
const BUSY_HINTS = {
  queue: "It is answered after what runs now.",
  steer: "It is taken along by the answer that runs.",
  interrupt: "What runs now ends, and this is answered.",
};

/** Voices whose name goes on after what stands behind the last @; null without one. */
export function addressed(text, caret, voices) {
  const match = /(?:^|\s)@([^@\n]{0,40})$/.exec(text.slice(0, caret));
  if (!match) return null;
  const begun = match[1].toLowerCase();
  const found = voices.filter((one) => one.active !== false && one.name.toLowerCase().startsWith(begun));
  return found.length > 0 ? { found, from: caret - match[1].length - 1 } : null;
}

/** The voice that a text calls by @name first, as the service reads it; null for none. */
export function mentioned(text, voices) {
  let found = null;
  for (const voice of voices) {
    if (voice.active === false) continue;
    const name = voice.name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    const match = new RegExp(`(^|\\s)@${name}(?=[\\s,.!?:]|$)`, "iu").exec(text);
    if (!match) continue;
    const at = match.index + match[1].length;
    const sooner = found === null || at < found.at || (at === found.at && voice.name.length > found.voice.name.length);
    if (sooner) found = { voice, at };
  }
  return found?.voice ?? null;
}

/** Files that fit, and a sentence for each that does not. */
export function checked(files, have, limits = LIMITS) {
  const fit = [];
  const problems = [];
  for (const file of files) {
    if (have + fit.length >= limits.attachments_per_message) {
      problems.push(`${file.name}: at most ${limits.attachments_per_message} files go with one message.`);
    } else if (file.size === 0) {
      problems.push(`${file.name} is empty.`);
    } else if (file.size > limits.attachment_bytes) {
      problems.push(`${file.name} has ${size(file.size)}; a file may have ${size(limits.attachment_bytes)}. Make it smaller.`);
    } else {
      fit.push(file);
    }
  }
  return { fit, problems };
}

/** `host` gives session(), voices(), running(), send(message), stop(), target(voice), restore(). */
export class Composer {
  /** `name` is who writes. */
  constructor(host, { limits, name } = {}) {
    this.host = host;
    this.name = name;
    this.limits = { ...LIMITS, ...limits };
    this.files = [];
    this.busy = null;
    this.picker = null;
    this.text = el("textarea", {
      rows: "1",
      "aria-label": "Message",
      maxlength: String(LONGEST_TEXT),
      enterkeyhint: "send",
      autocomplete: "off",
    });
    this.text.addEventListener("input", () => this.typed());
    this.text.addEventListener("keydown", (event) => this.keys(event));
    this.text.addEventListener("paste", (event) => this.pasted(event));
    this.text.addEventListener("blur", () => setTimeout(() => this.closePicker(), 150));
    this.input = el("input", { type: "file", multiple: true, hidden: true, tabindex: "-1", "aria-hidden": "true" });
    this.input.addEventListener("change", () => {
      this.take(this.input.files);
      this.input.value = "";
    });
    this.notes = el("div", { class: "composer-notes" });
    this.chips = el("ul", { class: "files", role: "list", "aria-label": "Files to send" });
    this.sendButton = el("button", { class: "button primary icon", type: "submit", "aria-label": "Send", title: "Send (Enter)" }, icon("send"));
    this.stopButton = el("button", { class: "button icon", type: "button", "aria-label": "Stop", title: "Stop the answer", hidden: true, onclick: () => host.stop() }, icon("stop"));
    const clip = el("button", { class: "button quiet icon", type: "button", "aria-label": "Add files", title: "Add files", onclick: () => this.input.click() }, icon("clip"));
    this.form = el(
      "form",
      { class: "composer-box" },
      this.chips,
      this.text,
      el("div", { class: "composer-row" }, clip, this.notes, this.stopButton, this.sendButton),
      this.input,
    );
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.closed = el("div", { class: "notice", hidden: true });
    this.foot = el("p", { class: "composer-foot" });
    this.node = el("div", { class: "composer" }, this.closed, this.form, this.foot);
    this.drawn = "";
    this.drawFiles();
  }

  /** Take over what was being written in this session. */
  restoreDraft() {
    const draft = recall(this.host.session().session, this.name);
    if (draft) {
      this.text.value = draft.text;
      this.files = draft.files;
      this.drawFiles();
    }
    this.grow();
    this.update();
  }

  focus() {
    if (!this.form.hidden) this.text.focus();
  }

  /** Put a message back that could not be sent. */
  put({ text, files }) {
    this.text.value = [text, this.text.value].filter(Boolean).join("\n");
    this.files = [...files, ...this.files];
    this.drawFiles();
    this.typed();
    this.focus();
  }

  // -- drawing ---------------------------------------------------------------------------------

  update() {
    const session = this.host.session();
    const running = this.host.running();
    const reason = this.host.closed();
    this.form.hidden = Boolean(reason);
    this.closed.hidden = !reason;
    this.stopButton.hidden = !running;
    if (reason) this.drawClosed(reason);
    const voices = this.host.voices().filter((one) => one.active !== false);
    const target = voices.find((one) => one.voice === this.host.aimed());
    const directed = session.mode === "conductor" && this.host.voices().length > 1;
    this.text.placeholder = this.words(voices, target, directed);
    this.sendButton.disabled = !this.text.value.trim() && this.files.length === 0;
    const drawn = JSON.stringify([reason, running, this.busy ?? session.busy, directed, target?.name, voices.length]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    fill(this.notes, directed || target ? this.badge(voices, target, directed) : null, running ? this.policy(session) : null);
  }

  words(voices, target, directed) {
    if (target) return `Message to ${target.name}`;
    if (directed && voices.length > 1) return "Pick a voice, or write @ and its name";
    return voices.length > 1 ? "Message to all voices" : "Message";
  }

  badge(voices, target, directed) {
    const button = el(
      "button",
      { class: "badge accent", type: "button", title: "Who answers" },
      icon("at"),
      target ? `Directed to ${target.name}` : "Directed: pick a voice",
    );
    button.addEventListener("click", () =>
      menu(button, [
        ...voices.map((one) => ({ label: one.name, icon: one.voice === target?.voice ? "check" : "person", run: () => this.host.target(one.voice) })),
        ...(!directed && target ? [null, { label: "All voices", icon: "people", run: () => this.host.target(null) }] : []),
      ]),
    );
    return button;
  }

  policy(session) {
    const value = this.busy ?? session.busy ?? "queue";
    const group = segments("While it answers", BUSY, value, (chosen) => {
      this.busy = chosen;
      group.title = BUSY_HINTS[chosen];
    });
    group.title = BUSY_HINTS[value];
    group.classList.add("small");
    return group;
  }

  drawClosed({ text, restore }) {
    const button = restore && el("button", { class: "button small", type: "button", onclick: () => this.host.restore() }, icon("restore"), "Restore to active");
    fill(this.closed, icon(restore ? "archive" : "alert"), el("span", { class: "grow" }, text), button);
  }

  // -- writing ---------------------------------------------------------------------------------

  typed() {
    this.grow();
    this.keep();
    this.update();
    this.offer();
  }

  keep() {
    const id = this.host.session().session;
    if (this.text.value || this.files.length > 0) remember(id, this.name, { text: this.text.value, files: this.files });
    else forget(id);
  }

  grow() {
    if (!this.text.isConnected) return;
    this.text.style.height = "auto";
    this.text.style.height = `${Math.min(this.text.scrollHeight, Math.round(innerHeight * 0.4))}px`;
  }

  keys(event) {
    if (event.isComposing) return;
    if (this.picker && this.pickerKeys(event)) return;
    if (event.key === "Enter" && !event.shiftKey && !event.altKey && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      this.send();
    } else if (event.key === "Escape") {
      this.text.blur();
    }
  }

  send() {
    const text = this.text.value.trim();
    if (!text && this.files.length === 0) return;
    const problem = this.host.unaimed(text);
    if (problem) {
      toast(problem, { kind: "bad" });
      this.text.focus();
      return;
    }
    const message = { text, files: this.files, busy: this.host.running() ? this.busy : null };
    this.text.value = "";
    this.files = [];
    this.busy = null;
    forget(this.host.session().session);
    this.drawFiles();
    this.grow();
    this.host.send(message);
    this.update();
  }

  // -- files -----------------------------------------------------------------------------------

  pasted(event) {
    const files = event.clipboardData?.files;
    if (!files?.length) return;
    event.preventDefault();
    this.take(files);
  }

  take(files) {
    if (this.form.hidden) return;
    const { fit, problems } = checked([...files], this.files.length, this.limits);
    this.files = [...this.files, ...fit];
    for (const one of problems) toast("A file was not added", { kind: "bad", more: one });
    this.drawFiles();
    this.keep();
    this.update();
    this.focus();
  }

  drawFiles() {
    this.chips.hidden = this.files.length === 0;
    fill(
      this.chips,
      this.files.map((file) => {
        const away = el("button", { class: "button quiet icon small", type: "button", "aria-label": `Leave ${file.name} out` }, icon("close"));
        away.addEventListener("click", () => {
          this.files = this.files.filter((one) => one !== file);
          this.drawFiles();
          this.keep();
          this.update();
          this.focus();
        });
        return el("li", { class: "file" }, icon("file"), el("span", { class: "file-name" }, file.name), el("small", {}, size(file.size)), away);
      }),
    );
  }

  // -- @ ---------------------------------------------------------------------------------------

  offer() {
    const voices = this.host.voices();
    const found = voices.length > 1 ? addressed(this.text.value, this.text.selectionStart, voices) : null;
    if (!found) return this.closePicker();
    this.closePicker();
    const node = el("div", { class: "menu picker", role: "listbox", "aria-label": "Voices" });
    const rows = found.found.map((voice) => {
      const row = el(
        "button",
        { type: "button", role: "option", tabindex: "-1", "aria-selected": "false", id: uid("voice") },
        el("span", { class: "monogram", "aria-hidden": "true" }, initials(voice.name)),
        el("span", {}, voice.name, el("small", {}, voice.model ?? voice.agent ?? "")),
      );
      row.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        this.pick(voice);
      });
      return row;
    });
    node.append(...rows);
    document.body.append(node);
    this.picker = { node, rows, ...found, at: 0 };
    const box = this.form.getBoundingClientRect();
    place(node, { ...box.toJSON(), bottom: innerHeight });
    this.highlight(0);
  }

  highlight(at) {
    const { rows } = this.picker;
    this.picker.at = (at + rows.length) % rows.length;
    rows.forEach((row, n) => row.setAttribute("aria-selected", String(n === this.picker.at)));
    rows[this.picker.at].scrollIntoView({ block: "nearest" });
    // The focus stays in the text: this is how a screen reader follows.
    this.text.setAttribute("aria-activedescendant", rows[this.picker.at].id);
  }

  pickerKeys(event) {
    const { at, found } = this.picker;
    if (event.key === "ArrowDown") this.highlight(at + 1);
    else if (event.key === "ArrowUp") this.highlight(at - 1);
    else if (event.key === "Escape") this.closePicker();
    else if ((event.key === "Enter" && !event.shiftKey) || event.key === "Tab") this.pick(found[at]);
    else return false;
    event.preventDefault();
    event.stopPropagation();
    return true;
  }

  pick(voice) {
    const { from } = this.picker;
    const after = this.text.value.slice(this.text.selectionStart);
    const words = `${this.text.value.slice(0, from)}@${voice.name} `;
    this.closePicker();
    this.text.value = words + after.trimStart();
    this.text.setSelectionRange(words.length, words.length);
    this.host.target(voice.voice);
    this.typed();
    this.text.focus();
  }

  closePicker() {
    this.picker?.node.remove();
    this.picker = null;
    this.text.removeAttribute("aria-activedescendant");
  }
}
