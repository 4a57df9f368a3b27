// Tasks: agents that run by the clock, what they did, and what comes next.

import { get, may, post, remove } from "../api.js";
import { cronWords } from "../cron.js";
import { confirm, open } from "../dialog.js";
import { doing, facts, pause } from "../doing.js";
import { el, fill } from "../dom.js";
import { icon } from "../icons.js";
import { badge, empty, field, page, select, table, toggle } from "../parts.js";
import { go, title } from "../router.js";
import { problem, toast } from "../toast.js";
import { ago, ahead, duration, when, whole } from "../time.js";

const STATES = {
  due: ["due", "accent"],
  queued: ["running", "accent"],
  done: ["done", "ok"],
  failed: ["failed", "bad"],
  skipped: ["skipped", "warn"],
};
const OPEN = ["due", "queued"];
const LOOK_MS = 2000;

export async function show(container, params) {
  await (params.task ? showOne(container, params) : showAll(container, params));
}

// -- all of them --------------------------------------------------------------------------------

async function showAll(container, { signal }) {
  const { tasks } = await get("/api/tasks", { signal });
  const body = page("Tasks", {
    lead: "Agents that run by the clock. Each time a task rings, its agent gets the prompt in a session.",
    actions: may("operator") ? [newTaskButton(signal)] : [],
  });
  body.append(tasks.length ? list(tasks, signal) : nothing(signal));
  fill(container, body);
}

function nothing(signal) {
  return empty(
    "clock",
    "No tasks yet",
    "Make one here, add [tasks.NAME] to the configuration, or ask an agent that has the tool “schedule” to remind you.",
    ...(may("operator") ? [newTaskButton(signal)] : []),
  );
}

function list(tasks, signal) {
  return el(
    "ul",
    { class: "rows", role: "list" },
    tasks.map((task) => row(task, signal)),
  );
}

function row(task, signal) {
  const next = el("span", { class: "muted" });
  const showNext = (view) =>
    fill(next, view.next_at ? ["Next ", el("time", { title: whole(view.next_at) }, ago(view.next_at))] : "Not scheduled");
  showNext(task);
  const last = el("span", { class: "row-state" }, lastRun(task.last));
  const node = el(
    "li",
    { class: "row-card" },
    el(
      "div",
      { class: "row-main" },
      el(
        "p",
        { class: "row-title" },
        el("a", { href: link(task) }, task.task),
        task.origin === "made" && badge(`made by ${maker(task)}`),
        task.once && badge("once"),
      ),
      el("p", { class: "row-more" }, el("span", {}, schedule(task)), el("span", { class: "muted" }, task.agent), next),
    ),
    last,
    el("div", { class: "row-actions" }, runButton(task, "small", signal, true), enabling(task, showNext)),
  );
  return node;
}

function schedule(task) {
  const words = cronWords(task.cron);
  const zone = task.timezone === "UTC" ? "UTC" : task.timezone.replaceAll("_", " ");
  return words ? [words, " ", el("span", { class: "muted" }, zone)] : [el("code", {}, task.cron), " ", zone];
}

function lastRun(last) {
  if (!last) return el("span", { class: "muted" }, "Never ran");
  const at = el("time", { class: "muted", title: whole(last.scheduled_at) }, ago(last.scheduled_at));
  return [stateBadge(last), at];
}

const stateBadge = ({ state }) => badge(...(STATES[state] ?? [state]));
const link = (task) => `/console/tasks/${encodeURIComponent(task.task)}`;
const api = (task, rest = "") => `/api/tasks/${encodeURIComponent(task.task)}${rest}`;
const maker = ({ made_by: by }) => (by?.startsWith("agent") ? "an agent" : by?.startsWith("telegram:") ? "a chat" : by);

