// The shell: the rail of pages, the list of sessions, the line to the service, the keys.

import { may, me, signIn, signOut } from "./api.js";
import { byId, el, fill } from "./dom.js";
import { forgetAll } from "./drafts.js";
import { icon } from "./icons.js";
import { menu } from "./menu.js";
import { start, visit } from "./router.js";
import { SessionList } from "./session_list.js";
import { live } from "./socket.js";
import { problem } from "./toast.js";

const PLACES = [
  { nav: "sessions", href: "/console/", label: "Sessions", icon: "chat" },
  { nav: "projects", href: "/console/projects", label: "Projects", icon: "project" },
  { nav: "tasks", href: "/console/tasks", label: "Tasks", icon: "clock" },
  { nav: "triggers", href: "/console/triggers", label: "Triggers", icon: "bell" },
  { nav: "deliveries", href: "/console/deliveries", label: "Deliveries", icon: "inbox", desk: true },
  { nav: "usage", href: "/console/usage", label: "Usage", icon: "chart", desk: true },
  { nav: "compositions", href: "/console/compositions", label: "Compositions", icon: "layers", desk: true },
  { nav: "agents", href: "/console/agents", label: "Agents", icon: "spark", desk: true },
];
const THEMES = { auto: ["half", "As the system"], light: ["sun", "Light"], dark: ["moon", "Dark"] };
const LOST_AFTER_MS = 1500;

const shell = byId("shell");
const side = byId("side");
const list = new SessionList(side);

drawRail();
watchLine();
document.addEventListener("keydown", keys);
live.start();
// What may be done depends on who asks, so that is known first.
me()
  .then(drawAccount, () => {})
  .then(() => start(byId("main"), shown));

// A session of a project is known to be one before it is read when a link says so, else afterwards.
document.addEventListener("in-project", () => inProject());

/** Before a page is shown: what is beside it, and what a phone shows. */
function shown(route, named, query) {
  mark(route.nav);
  side.hidden = !route.side;
  shell.dataset.screen = route.screen ?? "page";
  list.select(named.session ?? null);
  if (route.side && query.has("project")) inProject();
  else if (route.side) list.open();
}

/** Instead of the list of sessions its results are beside the talk. */
function inProject() {
  mark("projects");
  side.hidden = true;
}

function mark(nav) {
  for (const item of document.querySelectorAll("[data-nav]")) {
    if (item.dataset.nav === nav) item.setAttribute("aria-current", "page");
    else item.removeAttribute("aria-current");
  }
}

function drawRail() {
  const item = ({ nav, href, label, icon: name, desk = false, phone = false }) =>
    el(
      "a",
      { class: `rail-item${desk ? " only-desk" : ""}${phone ? " only-phone" : ""}`, href, dataset: { nav } },
      icon(name),
      label,
    );
  const account = el(
    "button",
    { class: "rail-item only-desk", type: "button", id: "account", "aria-label": "Account and theme" },
    icon("person"),
    el("span", { id: "account-name" }, "Account"),
  );
  account.addEventListener("click", () => menu(account, accountItems()));
  fill(
    byId("rail"),
    el("a", { class: "mark", href: "/console/", "aria-label": "Ringback" }, el("img", { src: "/console/static/icon.svg", alt: "" })),
    PLACES.map(item),
    item({ nav: "more", href: "/console/more", label: "More", icon: "more", phone: true }),
    el("div", { class: "spring" }),
    account,
  );
}

function drawAccount({ name, role }) {
  byId("account-name").textContent = name.length > 12 ? `${name.slice(0, 11)}…` : name;
  byId("account").setAttribute("aria-label", `${name}, ${role}: account and theme`);
}

/** The menu of the account: also the page "More" of phones shows it. */
export function accountItems() {
  const theme = window.ringbackTheme;
  const themes = Object.entries(THEMES).map(([value, [name, label]]) => ({
    label: theme.get() === value ? `${label} ✓` : label,
    icon: name,
    run: () => theme.set(value),
  }));
  return [
    ...themes,
    null,
    { label: "Keys", icon: "at", run: () => import("./keys.js").then((found) => found.showKeys()) },
    { label: "Sign out", icon: "leave", run: leave },
  ];
}

async function leave() {
  const stay = live.leave();
  try {
    await signOut();
    forgetAll();
    signIn();
  } catch (error) {
    stay();
    problem(error, "You are still signed in");
  }
}

/** Say that the line is gone, and take it back when it is there again. */
function watchLine() {
  const bar = byId("lost");
  let timer = null;
  live.listen((status) => {
    clearTimeout(timer);
    if (status === "up") {
      bar.hidden = true;
      fill(bar);
      return;
    }
    timer = setTimeout(() => {
      const again = el("button", { class: "button small", type: "button", onclick: () => live.now() }, "Try now");
      fill(bar, el("span", { class: "spinner" }), "No connection. Trying again …", again);
      bar.hidden = false;
    }, LOST_AFTER_MS);
  });
}

function keys(event) {
  if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable], dialog, .menu")) return;
  const deeds = {
    "/": () => list.focusSearch(),
    j: () => list.step(1),
    k: () => list.step(-1),
    n: () => may("operator") && visit("/console/sessions/new"),
    "?": () => import("./keys.js").then((found) => found.showKeys()),
  };
  const deed = deeds[event.key];
  if (!deed) return;
  event.preventDefault();
  deed();
}
