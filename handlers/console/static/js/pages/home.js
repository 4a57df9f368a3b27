// No session is chosen.

import { may } from "../api.js";
import { el, fill } from "../dom.js";
import { empty } from "../parts.js";

export async function show(container) {
  const begin = may("operator") && el("a", { class: "button primary", href: "/console/sessions/new" }, "New session");
  const found = empty(
    "chat",
    "Choose a session",
    "Talks that people began, that Telegram or a webhook rang for, and that tasks began on time are in the list.",
    ...(begin ? [begin] : []),
  );
  found.classList.add("middle");
  fill(container, found);
}
