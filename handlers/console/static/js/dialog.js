// Modal dialogs. They return a promise of what was chosen; Esc is null or false.

import { el, uid } from "./dom.js";
import { field } from "./parts.js";

/** Ask for agreement: a promise of true or false. */
export async function confirm({ title, text, action = "OK", danger = false }) {
  const chosen = await open({
    title,
    body: el("p", {}, text),
    actions: [
      { label: "Cancel", value: null },
      { label: action, value: "yes", primary: true, danger },
    ],
  });
  return chosen === "yes";
}

/** Ask for one line of text: a promise of it, or null. */
export async function ask({ title, label, value = "", action = "Save", hint = null }) {
  const input = el("input", { type: "text", value, required: true, autocomplete: "off" });
  const chosen = await open({
    title,
    body: field(label, input, { hint }),
    focus: input,
    actions: [
      { label: "Cancel", value: null },
      { label: action, value: "yes", primary: true },
    ],
  });
  return chosen === "yes" ? input.value.trim() || null : null;
}

/**
 * Open a dialog: a promise of the value of the action that was chosen, null for none.
 * An action { label, value, primary, danger, run } with `run` stays open until `run` came to its
 * end; when `run` returns false the dialog stays. `wide` is true for more room, "full" for all of it.
 */
export function open({ title, body, actions = [], focus = null, wide = false }) {
  const heading = uid("dialog");
  const before = document.activeElement;
  return new Promise((resolve) => {
    let chosen = null;
    let running = false;
    let pressed = false;
    const primary = actions.find((one) => one.primary);
    const node = el("dialog", { class: wide ? `dialog ${wide === "full" ? "full" : "wide"}` : "dialog", "aria-labelledby": heading });
    const choose = async (action, button) => {
      if (action.run) {
        if (running) return;
        // Not disabled: the keyboard would lose its place.
        running = true;
        button.setAttribute("aria-disabled", "true");
        const went = await action.run().catch(() => false);
        running = false;
        button.removeAttribute("aria-disabled");
        if (went === false) return;
      }
      chosen = action.value ?? null;
      node.close();
    };
    const buttons = actions.map((action) => {
      const kind = ["button", action.primary && "primary", action.danger && "danger"];
      const button = el(
        "button",
        { class: kind.filter(Boolean).join(" "), type: action === primary ? "submit" : "button" },
        action.label,
      );
      if (action !== primary) button.addEventListener("click", () => choose(action, button));
      return button;
    });
    const form = el(
      "form",
      {
        method: "dialog",
        onsubmit: (event) => {
          event.preventDefault();
          if (primary) choose(primary, buttons[actions.indexOf(primary)]);
        },
      },
      el("h2", { id: heading }, title),
      el("div", {}, body),
      el("div", { class: "actions end" }, buttons),
    );
    node.append(form);
    node.addEventListener("close", () => {
      node.remove();
      if (before?.isConnected) before.focus();
      resolve(chosen);
    });
    // A press that began inside, such as to select words, and slips out closes nothing.
    node.addEventListener("pointerdown", (event) => (pressed = beside(node, event)));
    node.addEventListener("click", (event) => pressed && beside(node, event) && node.close());
    document.body.append(node);
    node.showModal();
    (focus ?? buttons.at(-1))?.focus();
    focus?.select?.();
  });
}

/** Whether a press is on the veil around a dialog. */
function beside(node, { target, clientX: x, clientY: y }) {
  const box = node.getBoundingClientRect();
  return target === node && (x < box.left || x > box.right || y < box.top || y > box.bottom);
}
