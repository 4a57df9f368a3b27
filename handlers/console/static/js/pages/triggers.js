// The ways in: webhooks with a trial ring, and the Telegram bot with those at its door.

import { get, may, post, remove } from "../api.js";
import { confirm, open } from "../dialog.js";
import { copying, doing, facts } from "../doing.js";
import { el, fill } from "../dom.js";
import { icon } from "../icons.js";
import { badge, empty, field, page, segments } from "../parts.js";
import { advice, problem, toast } from "../toast.js";
import { ago, count, duration, whole } from "../time.js";

const AUTH = {
  bearer: ["bearer token", ""],
  github: ["signed by GitHub", ""],
  "standard-webhooks": ["signed (Standard Webhooks)", ""],
  none: ["open to everybody", "warn"],
};
const REPLIES = {
  ack: "says at once that it was stored",
  wait: "waits for the answer",
  stream: "streams the answer",
  callback: "calls back with the answer",
};
const WAIT_SECONDS = 20;

export async function show(container, { signal }) {
  const body = page("Triggers", {
    lead: "What rings an agent from outside: webhooks that others post to, and the chats of a Telegram bot.",
  });
  const places = el("div", { class: "stack wide-gaps" });
  body.append(places);
  const again = async () => {
    const { webhooks, telegram } = await get("/api/triggers", { signal });
    fill(places, hooks(webhooks, signal), bot(telegram, again));
  };
  await again();
  fill(container, body);
}

// -- webhooks -----------------------------------------------------------------------------------

function hooks(webhooks, signal) {
  const shown = webhooks.length
    ? el("ul", { class: "rows", role: "list" }, webhooks.map((one) => hookRow(one, signal)))
    : empty(
        "hook",
        "No webhooks",
        "A webhook is a URL that rings an agent. Add [webhooks.NAME] with an agent and auth to the configuration, then restart the service.",
      );
  return el("section", { class: "stack" }, el("h2", {}, "Webhooks"), shown);
}

function hookRow(hook, signal) {
  const rings = hook.rings
    ? [`${count(hook.rings)} ${hook.rings === 1 ? "ring" : "rings"}, last `, el("time", { title: whole(hook.last_ring_at) }, ago(hook.last_ring_at))]
    : "Never rang";
  return el(
    "li",
    { class: "row-card tall" },
    el(
      "div",
      { class: "row-main" },
      el("p", { class: "row-title" }, el("strong", {}, hook.name), badge(...(AUTH[hook.auth] ?? [hook.auth]))),
      el("p", { class: "address" }, el("code", {}, hook.url), copying(hook.url, "the address")),
      el("p", { class: "row-more" }, el("span", {}, hook.agent ?? hook.composition), el("span", { class: "muted" }, rings)),
    ),
    may("operator") &&
      el("div", { class: "row-actions" }, trialButton(hook, signal)),
    el("details", { class: "strip" }, el("summary", {}, "How it is set up"), el("div", { class: "body" }, setUp(hook))),
  );
}

function trialButton(hook, signal) {
  const props = { class: "button small", type: "button", "aria-label": `Test ring of ${hook.name}`, onclick: () => tryOut(hook, signal) };
  return el("button", props, icon("bell"), "Test ring");
}

function setUp(hook) {
  const command = example(hook);
  const sessions = { new: "a new one for every post", fixed: "always the same one" };
  return [
    facts(
      ["Prompt", el("pre", { class: "template" }, hook.prompt)],
      ["Session", sessions[hook.session] ?? el("code", {}, hook.session)],
      ["Its poster", REPLIES[hook.reply] ?? hook.reply],
      ["Also says the answer", [hook.telegram && `in the Telegram chat ${hook.telegram}`, hook.callback && "to a callback"].filter(Boolean).join(" and ") || null],
      ["May act outward with", hook.permit.join(", ") || null],
      ["Needs no approval for", hook.approve.join(", ") || null],
    ),
    el("p", { class: "label" }, "From a shell"),
    el("div", { class: "snippet" }, el("pre", {}, command), copying(command, "the command")),
  ];
}

