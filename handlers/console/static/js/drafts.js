// What is being written in sessions and was not sent: it outlives a look at another page, and its
// words outlive loading the page anew.

import { keep } from "./keeping.js";

const drafts = new Map();
const KEPT = "draft:";

/** What `name` was writing in a session: { text, files }; null for nothing. */
export function recall(session, name) {
  return drafts.get(session) ?? kept(session, name);
}

export function remember(session, name, { text, files }) {
  drafts.set(session, { text, files });
  keep((storage) => storage.setItem(KEPT + session, JSON.stringify({ name, text })));
}

export function forget(session) {
  drafts.delete(session);
  keep((storage) => storage.removeItem(KEPT + session));
}

/** Nothing is left in the browser of somebody who signs out. */
export function forgetAll() {
  drafts.clear();
  keep((storage) => storage.clear());
}

/** Of the same person only: another one may have signed in in this window. */
function kept(session, name) {
  const found = JSON.parse(keep((storage) => storage.getItem(KEPT + session)) ?? "null");
  return found?.text && found.name === name ? { text: found.text, files: [] } : null;
}
