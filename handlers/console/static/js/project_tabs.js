// What the pages of projects and templates have in common.

import { el } from "./dom.js";
import { icon } from "./icons.js";

/** Projects and what they are made from. */
export function tabs(shown) {
  const tab = (href, words, name) => el("a", { class: "tab", href, "aria-current": shown === name ? "page" : null }, words);
  return el("nav", { class: "tabs", "aria-label": "Projects and templates" }, tab("/console/projects", "Projects", "projects"), tab("/console/templates", "Templates", "templates"));
}

export const backLink = (href, words) => el("a", { class: "back-link", href }, icon("back"), words);

/** A notice for what is wrong; `tell(words)` shows it line by line, `tell(null)` takes it away. */
export function trouble() {
  const node = el("div", { class: "notice bad", role: "alert", hidden: true });
  const tell = (words) => {
    node.hidden = !words;
    node.replaceChildren(...(words ? [icon("alert"), el("div", {}, words.split("\n").map((line) => el("p", {}, line)))] : []));
    if (words) node.scrollIntoView({ block: "nearest" });
  };
  return { node, tell };
}
