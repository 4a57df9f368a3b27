// What has no room on the bar of a phone.

import { accountItems } from "../app.js";
import { me } from "../api.js";
import { el, fill } from "../dom.js";
import { icon } from "../icons.js";
import { page } from "../parts.js";

const PLACES = [
  ["/console/deliveries", "inbox", "Deliveries"],
  ["/console/usage", "chart", "Usage"],
  ["/console/compositions", "layers", "Compositions"],
  ["/console/agents", "spark", "Agents"],
];

export async function show(container) {
  const { name, role } = await me();
  const links = PLACES.map(([href, name_, label]) => el("a", { class: "more-item", href }, icon(name_), label));
  const buttons = accountItems()
    .filter(Boolean)
    .map(({ label, icon: name_, run }) => {
      const again = () => (run(), show(container));
      return el("button", { class: "more-item", type: "button", onclick: again }, icon(name_), label);
    });
  const body = page("More", { lead: `${name}, ${role}`, narrow: true });
  body.append(el("nav", { class: "card more", "aria-label": "Further pages" }, links));
  body.append(el("div", { class: "card more" }, buttons));
  fill(container, body);
}
