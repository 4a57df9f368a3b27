// Compositions: sets of voices to begin a session with.

import { get, may, post, put, remove } from "../api.js";
import { confirm } from "../dialog.js";
import { doing, facts } from "../doing.js";
import { el, fill } from "../dom.js";
import { icon } from "../icons.js";
import { menu } from "../menu.js";
import { badge, empty, field, page, segments, select } from "../parts.js";
import { go, guardForm, looking, reload, title } from "../router.js";
import { problem, toast } from "../toast.js";

const MOST_VOICES = 8;
const MODES = [
  ["broadcast", "Broadcast"],
  ["conductor", "Conductor"],
];
const MODE_WORDS = {
  broadcast: "Every active voice answers each message, all at the same time.",
  conductor: "Only the voice that is named or picked answers.",
};
const CONTINUATIONS = [
  ["none", "None"],
  ["prompt", "Ask"],
  ["auto", "Auto"],
];
const CONTINUATION_WORDS = {
  none: "After a round only voices with further rounds of their own go on.",
  prompt: "After a round a person is asked whether the voices go on.",
  auto: "Voices go on by themselves; when one calls another by @Name, only that one does.",
};

export async function show(container, params) {
  if (params.composition) return showOne(container, params);
  if (!params.query.has("new")) return showAll(container, params);
  if (may("operator")) return edit(container, params, null);
  fill(container, looking("a composition"));
}

// -- all of them --------------------------------------------------------------------------------

async function showAll(container, { query, signal }) {
  const { compositions } = await get("/api/compositions", { signal });
  const archived = query.get("view") === "archived";
  const shown = compositions.filter((one) => one.archived === archived);
  const body = page("Compositions", {
    lead: "Sets of voices to begin a session with. A session keeps the voices it began with, whatever becomes of the composition.",
    actions: may("operator") ? [newLink()] : [],
  });
  if (archived || compositions.some((one) => one.archived)) body.append(tabs(archived));
  body.append(shown.length ? el("ul", { class: "cards", role: "list" }, shown.map(card)) : nothing(archived));
  fill(container, body);
}

const newLink = () => el("a", { class: "button primary", href: "/console/compositions?new" }, icon("plus"), "New composition");

function nothing(archived) {
  if (archived) return empty("archive", "Nothing is archived", "Compositions that you put away are kept here.");
  return empty(
    "layers",
    "No compositions yet",
    "Put several agents or models into one conversation: let them answer side by side, or take turns.",
    ...(may("operator") ? [newLink()] : []),
  );
}

function tabs(archived) {
  const tab = (href, words, on) => el("a", { class: "tab", href, "aria-current": on ? "page" : null }, words);
  return el(
    "nav",
    { class: "tabs", "aria-label": "What is shown" },
    tab("/console/compositions", "In use", !archived),
    tab("/console/compositions?view=archived", "Archived", archived),
  );
}

function card(one) {
  return el(
    "li",
    { class: "card composition" },
    el("h2", {}, el("a", { href: link(one) }, one.name)),
    el("p", { class: "row wrap" }, one.voices.map((voice) => badge(voice.name, "accent"))),
    el("p", { class: "muted" }, `${label(MODES, one.mode)}, continuation: ${label(CONTINUATIONS, one.continuation).toLowerCase()}`),
    one.problems.length > 0 && el("p", { class: "bad-words" }, one.problems[0]),
    el("div", { class: "actions foot" }, one.origin === "config" && badge("configuration"), el("span", { class: "grow" }), launchButton(one, "small")),
  );
}

const label = (options, value) => options.find(([given]) => given === value)?.[1] ?? value;
const link = ({ name }) => `/console/compositions/${encodeURIComponent(name)}`;
const api = ({ name }) => `/api/compositions/${encodeURIComponent(name)}`;

function launchButton(one, kind) {
  if (!may("operator") || one.archived) return null;
  const work = async () => {
    const made = await post("/api/sessions", { composition: one.name });
    go(`/console/sessions/${made.session}`);
  };
  const node = doing("Begin session", work, { kind, glyph: "chat", failing: `Could not begin a session with ${one.name}`, name: `Begin a session with ${one.name}` });
  node.disabled = one.problems.length > 0;
  return node;
}

// -- one of them --------------------------------------------------------------------------------

