// An address that leads nowhere.

import { el, fill } from "../dom.js";
import { empty } from "../parts.js";

export async function show(container) {
  const back = el("a", { class: "button", href: "/console/" }, "To the sessions");
  fill(container, empty("search", "There is no page here", "The address may be old or mistyped.", back));
}
