// What is done with a session of a project from its row or its own page.

import { get, patch, post } from "./api.js";
import { ask, confirm, open } from "./dialog.js";
import { el, fill } from "./dom.js";
import { removeSession } from "./going.js";
import { sessionApi } from "./investigations.js";
import { spinner } from "./parts.js";
import { advice, problem, toast } from "./toast.js";

/** Start it with its request; true when it rings. */
export async function start(session) {
  try {
    await post(sessionApi(session, "/start"), {}, { headers: { "Idempotency-Key": crypto.randomUUID() } });
    return true;
  } catch (error) {
    problem(error, "It was not started");
    return false;
  }
}

/** Ask for another title; true when it has one. */
export async function rename({ session, title }) {
  const words = await ask({ title: "Rename session", label: "Title", value: title });
  if (!words || words === title) return false;
  try {
    await patch(sessionApi(session, "/investigation"), { title: words });
    return true;
  } catch (error) {
    problem(error, "The title was not changed");
    return false;
  }
}

/**
 * Delete it; when others depend on it their names are told and it is asked once more. `others()`
 * gives the sessions of its project, at once or as a promise.
 */
export async function destroy({ session, title }, others) {
  const text = `“${title}” with its messages, key results and disposition will be gone. This cannot be undone.`;
  if (!(await confirm({ title: "Delete this session?", text, action: "Delete", danger: true }))) return false;
  try {
    await removeSession(session);
  } catch (error) {
    if (error.status !== 409) return failed(error);
    const told = await waiting(session, others).catch(() => null);
    if (!(await confirm({ title: "Others depend on it", text: told ?? error.message, action: "Delete anyway", danger: true }))) return false;
    try {
      await removeSession(session, { dependants: "keep" });
    } catch (again) {
      return failed(again);
    }
  }
  toast(`“${title}” is deleted`);
  return true;
}

/** Who waits for a session, in a sentence; null when that is not known here. */
async function waiting(session, others) {
  const titles = (await others()).filter((one) => one.dependencies.some((dependency) => dependency.session === session)).map(({ title }) => `“${title}”`);
  if (titles.length === 0) return null;
  const [waits, theirs] = titles.length === 1 ? ["waits", "its"] : ["wait", "their"];
  return `${titles.join(", ")} ${waits} for it and cannot start until ${theirs} dependencies are edited.`;
}

function failed(error) {
  problem(error, "The session was not deleted");
  return false;
}

/** Everything the model is told first, part by part. */
export const showPreview = (session) => previewed(() => get(sessionApi(session, "/preview")));

/** The same of a session that there is not yet. */
export const showSketch = (found) => previewed(async () => found);

async function previewed(read) {
  const body = el("div", { class: "stack preview" }, spinner());
  const shown = open({ title: "Prompt preview", body, wide: true, actions: [{ label: "Close", value: null, primary: true }] });
  try {
    const { sections, request } = await read();
    const part = ({ title, text }) => el("section", {}, el("h3", {}, title), el("pre", { tabindex: "0" }, text || "—"));
    fill(body, el("p", { class: "muted" }, "What the model is told when its next turn begins."), sections.map(part), request && part({ title: "Request", text: request }));
  } catch (error) {
    fill(body, el("p", { class: "notice bad" }, advice(error)));
  }
  return shown;
}
