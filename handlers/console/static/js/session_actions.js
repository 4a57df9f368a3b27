// What can be done with a session from its row or its own menu. Each tells what came of it.

import { patch, post } from "./api.js";
import { ask, confirm } from "./dialog.js";
import { removeSession } from "./going.js";
import { nameOf } from "./sessions.js";
import { problem, toast } from "./toast.js";

const path = (session, rest = "") => `/api/sessions/${session.session}${rest}`;

/** The session with another title; null when it was not changed. */
export async function rename(session, title) {
  const words = title?.trim();
  if (!words || words === session.title) return null;
  return attempt("The title was not changed", () => patch(path(session), { title: words }));
}

export async function askForTitle(session) {
  return rename(session, await ask({ title: "Rename session", label: "Title", value: nameOf(session) }));
}

export const pin = (session) =>
  attempt("The session was not pinned", () => post(path(session, "/pin")));

export const unpin = (session) =>
  attempt("The session is still pinned", () => post(path(session, "/unpin")));

/** Archive it; the message offers to take that back. */
export async function archive(session, changed) {
  const found = await attempt("The session was not archived", () => post(path(session, "/archive")));
  if (!found) return null;
  const undo = async () => changed(await restore(session));
  toast(`“${nameOf(session)}” is archived`, { action: { label: "Undo", run: undo } });
  return found;
}

export const restore = (session) =>
  attempt("The session is still archived", () => post(path(session, "/restore")));

/** Delete it for good, if whoever asked agrees; true when it is gone. */
export async function destroy(session) {
  const agreed = await confirm({
    title: "Delete this session?",
    text: `“${nameOf(session)}” with all of its messages and files will be gone. This cannot be undone.`,
    action: "Delete",
    danger: true,
  });
  if (!agreed) return false;
  const done = await attempt("The session was not deleted", async () => {
    await removeSession(session.session);
    return true;
  });
  if (done) toast(`“${nameOf(session)}” is deleted`);
  return Boolean(done);
}

async function attempt(failed, call) {
  try {
    // An answer without a body is a success, too.
    return (await call()) ?? {};
  } catch (error) {
    problem(error, failed);
    return null;
  }
}
