// The agents of the configuration: what they are, what they may call, what they may take.

import { get } from "../api.js";
import { facts } from "../doing.js";
import { el, fill } from "../dom.js";
import { badge, empty, page } from "../parts.js";
import { count, duration } from "../time.js";

const BUSY = {
  queue: "wait until it has answered",
  steer: "are told to it at the next step",
  interrupt: "interrupt it",
};

export async function show(container, { signal }) {
  const { agents } = await get("/api/agents", { signal });
  const body = page("Agents", {
    lead: "Named set-ups that answer. They live in the configuration; a session keeps the one it began with for life.",
  });
  body.append(
    agents.length
      ? el("div", { class: "stack" }, agents.map(card))
      : empty("spark", "No agents", "Add [agents.NAME] with a provider and a model to the configuration, then restart the service."),
  );
  fill(container, body);
}

function card(agent) {
  return el(
    "article",
    { class: "card agent" },
    el(
      "header",
      { class: "agent-head" },
      el("h2", {}, agent.agent),
      el("p", { class: "muted" }, el("code", {}, agent.model), " by ", agent.provider),
    ),
    facts(
      ["Tools", agent.tools.length ? badges(agent.tools) : el("span", { class: "muted" }, "none of those built in")],
      ["Takes files", agent.attachments.length ? badges(agent.attachments) : el("span", { class: "muted" }, "none")],
      ["Messages that come while it answers", BUSY[agent.busy] ?? agent.busy],
    ),
    agent.knobs.length > 0 && el("details", { class: "strip" }, el("summary", {}, `Knobs (${agent.knobs.length})`), el("div", { class: "body" }, knobs(agent.knobs))),
    agent.limits && el("details", { class: "strip" }, el("summary", {}, "Limits"), el("div", { class: "body" }, limits(agent.limits))),
  );
}

const badges = (names) => el("span", { class: "row wrap" }, names.map((one) => badge(one)));

function knobs(found) {
  return facts(
    ...found.map((one) => [
      el("code", {}, one.knob),
      [
        el("span", {}, one.description),
        el("span", { class: "muted" }, `${one.takes}; default ${JSON.stringify(one.default)}`),
        one.model_may_set && badge("the model may turn it"),
        one.momentary && badge("for one turn"),
      ],
    ]),
  );
}

function limits(given) {
  const dollars = (amount) => amount && `$${amount}`;
  return facts(
    ["First word within", duration(given.first_token)],
    ["Silence in the middle", duration(given.stall)],
    ["One answer", duration(given.total)],
    ["Model calls", `${count(given.iterations)} per ${given.iterations_per}`],
    ["Tries of one request", `${given.retries} more, within ${duration(given.retry_budget)}`],
    ["History shown to it", `${count(given.history_characters)} characters`],
    ["Tokens of one response", given.output_tokens ? count(given.output_tokens) : "as the model does"],
    ["Cost of a turn", dollars(given.turn_cost) ?? "no limit"],
    ["Cost of a day", dollars(given.day_cost) ?? "no limit"],
    ["Questions stay open", duration(given.answer_within)],
  );
}
