// Sessions as lists order and show them; no document, no network.

import { group } from "./time.js";

const BUSY = new Set(["queued", "running"]);

/** The icon of where a session came from, and what it means. */
export function sourceIcon(session) {
  if (session.source === "scheduled") return ["gear", "Made by a task"];
  if (session.origin === "telegram") return ["plane", "From Telegram"];
  if (session.source === "trigger" || session.origin === "webhook") return ["hook", "From a webhook"];
  return null;
}

export const nameOf = (session) => session.title || "New session";
/** Whether it works; a scan waits for its own sessions, and asks nobody. */
export const isBusy = (session) => BUSY.has(session.state) || (session.state === "waiting" && Boolean(session.scan));

/** Whether a session belongs into a view of the list. */
export function belongs(session, view) {
  if (view === "archived") return Boolean(session.archived);
  if (view === "scheduled") return session.source === "scheduled" && !session.archived;
  return !session.archived;
}

/** Put a session into a list, or bring it up to date; a new list in the order of the view. */
export function merged(sessions, session, view) {
  const others = sessions.filter((one) => one.session !== session.session);
  if (!belongs(session, view)) return others;
  const old = sessions.find((one) => one.session === session.session);
  return sorted([...others, { ...old, ...session }], view);
}

export function sorted(sessions, view) {
  const newest = (a, b) => later(b) - later(a) || (a.session < b.session ? 1 : -1);
  if (view === "scheduled") {
    return [...sessions].sort((a, b) => (a.task ?? "~").localeCompare(b.task ?? "~") || newest(a, b));
  }
  if (view === "archived") return [...sessions].sort(newest);
  return [...sessions].sort((a, b) => Number(Boolean(b.sticky)) - Number(Boolean(a.sticky)) || newest(a, b));
}

/** The list in groups: [label, sessions]. */
export function grouped(sessions, view, now = new Date()) {
  const names = { today: "Today", yesterday: "Yesterday", older: "Older" };
  const label = (one) => {
    if (view === "scheduled") return one.task ?? "Tasks that are gone";
    if (view === "active" && one.sticky) return "Pinned";
    return names[group(one.active_at ?? one.created_at, now)];
  };
  const found = new Map();
  for (const one of sessions) {
    const key = label(one);
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(one);
  }
  return [...found];
}

/** Why a session cannot be archived; null when it can. */
export function notArchivable(session) {
  return session.sticky ? "It is pinned. Unpin it first." : null;
}

/** An excerpt in parts, those that match the words of the search marked: [text, marked]. */
export function marked(excerpt, query) {
  const words = query.trim().split(/\s+/).filter(Boolean).map((one) => one.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  if (words.length === 0) return [[excerpt, false]];
  const parts = excerpt.split(new RegExp(`(${words.join("|")})`, "i"));
  return parts.map((part, place) => [part, place % 2 === 1]).filter(([part]) => part);
}

function later(session) {
  return Date.parse(session.active_at ?? session.created_at ?? 0) || 0;
}
