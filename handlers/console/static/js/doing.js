// Buttons that do something which takes a moment, and what is copied for pasting elsewhere.

import { el, fill } from "./dom.js";
import { icon } from "./icons.js";
import { problem, toast } from "./toast.js";

/** A button that waits for `work` and tells when that failed: `failing` says what was tried. */
export function doing(label, work, { kind = "", glyph = null, failing = null, name = null } = {}) {
  const words = () => [glyph && icon(glyph), label];
  const node = el("button", { class: `button ${kind}`.trim(), type: "button", "aria-label": name }, words());
  let busy = false;
  node.addEventListener("click", async () => {
    if (busy) return;
    // Not disabled: the keyboard would lose its place.
    busy = true;
    node.setAttribute("aria-disabled", "true");
    fill(node, el("span", { class: "spinner" }), label);
    try {
      await work();
    } catch (error) {
      problem(error, failing ?? `${label} did not work`);
    } finally {
      busy = false;
      node.removeAttribute("aria-disabled");
      fill(node, words());
    }
  });
  return node;
}

/** A button that copies `text`; `what` says what that is. */
export function copying(text, what) {
  const node = el(
    "button",
    { class: "button quiet icon small", type: "button", "aria-label": `Copy ${what}`, title: `Copy ${what}` },
    icon("copy"),
  );
  node.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      fill(node, icon("check"));
      setTimeout(() => fill(node, icon("copy")), 1600);
    } catch {
      toast("The browser does not let us copy", { more: `Copy it by hand: ${text}` });
    }
  });
  return node;
}

/** Facts as a list of terms and what they are; those without anything are left out. */
export function facts(...pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el(
    "dl",
    { class: "facts" },
    shown.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))),
  );
}

/** Wait some milliseconds, or until the page is left: then it throws an AbortError. */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const left = () => reject(new DOMException("The page was left", "AbortError"));
    if (signal.aborted) left();
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), left()), { once: true });
  });
}
