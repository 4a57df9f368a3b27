// Addresses and the pages behind them; the page is loaded when it is first shown.

import { Unreachable, may } from "./api.js";
import { confirm } from "./dialog.js";
import { byId, el, fill } from "./dom.js";
import { empty, spinner } from "./parts.js";
import { advice } from "./toast.js";

/**
 * The routes, the first that matches counts. `side` shows the list of sessions beside the page,
 * `screen` says which of both a phone shows, `makes` what is made there, for those who may write.
 */
export const ROUTES = [
  { path: "/console/", page: "home", nav: "sessions", title: "Sessions", side: true, screen: "list" },
  { path: "/console/sessions", page: "home", nav: "sessions", title: "Sessions", side: true, screen: "list" },
  { path: "/console/sessions/new", page: "new_session", nav: "sessions", title: "New session", side: true, screen: "detail", makes: "a session" },
  { path: "/console/sessions/:session", page: "session", nav: "sessions", title: "Session", side: true, screen: "detail" },
  { path: "/console/projects", page: "projects", nav: "projects", title: "Projects" },
  { path: "/console/projects/new", page: "project_new", nav: "projects", title: "New project", makes: "a project" },
  { path: "/console/projects/:project", page: "project", nav: "projects", title: "Project" },
  { path: "/console/projects/:project/edit", page: "project_new", nav: "projects", title: "Edit project" },
  { path: "/console/projects/:project/new", page: "investigation_form", nav: "projects", title: "New session" },
  { path: "/console/projects/:project/sessions/:session", page: "investigation_form", nav: "projects", title: "Edit session" },
  { path: "/console/templates", page: "templates", nav: "projects", title: "Templates" },
  { path: "/console/templates/:template", page: "templates", nav: "projects", title: "Template" },
  { path: "/console/tasks", page: "tasks", nav: "tasks", title: "Tasks" },
  { path: "/console/tasks/:task", page: "tasks", nav: "tasks", title: "Task" },
  { path: "/console/triggers", page: "triggers", nav: "triggers", title: "Triggers" },
  { path: "/console/deliveries", page: "deliveries", nav: "deliveries", title: "Deliveries" },
  { path: "/console/usage", page: "usage", nav: "usage", title: "Usage" },
  { path: "/console/compositions", page: "compositions", nav: "compositions", title: "Compositions" },
  { path: "/console/compositions/:composition", page: "compositions", nav: "compositions", title: "Composition" },
  { path: "/console/agents", page: "agents", nav: "agents", title: "Agents" },
  { path: "/console/more", page: "more", nav: "more", title: "More" },
];

/** The route of an address with its named parts; null when there is none. */
export function match(pathname, routes = ROUTES) {
  const parts = pathname.replace(/\/+$/, "").split("/");
  for (const route of routes) {
    const wanted = route.path.replace(/\/+$/, "").split("/");
    if (wanted.length !== parts.length) continue;
    const named = {};
    const fits = wanted.every((one, place) => {
      if (!one.startsWith(":")) return one === parts[place];
      named[one.slice(1)] = decode(parts[place]);
      return parts[place] !== "";
    });
    if (fits) return { route, named };
  }
  return null;
}

/** Go to an address of the console. */
export function go(address, { replace = false } = {}) {
  if (!replace) place += 1;
  history[replace ? "replaceState" : "pushState"]({ place }, "", address);
  return show();
}

/** The same, but not without being asked where something would be lost. */
export async function visit(address) {
  if (!unsaved() || (await mayLeave())) await go(address);
}

/** Ask before the page that is shown is left while `changed()` says that something would be lost. */
export function guard(changed) {
  guards.push(changed);
}

/** The same for a form, once something was typed or chosen in it. */
export function guardForm(form) {
  let touched = false;
  form.addEventListener("input", () => (touched = true));
  guard(() => touched);
  return form;
}

/** Show the page of the current address again. */
export const reload = () => show();

/** Set what the window is called. */
export function title(words) {
  document.title = words ? `${words} · Ringback` : "Ringback";
}

/** Begin: `shown(route, named)` is told of every page before it is shown. */
export function start(container, shown) {
  main = container;
  told = shown;
  place = history.state?.place ?? 0;
  addEventListener("popstate", moved);
  addEventListener("beforeunload", (event) => unsaved() && event.preventDefault());
  document.addEventListener("click", follow);
  return show();
}

let main = null;
let went = false;
let told = () => {};
let leave = () => {};
let guards = [];
/** Where in the history of this window we are. */
let place = 0;
let staying = false;

const unsaved = () => guards.some((changed) => changed());

const mayLeave = () => confirm({ title: "Leave without saving?", text: "What you wrote on this page will be lost.", action: "Leave", danger: true });

/** Back or forward was pressed: the address is another one already. */
async function moved(event) {
  const there = event.state?.place ?? 0;
  if (staying) {
    staying = false;
  } else if (unsaved()) {
    const by = there - place;
    staying = true;
    history.go(-by);
    if (!(await mayLeave())) return;
    guards = [];
    history.go(by);
  } else {
    place = there;
    show();
  }
}

async function show() {
  const found = match(location.pathname) ?? { route: NOWHERE, named: {} };
  const { route, named } = found;
  const query = new URLSearchParams(location.search);
  leave();
  guards = [];
  const left = new AbortController();
  let dispose = null;
  leave = () => {
    left.abort();
    dispose?.();
    dispose = null;
  };
  title(route.title);
  told(route, named, query);
  const container = el("div", { class: "screen" });
  fill(main, container);
  main.scrollTop = 0;
  const late = setTimeout(() => container.childNodes.length || fill(container, spinner()), 150);
  try {
    if (route.makes && !may("operator")) return fill(container, looking(route.makes));
    const page = await import(`./pages/${route.page}.js`).catch(unloaded);
    if (left.signal.aborted) return;
    const body = el("div", { class: "screen" });
    const made = await page.show(body, { ...named, query, signal: left.signal });
    if (left.signal.aborted) made?.();
    else {
      dispose = made ?? null;
      container.replaceWith(body);
      body.querySelector("[autofocus]")?.focus();
      // What was pressed to come here may be gone: whoever listens or types goes on in the page.
      if (went && document.activeElement === document.body) main.focus({ preventScroll: true });
      went = true;
    }
  } catch (error) {
    if (!left.signal.aborted && error?.status !== 401) fill(container, broken(error));
  } finally {
    clearTimeout(late);
  }
}

const NOWHERE = { page: "nowhere", nav: null, title: "Not found" };

/** What those who only look are shown where something is made. */
export function looking(what) {
  return empty("alert", `You cannot make ${what}`, "Your role is viewer, which only looks. Ask an administrator for the role operator.");
}

/** The browser says in words of its own that a part of the console could not be had. */
function unloaded(error) {
  throw error instanceof TypeError ? new Unreachable() : error;
}

function broken(error) {
  const again = el("button", { class: "button", type: "button", onclick: reload }, "Try again");
  return empty("alert", "This page could not be shown", advice(error), again);
}

function follow(event) {
  if (event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target.closest?.("a[href]");
  if (!link || link.target || link.hasAttribute("download")) return;
  if (link.origin !== location.origin || !link.pathname.startsWith("/console/")) return;
  if (link.hash && link.pathname === location.pathname) {
    // No entry of the history: going back from it would show the page anew.
    event.preventDefault();
    byId(link.hash.slice(1))?.focus();
    return;
  }
  if (!match(link.pathname)) return;
  event.preventDefault();
  ("discards" in link.dataset ? go : visit)(link.pathname + link.search);
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