async function showOne(container, params) {
  const one = await get(`/api/compositions/${encodeURIComponent(params.composition)}`, { signal: params.signal });
  title(one.name);
  if (one.origin === "made" && may("operator")) return edit(container, params, one);
  const body = page(one.name, {
    lead: one.origin === "config" ? "Part of the configuration: change it there, under [compositions]." : null,
    actions: [launchButton(one, "primary")].filter(Boolean),
    narrow: true,
  });
  body.prepend(backLink());
  body.append(troubles(one.problems), reading(one));
  fill(container, body);
}

const backLink = () => el("a", { class: "back-link", href: "/console/compositions" }, icon("back"), "Compositions");

function troubles(problems) {
  if (!problems.length) return "";
  const words = "Nothing can be begun with it until this is mended:";
  return el("div", { class: "notice bad" }, icon("alert"), el("div", {}, el("p", {}, words), el("ul", {}, problems.map((one) => el("li", {}, one)))));
}

function reading(one) {
  return el(
    "div",
    { class: "stack" },
    one.voices.map((voice) =>
      el(
        "section",
        { class: "card" },
        el("h2", {}, voice.name),
        facts(
          ["Agent", voice.agent],
          ["Model", voice.model && [el("code", {}, voice.model), ` by ${voice.provider}`]],
          ["Prompt", voice.prompt && el("p", { class: "prompt" }, voice.prompt)],
          ["Further rounds", String(voice.rounds)],
        ),
      ),
    ),
    el(
      "section",
      { class: "card" },
      facts(
        ["Mode", [el("span", {}, label(MODES, one.mode)), el("span", { class: "muted" }, MODE_WORDS[one.mode])]],
        ["Continuation", [el("span", {}, label(CONTINUATIONS, one.continuation)), el("span", { class: "muted" }, CONTINUATION_WORDS[one.continuation])]],
      ),
    ),
  );
}

// -- the editor ---------------------------------------------------------------------------------

async function edit(container, { signal }, one) {
  const [{ agents }, { providers }] = await Promise.all([get("/api/agents", { signal }), get("/api/compositions", { signal })]);
  const draft = structuredClone(one ?? { name: "", voices: [firstVoice(agents)], mode: "broadcast", continuation: "none" });
  const save = doing("Save", () => store(one, draft, form), { kind: "primary", failing: "Could not save" });
  const body = page(one ? one.name : "New composition", {
    lead: one ? null : "Give it a name and the voices that a session is to begin with.",
    actions: one ? [launchButton(one, ""), moreMenu(one)].filter(Boolean) : [],
    narrow: true,
  });
  body.prepend(backLink());
  if (one) body.append(one.archived ? archivedNotice(one) : "", troubles(one.problems));
  const name = el("input", { type: "text", value: draft.name, maxlength: "40", autocomplete: "off", autofocus: !one, dataset: { path: "name" } });
  name.addEventListener("input", () => (draft.name = name.value));
  const voices = el("ol", { class: "voice-list", role: "list" });
  const form = el(
    "form",
    { class: "stack wide-gaps", novalidate: true, onsubmit: (event) => (event.preventDefault(), save.click()) },
    el("p", { class: "notice bad", role: "alert", hidden: true, dataset: { summary: "" } }),
    field("Name", name),
    el("section", { class: "stack tight", dataset: { path: "voices" } }, el("h2", {}, "Voices"), voices),
    choice("Mode", MODES, MODE_WORDS, draft, "mode"),
    choice("Continuation", CONTINUATIONS, CONTINUATION_WORDS, draft, "continuation"),
    el("div", { class: "actions end" }, el("a", { class: "button", href: "/console/compositions", dataset: { discards: "" } }, "Cancel"), save),
  );
  const list = { draft, agents, providers, node: voices };
  showVoices(list);
  body.append(guardForm(form));
  fill(container, body);
}

const firstVoice = (agents) => (agents.length ? { agent: agents[0].agent, name: agents[0].agent, rounds: 0 } : { provider: "", model: "", prompt: "", name: "", rounds: 0 });

function choice(words, options, explained, draft, key) {
  const hint = el("p", { class: "hint" }, explained[draft[key]]);
  const pick = (given) => {
    draft[key] = given;
    fill(hint, explained[given]);
  };
  return el("div", { class: "field", dataset: { path: key } }, el("span", { class: "label" }, words), el("div", {}, segments(words, options, draft[key], pick)), hint);
}

function archivedNotice(one) {
  const restore = async () => {
    await put(api(one), { ...definition(one), archived: false });
    toast(`${one.name} is in use again`);
    await reload();
  };
  return el("div", { class: "notice" }, icon("archive"), el("p", { class: "grow" }, "It is archived: no session can be begun with it."), doing("Restore", restore, { kind: "small", failing: "Could not restore it" }));
}