function example(hook) {
  const proof = hook.auth === "bearer" ? " \\\n  -H 'Authorization: Bearer YOUR-SECRET'" : "";
  return `curl -X POST ${hook.url} \\\n  -H 'Content-Type: application/json'${proof} \\\n  -d '{"hello": "world"}'`;
}

async function tryOut(hook, signal) {
  let kind = "json";
  const input = el("textarea", { rows: "7", class: "mono", spellcheck: "false" });
  input.value = '{\n  "hello": "world"\n}';
  const kinds = segments("What to post", [["json", "JSON"], ["text", "Text"]], kind, (given) => (kind = given));
  const answer = el("div", { class: "answer", role: "status" });
  const body = el(
    "div",
    { class: "stack" },
    el(
      "p",
      { class: "muted" },
      "Rings as if somebody had posted this, without a signature. The agent answers for real, and is bound to what posts may do.",
    ),
    el("div", {}, kinds),
    field("Body", input),
    answer,
  );
  await open({
    title: `Test ring of ${hook.name}`,
    body,
    focus: input,
    wide: true,
    actions: [
      { label: "Close", value: null },
      { label: "Ring", value: "yes", primary: true, run: () => ring(hook, kind, input, answer, signal) },
    ],
  });
}

/** Ring and show what comes; false keeps the dialog open. */
async function ring(hook, kind, input, answer, signal) {
  input.removeAttribute("aria-invalid");
  try {
    const given = kind === "json" ? { body: JSON.parse(input.value) } : { text: input.value };
    fill(answer, waiting("Ringing"));
    const receipt = await post(`/api/webhooks/${encodeURIComponent(hook.name)}/ring`, given, { signal });
    fill(answer, waiting("Stored. The agent answers"), sessionLink(receipt));
    const turn = await get(`/api/turns/${receipt.turn}`, { query: { wait: WAIT_SECONDS }, signal });
    fill(answer, ...outcome(turn, receipt));
  } catch (error) {
    input.setAttribute("aria-invalid", "true");
    const words = error instanceof SyntaxError ? `This is no JSON: ${error.message}. Mend it, or post it as text.` : advice(error);
    fill(answer, el("p", { class: "notice bad" }, words));
  }
  return false;
}

const waiting = (words) => el("p", { class: "row muted" }, el("span", { class: "spinner" }), words);

const sessionLink = ({ session }) => el("a", { href: `/console/sessions/${session}`, target: "_blank", rel: "noopener" }, "Open the session");

function outcome(turn, receipt) {
  const kinds = { succeeded: ["answered", "ok"], failed: ["failed", "bad"], stopped: ["stopped", "warn"], waiting: ["waits for you", "accent"] };
  const [words, kind] = kinds[turn.state] ?? ["still answering", "accent"];
  return [
    el("p", { class: "row wrap" }, badge(words, kind), el("span", { class: "muted" }, duration(turn.processing_ms)), sessionLink(receipt)),
    turn.text && el("pre", { class: "template" }, turn.text),
    turn.error && el("p", { class: "notice bad" }, turn.error),
  ];
}

// -- telegram -----------------------------------------------------------------------------------

function bot(telegram, again) {
  const heading = el("h2", {}, "Telegram");
  if (!telegram) {
    return el(
      "section",
      { class: "stack" },
      heading,
      empty("plane", "No Telegram bot", "Get a token from BotFather, add [telegram] with token, agent and allow to the configuration, and restart the service."),
    );
  }
  const state = telegram.healthy ? badge("connected", "ok") : badge("not connected", "bad");
  return el(
    "section",
    { class: "stack" },
    el("div", { class: "row wrap" }, heading, state),
    el(
      "div",
      { class: "card" },
      facts(
        ["Bot", telegram.username ? el("a", { href: `https://t.me/${telegram.username}`, rel: "noopener noreferrer", target: "_blank" }, `@${telegram.username}`) : `number ${telegram.bot}`],
        ["Agent", telegram.agent],
        ["Updates come by", telegram.mode],
        ["In groups it answers", telegram.groups === "all" ? "everything" : "when it is addressed"],
      ),
    ),
    pending(telegram, again),
    allowed(telegram, again),
  );
}