function enabling(task, changed) {
  if (!may("operator")) return badge(task.enabled ? "on" : "off", task.enabled ? "ok" : "");
  return toggle(`Task ${task.task} is on`, task.enabled, async (on) => {
    try {
      const view = await post(api(task, on ? "/enable" : "/disable"));
      changed(view);
      toast(on ? `${task.task} is on` : `${task.task} is off`);
    } catch (error) {
      problem(error, `Could not turn ${task.task} ${on ? "on" : "off"}`);
      throw error;
    }
  });
}

function runButton(task, kind, signal, away) {
  if (!may("operator")) return null;
  const run = async () => {
    const receipt = await post(api(task, "/run"));
    const action = { label: "Open session", run: () => go(`/console/sessions/${receipt.session}`) };
    toast(`${task.task} rings now`, { action });
    if (!away && !signal.aborted) go(link(task), { replace: true });
  };
  return doing("Run now", run, { kind, glyph: "play", failing: `Could not run ${task.task}`, name: `Run ${task.task} now` });
}

// -- one of them --------------------------------------------------------------------------------

async function showOne(container, { task: name, signal }) {
  const [task, runs] = await Promise.all([
    get(`/api/tasks/${encodeURIComponent(name)}`, { signal }),
    get(`/api/tasks/${encodeURIComponent(name)}/occurrences`, { signal }),
  ]);
  title(task.task);
  const made = task.origin === "made";
  const upcoming = el("div", {});
  const again = async () => {
    const found = await get(api(task, "/occurrences"), { signal });
    showUpcoming(upcoming, found.upcoming);
    showHistory(history, found.occurrences);
    return found;
  };
  const body = page(task.task, {
    lead: schedule(task),
    actions: [
      el("span", { class: "row" }, "On", enabling(task, again)),
      made && may("operator") && deleteButton(task),
      runButton(task, "primary", signal, false),
    ].filter(Boolean),
  });
  const back = el("a", { class: "back-link", href: "/console/tasks" }, icon("back"), "Tasks");
  body.prepend(back);
  const history = el("section", { class: "stack", "aria-label": "History" });
  showUpcoming(upcoming, runs.upcoming);
  showHistory(history, runs.occurrences);
  body.append(
    el(
      "div",
      { class: "halves" },
      el("section", { class: "card" }, el("h2", {}, "What it does"), definition(task, made)),
      el("section", { class: "card" }, el("h2", {}, "Next runs"), upcoming),
    ),
    history,
  );
  fill(container, body);
  watch(runs, again, signal);
}

function definition(task, made) {
  return facts(
    ["Prompt", el("p", { class: "prompt" }, task.prompt)],
    ["Agent", task.agent],
    ["Schedule", el("code", {}, task.cron)],
    ["Time zone", task.timezone],
    ["Rings into", task.made_in && el("a", { href: `/console/sessions/${task.made_in}` }, "the session it was made in")],
    ["Defined", made ? `made by ${maker(task)} while the service runs` : "in the configuration; change it there"],
  );
}

function showUpcoming(container, instants) {
  if (!instants.length) {
    fill(container, el("p", { class: "muted" }, "None: the task is off, or has done all it was made for."));
    return;
  }
  const rows = instants.map((at) => el("li", {}, el("time", { title: whole(at) }, when(at)), el("span", { class: "muted" }, ahead(at))));
  fill(container, el("ol", { class: "instants", role: "list" }, rows));
}

function showHistory(container, runs) {
  const heading = el("h2", {}, "History");
  if (!runs.length) {
    fill(container, heading, empty("clock", "It has not run yet", "Each run will be listed here with how it ended. “Run now” does not wait for the clock."));
    return;
  }
  const heads = ["When", "State", { label: "Took", class: "number" }, "Session", "What happened"];
  const rows = runs.map((one) => [
    el("time", { class: "nowrap", title: whole(one.scheduled_at) }, when(one.scheduled_at)),
    el("span", { class: "row" }, stateBadge(one), one.manual && badge("by hand")),
    duration(one.duration_ms),
    one.session ? el("a", { href: `/console/sessions/${one.session}` }, "Open") : "—",
    el("span", { class: one.state === "failed" ? "bad-words" : "muted" }, one.reason ?? ""),
  ]);
  fill(container, heading, table(`Runs, the newest first`, heads, rows));
}