function moreMenu(one) {
  const button = el("button", { class: "button icon", type: "button", "aria-label": "More" }, icon("more"));
  button.addEventListener("click", () =>
    menu(button, [
      !one.archived && { label: "Archive", icon: "archive", run: () => archive(one) },
      { label: "Delete", icon: "trash", danger: true, run: () => drop(one) },
    ].filter(Boolean)),
  );
  return button;
}

async function archive(one) {
  try {
    await put(api(one), { ...definition(one), archived: true });
    toast(`${one.name} is archived`);
    go("/console/compositions");
  } catch (error) {
    problem(error, "Could not archive it");
  }
}

async function drop(one) {
  const text = "Sessions that were begun with it keep their voices.";
  if (!(await confirm({ title: `Delete ${one.name}?`, text, action: "Delete", danger: true }))) return;
  try {
    await remove(api(one));
    toast(`${one.name} is deleted`);
    go("/console/compositions");
  } catch (error) {
    problem(error, "Could not delete it");
  }
}

const definition = ({ name, voices, mode, continuation }) => ({ name, voices, mode, continuation });

// -- voices of the editor -----------------------------------------------------------------------

function showVoices(list, { focus = null } = {}) {
  const { draft, node } = list;
  fill(node, draft.voices.map((voice, place) => voiceItem(list, voice, place)), el("li", {}, addButtons(list)));
  if (focus) node.querySelector(focus)?.focus();
}

function addButtons(list) {
  const full = list.draft.voices.length >= MOST_VOICES;
  const add = (voice) => () => {
    list.draft.voices.push(voice());
    showVoices(list, { focus: `[data-path="voices.${list.draft.voices.length - 1}.name"]` });
  };
  const button = (words, voice) => el("button", { class: "button small", type: "button", disabled: full, onclick: add(voice) }, icon("plus"), words);
  return el(
    "div",
    { class: "actions" },
    list.agents.length > 0 && button("Agent", () => unused(list)),
    button("Model with a prompt", () => ({ provider: list.providers[0] ?? "", model: "", prompt: "", name: "", rounds: 0 })),
    full && el("span", { class: "muted" }, `A session has at most ${MOST_VOICES} voices.`),
  );
}

/** An agent under a name that is still free. */
function unused({ draft, agents }) {
  const taken = new Set(draft.voices.map((one) => one.name.toLowerCase()));
  const agent = (agents.find((one) => !taken.has(one.agent.toLowerCase())) ?? agents[0]).agent;
  let name = agent;
  for (let number = 2; taken.has(name.toLowerCase()); number += 1) name = `${agent} ${number}`;
  return { agent, name, rounds: 0 };
}

function voiceItem(list, voice, place) {
  const path = (key) => ({ path: `voices.${place}.${key}` });
  const last = list.draft.voices.length - 1;
  const move = (to, way) => {
    const [moved] = list.draft.voices.splice(place, 1);
    list.draft.voices.splice(to, 0, moved);
    showVoices(list, { focus: `[data-move="${to} ${way}"]:not(:disabled), [data-move^="${to} "]:not(:disabled)` });
  };
  const mover = (way, to, disabled, words) =>
    el("button", { class: `button quiet icon small move-${way}`, type: "button", disabled, "aria-label": words, title: words, dataset: { move: `${place} ${way}` }, onclick: () => move(to, way) }, icon("chevron"));
  const called = voice.name || `voice ${place + 1}`;
  const take = () => {
    list.draft.voices.splice(place, 1);
    showVoices(list);
  };
  const node = el(
    "li",
    { class: "card voice-card", dataset: { place } },
    el(
      "header",
      { class: "row" },
      el("span", { class: "grip", draggable: "true", title: "Drag to another place", "aria-hidden": "true" }, "⠿"),
      el("h3", { class: "grow" }, voice.agent === undefined ? "Model with a prompt" : "Agent"),
      mover("up", place - 1, place === 0, `Move ${called} up`),
      mover("down", place + 1, place === last, `Move ${called} down`),
      el("button", { class: "button quiet icon small", type: "button", disabled: last === 0, "aria-label": `Remove ${called}`, title: `Remove ${called}`, onclick: take }, icon("close")),
    ),
    el("div", { class: "fields" }, voice.agent === undefined ? modelFields(list, voice, path) : agentField(list, voice, path), input("Name", voice, "name", path, { maxlength: "40" }, "Others call it @Name.")),
    voice.agent === undefined && promptField(voice, path),
    el("div", { class: "field", dataset: path("rounds") }, el("span", { class: "label" }, "Further rounds after its first answer"), el("div", {}, segments("Further rounds", ["0", "1", "2", "3"].map((one) => [one, one]), String(voice.rounds), (given) => (voice.rounds = Number(given))))),
  );
  dragging(list, node, place, move);
  return node;
}

