// Sessions that are being deleted, or are gone: nothing more is asked or told of them.

import { post, remove } from "./api.js";

const gone = new Set();
const telling = new Map();

const path = (session, rest = "") => `/api/sessions/${encodeURIComponent(session)}${rest}`;

// This listener comes before those of pages, so that whoever closes one knows already.
document.addEventListener("session-gone", (event) => gone.add(event.detail));

/** Whether a session is being deleted, or is gone. */
export const isGoing = (session) => gone.has(session);

/** Note that everything in a session was read; null when there is nothing to note it of. */
export async function sayRead(session) {
  if (isGoing(session)) return null;
  const said = post(path(session, "/read"));
  telling.set(session, said);
  try {
    return await said;
  } finally {
    if (telling.get(session) === said) telling.delete(session);
  }
}

/** Delete a session for good, after what is still told of it; `query` goes with the call. */
export async function removeSession(session, query = {}) {
  gone.add(session);
  await Promise.allSettled([telling.get(session)]);
  try {
    await remove(path(session), { query });
  } catch (error) {
    if (error.status !== 404) gone.delete(session);
    throw error;
  }
}