/** While something runs, look again until it is over. */
async function watch(runs, again, signal) {
  try {
    let found = runs;
    while (found.occurrences.some((one) => OPEN.includes(one.state))) {
      await pause(LOOK_MS, signal);
      found = await again();
    }
  } catch (error) {
    problem(error, "The history is not kept up to date", { label: "Reload", run: () => location.reload() });
  }
}

function deleteButton(task) {
  const work = async () => {
    const text = "It will not ring any more. The sessions it made stay.";
    if (!(await confirm({ title: `Delete ${task.task}?`, text, action: "Delete", danger: true }))) return;
    await remove(api(task));
    toast(`${task.task} is deleted`);
    go("/console/tasks");
  };
  return doing("Delete", work, { kind: "quiet", glyph: "trash", failing: `Could not delete ${task.task}` });
}

// -- a new one ----------------------------------------------------------------------------------

function newTaskButton(signal) {
  const begin = async () => {
    const { agents } = await get("/api/agents", { signal });
    // Not waited for: the button is free again while the dialog is open.
    makeTask(agents);
  };
  return doing("New task", begin, { kind: "primary", glyph: "plus", failing: "Could not begin a task" });
}

async function makeTask(agents) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  const controls = {
    name: el("input", { type: "text", autocomplete: "off", maxlength: "48", placeholder: "morning-news" }),
    cron: el("input", { type: "text", autocomplete: "off", class: "mono", value: "0 8 * * *", required: true, spellcheck: "false" }),
    timezone: zoneInput(zone),
    agent: select(agents.map((one) => one.agent)),
    prompt: el("textarea", { rows: "4", required: true, placeholder: "What the agent is asked each time." }),
    once: el("input", { type: "checkbox" }),
  };
  const words = el("span", { class: "hint", "aria-live": "polite" });
  const say = () => fill(words, cronWords(controls.cron.value) ?? "minute hour day-of-month month day-of-week");
  controls.cron.addEventListener("input", say);
  say();
  const trouble = el("p", { class: "notice bad", role: "alert", hidden: true });
  const cronField = field("Schedule (cron)", controls.cron);
  cronField.append(words);
  const form = el(
    "div",
    { class: "stack" },
    field("Name", controls.name, { hint: "Left empty, it is made of the prompt." }),
    field("Prompt", controls.prompt),
    el("div", { class: "fields" }, cronField, field("Time zone", controls.timezone)),
    field("Agent", controls.agent),
    el("label", { class: "check" }, controls.once, "Only once: its first due instant is its last"),
    trouble,
  );
  let made = null;
  await open({
    title: "New task",
    body: form,
    focus: controls.prompt,
    wide: true,
    actions: [
      { label: "Cancel", value: null },
      { label: "Make task", value: "yes", primary: true, run: () => store(controls, trouble).then((found) => (made = found)) },
    ],
  });
  if (made) {
    toast(`${made.task} is made`);
    go(link(made));
  }
}

function zoneInput(zone) {
  const known = Intl.supportedValuesOf?.("timeZone") ?? [];
  return select([...new Set([zone, "UTC", ...known])], { value: zone });
}

async function store(controls, trouble) {
  for (const one of Object.values(controls)) one.removeAttribute("aria-invalid");
  const given = {
    cron: controls.cron.value.trim(),
    timezone: controls.timezone.value,
    prompt: controls.prompt.value,
    agent: controls.agent.value,
    once: controls.once.checked,
  };
  const name = controls.name.value.trim();
  try {
    return await post("/api/tasks", name ? { ...given, name } : given);
  } catch (error) {
    const key = /^(\w+):/.exec(error.message)?.[1];
    controls[key]?.setAttribute("aria-invalid", "true");
    controls[key]?.focus();
    trouble.hidden = false;
    fill(trouble, error.message);
    return false;
  }
}
