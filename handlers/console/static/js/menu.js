// A menu at a button: arrows move, Enter chooses, Esc closes.

import { el } from "./dom.js";
import { icon } from "./icons.js";

/**
 * Open a menu at `button`. Items: { label, icon, run, danger, disabled } or null for a line;
 * `disabled` is the reason, which is shown below the label.
 */
export function menu(button, items) {
  closeOpen?.();
  const rows = items.map((item) => (item ? row(item) : el("hr", { role: "separator" })));
  const node = el("div", { class: "menu", role: "menu", tabindex: "-1" }, rows);
  const buttons = rows.filter((one) => one.tagName === "BUTTON");
  const leave = new AbortController();
  const close = ({ refocus = true } = {}) => {
    if (closeOpen !== close) return;
    closeOpen = null;
    leave.abort();
    node.remove();
    button.setAttribute("aria-expanded", "false");
    if (refocus && button.isConnected) button.focus();
  };
  closeOpen = close;

  function row(item) {
    const run = () => {
      if (item.disabled) return;
      close();
      item.run();
    };
    return el(
      "button",
      {
        type: "button",
        role: "menuitem",
        tabindex: "-1",
        class: item.danger ? "danger" : null,
        "aria-disabled": item.disabled ? "true" : null,
        onclick: run,
      },
      item.icon && icon(item.icon),
      el("span", {}, item.label, item.disabled && el("small", {}, item.disabled)),
    );
  }

  const move = (step) => {
    const now = buttons.indexOf(document.activeElement);
    buttons[(now + step + buttons.length) % buttons.length]?.focus();
  };
  node.addEventListener("keydown", (event) => {
    const keys = {
      ArrowDown: () => move(1),
      ArrowUp: () => move(-1),
      Home: () => buttons[0]?.focus(),
      End: () => buttons.at(-1)?.focus(),
      Escape: () => close(),
      Tab: () => close(),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    keys[event.key]();
  });
  const options = { signal: leave.signal, capture: true };
  addEventListener("pointerdown", (event) => !node.contains(event.target) && close({ refocus: false }), options);
  addEventListener("resize", () => close({ refocus: false }), options);
  addEventListener("scroll", (event) => !node.contains(event.target) && close({ refocus: false }), options);

  button.setAttribute("aria-haspopup", "menu");
  button.setAttribute("aria-expanded", "true");
  // Inside of a modal dialog only what it holds can be reached.
  (button.closest("dialog") ?? document.body).append(node);
  place(node, button.getBoundingClientRect());
  buttons[0]?.focus();
}

/** Put `node` below `box`, or above it where there is more room. */
export function place(node, box) {
  const { offsetWidth: width, offsetHeight: height } = node;
  const below = box.bottom + 4 + height <= innerHeight - 8;
  const top = below ? box.bottom + 4 : Math.max(8, box.top - 4 - height);
  const left = box.left + width <= innerWidth - 8 ? box.left : box.right - width;
  node.style.top = `${top}px`;
  node.style.left = `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`;
}

let closeOpen = null;
