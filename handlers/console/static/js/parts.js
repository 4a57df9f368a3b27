// The common parts of pages, as nodes.

import { el, uid } from "./dom.js";
import { icon } from "./icons.js";

/** A page with its head; append the rest to what is returned. */
export function page(title, { lead = null, actions = [], narrow = false } = {}) {
  const head = el(
    "header",
    { class: "page-head" },
    el("div", {}, el("h1", {}, title), lead && el("p", { class: "lead" }, lead)),
    actions.length > 0 && el("div", { class: "actions" }, actions),
  );
  return el("div", { class: narrow ? "page narrow" : "page" }, head);
}

/** What is shown where there is nothing yet: says what would be here and how to get it. */
export function empty(iconName, title, text, ...actions) {
  return el(
    "div",
    { class: "empty" },
    icon(iconName),
    el("h2", {}, title),
    text && el("p", {}, text),
    actions.length > 0 && el("div", { class: "actions" }, actions),
  );
}

/** A labelled control; `control` is an input, select or textarea. */
export function field(label, control, { hint = null } = {}) {
  control.id ||= uid("field");
  control.classList.add("input");
  const parts = [el("label", { for: control.id }, label), control];
  if (hint) {
    const hintId = `${control.id}-hint`;
    control.setAttribute("aria-describedby", hintId);
    parts.push(el("span", { class: "hint", id: hintId }, hint));
  }
  return el("div", { class: "field" }, parts);
}

/** A select: options are strings or [value, label]. */
export function select(options, { value = null, ...props } = {}) {
  const node = el(
    "select",
    { class: "input", ...props },
    options.map((one) => {
      const [given, label] = Array.isArray(one) ? one : [one, one];
      return el("option", { value: given, selected: given === value }, label);
    }),
  );
  return node;
}

export function badge(text, kind = "") {
  return el("span", { class: `badge ${kind}`.trim() }, text);
}

/** A table: heads are strings or { label, class }, cells nodes or text. */
export function table(caption, heads, rows) {
  const columns = heads.map((one) => (typeof one === "string" ? { label: one } : one));
  const head = columns.map((one) => el("th", { scope: "col", class: one.class }, one.label));
  const body = rows.map((cells) =>
    el("tr", {}, cells.map((cell, place) => el("td", { class: columns[place]?.class }, cell))),
  );
  return el(
    "div",
    { class: "table-wrap", tabindex: "0", role: "region", "aria-label": caption },
    el(
      "table",
      { class: "table" },
      el("caption", { class: "visually-hidden" }, caption),
      el("thead", {}, el("tr", {}, head)),
      el("tbody", {}, body),
    ),
  );
}

export function spinner(label = "Loading") {
  return el("div", { class: "loading", role: "status" }, el("span", { class: "spinner" }), label);
}

/** An on/off switch; `change(on)` may be async, the switch goes back when it throws. */
export function toggle(label, on, change) {
  const node = el("button", {
    class: "switch",
    type: "button",
    role: "switch",
    "aria-checked": String(on),
    "aria-label": label,
    title: label,
  });
  node.addEventListener("click", async () => {
    if (node.hasAttribute("aria-disabled")) return;
    const wanted = node.getAttribute("aria-checked") !== "true";
    node.setAttribute("aria-checked", String(wanted));
    // Not disabled: the keyboard would lose its place.
    node.setAttribute("aria-disabled", "true");
    try {
      await change(wanted);
    } catch {
      node.setAttribute("aria-checked", String(!wanted));
    } finally {
      node.removeAttribute("aria-disabled");
    }
  });
  return node;
}

/** Two to four choices side by side: options are [value, label]. */
export function segments(label, options, value, change) {
  const buttons = options.map(([given, words]) =>
    el(
      "button",
      {
        type: "button",
        role: "radio",
        "aria-checked": String(given === value),
        tabindex: given === value ? "0" : "-1",
        dataset: { value: given },
        onclick: () => pick(given),
      },
      words,
    ),
  );
  const group = el("div", { class: "segments", role: "radiogroup", "aria-label": label }, buttons);
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const now = buttons.findIndex((one) => one.getAttribute("aria-checked") === "true");
    const next = buttons[(now + step + buttons.length) % buttons.length];
    next.focus();
    pick(next.dataset.value);
  });
  const pick = (given) => {
    group.show(given);
    change(given);
  };
  group.show = (given) => {
    for (const one of buttons) {
      const on = one.dataset.value === given;
      one.setAttribute("aria-checked", String(on));
      one.tabIndex = on ? 0 : -1;
    }
  };
  return group;
}
