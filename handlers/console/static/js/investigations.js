// What projects and their sessions look like in lists: addresses, words, badges.

import { el } from "./dom.js";
import { icon } from "./icons.js";
import { badge } from "./parts.js";
import { ago, count, whole } from "./time.js";

export const projectLink = (project) => `/console/projects/${encodeURIComponent(project)}`;
export const sessionLink = (session, project) => `/console/sessions/${encodeURIComponent(session)}?project=${encodeURIComponent(project)}`;
export const templateLink = (template) => `/console/templates/${encodeURIComponent(template)}`;
export const projectApi = (project, rest = "") => `/api/projects/${encodeURIComponent(project)}${rest}`;
export const sessionApi = (session, rest = "") => `/api/sessions/${encodeURIComponent(session)}${rest}`;
export const templateApi = (template, rest = "") => `/api/templates/${encodeURIComponent(template)}${rest}`;

/** "1 session", "3 sessions". */
export const many = (number, one, several = `${one}s`) => `${count(number)} ${number === 1 ? one : several}`;

export const updated = (at, before = "Updated") => el("span", {}, `${before} `, el("time", { datetime: at, title: whole(at) }, ago(at)));

/** What members may do. */
export const SHARES = [
  ["editor", "may edit"],
  ["viewer", "may look"],
];

const STATES = {
  queued: ["queued", "accent"],
  running: ["running", "accent"],
  waiting: ["waits for an answer", "warn"],
};

/** What goes on in a session; what was not started is told in its title. */
export function stateBadge({ state, complete }) {
  if (state in STATES) return badge(...STATES[state]);
  if (state === "not_started") return null;
  return complete ? badge("complete", "ok") : badge("no result yet");
}

/** A project is seen by its owner alone, or with others. */
export function shareBadge(project) {
  if (project.private) return el("span", { class: "badge" }, icon("lock"), "private");
  const others = project.members.length;
  if (project.share && project.share !== "owner") return el("span", { class: "badge" }, icon("people"), `shared by ${project.owner}`);
  return others ? el("span", { class: "badge accent" }, icon("people"), `shared with ${many(others, "person", "people")}`) : el("span", { class: "badge" }, icon("person"), project.share ? "only you" : project.owner);
}

/** A disposition as chips, with whether it is confirmed or out of date. */
export function chips({ disposition, stale, confirmed_by: by }) {
  if (!disposition) return null;
  return el(
    "span",
    { class: "chips" },
    Object.entries(disposition).map(([name, value]) => el("span", { class: "chip", title: `${name}: ${shown(value)}` }, el("span", { class: "chip-name" }, name), el("b", {}, shown(value)))),
    stale && badge("stale", "warn"),
    by && el("span", { class: "badge ok", title: `Confirmed by ${by}` }, icon("check"), "confirmed"),
  );
}

export const shown = (value) => (Array.isArray(value) ? value.join(", ") : value === null || value === undefined ? "—" : String(value));

/** What a dependency asks for, in words. */
export const wanted = ({ field, value }) => (field ? `${field} = ${value}` : "complete");

/** A dependency with whether it holds; `link` leads to the session it is about. */
export function dependencyLine(one, link = null) {
  const holds = one.unmet === null || one.unmet === undefined;
  return el(
    "span",
    { class: holds ? "depends met" : "depends unmet", title: holds ? null : one.unmet },
    icon(holds ? "check" : "wait", holds ? "Met:" : "Waiting:"),
    el("span", {}, link ? el("a", { href: link }, one.title) : el("b", {}, one.title), " ", el("span", { class: "muted" }, wanted(one)), !holds && el("span", { class: "depends-why" }, one.unmet)),
  );
}

// -- the types of a schema ----------------------------------------------------------------------

/** A written type in its parts: "optional list of A|B". */
export function typeOf(written) {
  let rest = written.trim();
  const optional = /^optional /i.test(rest);
  if (optional) rest = rest.slice("optional ".length).trim();
  const list = /^list of /i.test(rest);
  if (list) rest = rest.slice("list of ".length).trim();
  if (rest === "Number" || rest === "String") return { kind: rest, values: [], optional, list };
  return { kind: "enum", values: rest.split("|").map((one) => one.trim()), optional, list };
}

export const written = ({ kind, values, optional, list }) => `${optional ? "optional " : ""}${list ? "list of " : ""}${kind === "enum" ? values.join("|") : kind}`;

/** The fields that others can depend on: [name, values]. */
export function choices(schema) {
  const typed = Object.entries(schema ?? {}).map(([name, type]) => [name, typeOf(type)]);
  return typed.filter(([, { kind, list }]) => kind === "enum" && !list).map(([name, { values }]) => [name, values]);
}