function pending({ pending: found }, again) {
  const heading = el("h3", {}, "Asked to be let in");
  if (!found.length) {
    const words = "Nobody was refused in the last seven days. Whoever writes to the bot and is not allowed shows up here.";
    return el("div", { class: "stack tight" }, heading, el("p", { class: "muted" }, words));
  }
  return el(
    "div",
    { class: "stack tight" },
    heading,
    el("p", { class: "muted" }, "Names are what people call themselves. Only the number is vouched for by Telegram."),
    el("ul", { class: "rows", role: "list" }, found.map((one) => stranger(one, again))),
  );
}

function stranger(one, again) {
  const called = one.kind === "group" ? one.title : [one.name, one.username && `@${one.username}`].filter(Boolean).join(" ");
  const letIn = async () => {
    await post("/api/telegram/allow", { id: one.id });
    toast(`${called || one.id} may write now`);
    await again();
  };
  return el(
    "li",
    { class: "row-card" },
    icon(one.kind === "group" ? "people" : "person"),
    el(
      "div",
      { class: "row-main" },
      el("p", { class: "row-title" }, el("strong", {}, called || `A ${one.kind}`), el("code", { class: "muted" }, String(one.id)), el("time", { class: "muted", title: whole(one.at) }, ago(one.at))),
      one.text && el("p", { class: "quote" }, one.text),
      el("p", { class: "address muted" }, el("code", {}, one.line), copying(one.line, "the line for the configuration")),
    ),
    may("operator") && el("div", { class: "row-actions" }, doing("Allow", letIn, { kind: "small primary", failing: "Could not allow", name: `Allow ${called || one.id}` })),
  );
}

function allowed({ allow }, again) {
  const rows = allow.map((one) =>
    el(
      "li",
      {},
      icon(one.id < 0 ? "people" : "person"),
      el("code", {}, String(one.id)),
      el("span", { class: "muted grow" }, one.origin === "config" ? "in the configuration" : "allowed here"),
      one.origin === "made" && may("operator") && shutOut(one, again),
    ),
  );
  const shown = rows.length
    ? el("ul", { class: "plain-rows", role: "list" }, rows)
    : el("p", { class: "muted" }, "Nobody yet: the bot answers no one but with their number.");
  return el("div", { class: "stack tight" }, el("h3", {}, "May write"), shown, may("operator") && adding(again));
}

function shutOut(one, again) {
  const work = async () => {
    const text = `What ${one.id} writes from now on is ignored. Sessions stay.`;
    if (!(await confirm({ title: "Take the permission back?", text, action: "Take back", danger: true }))) return;
    await remove(`/api/telegram/allow/${one.id}`);
    toast(`${one.id} may not write any more`);
    await again();
  };
  return doing("Take back", work, { kind: "quiet small", failing: "Could not take it back", name: `Take back the permission of ${one.id}` });
}

function adding(again) {
  const input = el("input", { type: "text", inputmode: "numeric", pattern: "-?[0-9]+", placeholder: "11111111", class: "input small", "aria-label": "Number of a person or group" });
  const form = el("form", { class: "row add-row" }, input, el("button", { class: "button small", type: "submit" }, "Allow a number"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!input.value.trim()) return input.focus();
    try {
      await post("/api/telegram/allow", { id: Number(input.value) });
      toast(`${input.value.trim()} may write now`);
      await again();
    } catch (error) {
      problem(error, "Could not allow it");
    }
  });
  return form;
}