function agentField({ agents }, voice, path) {
  const known = agents.map((one) => one.agent);
  const options = known.includes(voice.agent) ? known : [[voice.agent, `${voice.agent} (not configured)`], ...known];
  const control = select(options, { value: voice.agent });
  Object.assign(control.dataset, path("agent"));
  control.addEventListener("change", () => (voice.agent = control.value));
  return field("Agent", control);
}

function modelFields({ providers }, voice, path) {
  const options = providers.includes(voice.provider) ? providers : [[voice.provider, `${voice.provider || "none"} (not configured)`], ...providers];
  const provider = select(options, { value: voice.provider });
  Object.assign(provider.dataset, path("provider"));
  provider.addEventListener("change", () => (voice.provider = provider.value));
  return [field("Provider", provider), input("Model", voice, "model", path, { spellcheck: "false" })];
}

function promptField(voice, path) {
  const control = el("textarea", { rows: "3", dataset: path("prompt"), placeholder: "Who it is and what it looks at." });
  control.value = voice.prompt ?? "";
  control.addEventListener("input", () => (voice.prompt = control.value));
  return field("Prompt", control);
}

function input(words, voice, key, path, props, hint = null) {
  const control = el("input", { type: "text", value: voice[key] ?? "", autocomplete: "off", dataset: path(key), ...props });
  control.addEventListener("input", () => (voice[key] = control.value));
  return field(words, control, { hint });
}

/** Voices can be dragged by their grip; the buttons do the same for keys and touch. */
function dragging(list, node, place, move) {
  const grip = node.querySelector(".grip");
  grip.addEventListener("dragstart", (event) => {
    list.dragged = { place, move };
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", String(place));
    event.dataTransfer.setDragImage(node, 16, 16);
    node.classList.add("dragged");
  });
  grip.addEventListener("dragend", () => {
    list.dragged = null;
    node.classList.remove("dragged");
  });
  node.addEventListener("dragover", (event) => {
    if (!list.dragged || list.dragged.place === place) return;
    event.preventDefault();
    node.classList.add("drop-here");
  });
  node.addEventListener("dragleave", (event) => node.contains(event.relatedTarget) || node.classList.remove("drop-here"));
  node.addEventListener("drop", (event) => {
    if (!list.dragged) return;
    event.preventDefault();
    list.dragged.move(place, list.dragged.place > place ? "up" : "down");
  });
}

// -- saving -------------------------------------------------------------------------------------

async function store(one, draft, form) {
  clear(form);
  const given = definition(draft);
  given.name = given.name.trim();
  try {
    const made = one ? await put(api(one), given) : await post("/api/compositions", given);
    toast(`${made.name} is saved`);
    await go(link(made), { replace: Boolean(one) });
  } catch (error) {
    if (![400, 409, 422].includes(error.status)) throw error;
    tell(form, error.message.split("\n"));
  }
}

function clear(form) {
  for (const one of form.querySelectorAll("[aria-invalid]")) one.removeAttribute("aria-invalid");
  for (const one of form.querySelectorAll(".error")) one.remove();
  form.querySelector("[data-summary]").hidden = true;
}

/** Show each problem at its control, and those without one at the top. */
function tell(form, problems) {
  const left = problems.filter((one) => !attach(form, one));
  const summary = form.querySelector("[data-summary]");
  summary.hidden = false;
  fill(summary, left.length ? left.join(" ") : "Some things need to be mended first; they are marked below.");
  (form.querySelector('[aria-invalid="true"]') ?? summary).scrollIntoView({ block: "center" });
  form.querySelector('[aria-invalid="true"]')?.focus();
}

function attach(form, problem_) {
  const [, path, words] = /^([\w.]+): (.*)$/s.exec(problem_) ?? [];
  const control = path && form.querySelector(`[data-path="${path}"]`);
  if (!control) return false;
  const place = control.closest(".field") ?? control;
  if (control.matches("input, select, textarea")) control.setAttribute("aria-invalid", "true");
  place.append(el("span", { class: "error" }, words[0].toUpperCase() + words.slice(1)));
  return true;
}
