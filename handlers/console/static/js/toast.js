// Short messages in the corner. Errors stay until they are read.

import { byId, el } from "./dom.js";
import { icon } from "./icons.js";

const SHOWN_MS = 4500;
const BAD_MS = 12000;

/** Show a message; `action` is { label, run }. */
export function toast(text, { kind = "", more = null, action = null } = {}) {
  const close = () => node.remove();
  const node = el(
    "div",
    { class: `toast ${kind}`.trim(), role: kind === "bad" ? "alert" : "status" },
    el("div", { class: "grow" }, el("p", {}, text), more && el("p", {}, more)),
    action &&
      el("button", { class: "button small", type: "button", onclick: () => (close(), action.run()) }, action.label),
    el(
      "button",
      { class: "button quiet icon small", type: "button", "aria-label": "Close message", onclick: close },
      icon("close"),
    ),
  );
  corner().append(node);
  setTimeout(close, kind === "bad" ? BAD_MS : SHOWN_MS);
  return close;
}

/** Show what went wrong and what to do; pages that were left are silent. */
export function problem(error, doing, action = null) {
  if (error?.name === "AbortError" || error?.status === 401) return;
  toast(doing, { kind: "bad", more: advice(error), action });
}

/** A sentence that says what to do about an error; names of fields stay as they are. */
export function advice(error) {
  return told(error).replace(/^[a-z](?![\w.]*:)/, (letter) => letter.toUpperCase());
}

function told(error) {
  if (error?.status === 403) return /role/.test(error.message) ? `${error.message}. Ask an administrator for the role you need.` : error.message;
  if (error?.status === 404) return `${error.message}. It may have been deleted; reload the list.`;
  if (error?.status === 429) return `${error.message}. Wait a moment and try again.`;
  if (error?.status >= 500) return `${error.message}. Try again; the log of the service says more.`;
  return error?.message ?? "Try again.";
}

function corner() {
  const found = byId("toasts");
  if (found) return found;
  const made = el("div", { class: "toasts", id: "toasts", "aria-live": "polite" });
  document.body.append(made);
  return made;
}
