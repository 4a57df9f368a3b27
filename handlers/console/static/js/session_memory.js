// The settings of a session's agent, and what the session remembers.

import { get, patch } from "./api.js";
import { open } from "./dialog.js";
import { el, fill } from "./dom.js";
import { render } from "./markdown.js";
import { field, segments, select, spinner, toggle } from "./parts.js";
import { advice, problem } from "./toast.js";
import { pretty } from "./tool_strip.js";

const BUSY = [
  ["queue", "Queue it"],
  ["steer", "Steer the answer"],
  ["interrupt", "Interrupt it"],
];

/** Show them; `changed(fields)` changes the session itself. */
export async function showMemory(session, { fixed, changed }) {
  const body = el("div", { class: "stack" }, spinner());
  const shown = open({ title: "Settings and memory", body, wide: true, actions: [{ label: "Close", value: null, primary: true }] });
  try {
    const path = `/api/sessions/${session.session}/state`;
    const [memory, { agents }] = await Promise.all([get(path), get("/api/agents").catch(() => ({ agents: [] }))]);
    const agent = agents.find((one) => one.agent === session.agent);
    fill(body, busy(session, fixed, changed), knobs(memory.knobs ?? [], agent, path, fixed), remembered(memory));
  } catch (error) {
    fill(body, el("p", { class: "notice bad" }, advice(error)));
  }
  return shown;
}

function busy(session, fixed, changed) {
  const group = segments("A message while it answers", BUSY, session.busy ?? "queue", (chosen) => changed({ busy: chosen }));
  if (fixed) for (const one of group.children) one.disabled = true;
  return el("div", { class: "field" }, el("span", { class: "label" }, "A message that comes while it answers"), el("div", {}, group));
}

function knobs(found, agent, path, fixed) {
  if (found.length === 0) return el("p", { class: "muted" }, "The agent of this session has no settings of its own.");
  const schemas = new Map((agent?.knobs ?? []).map((one) => [one.knob, one.schema ?? {}]));
  return el(
    "fieldset",
    { class: "stack", disabled: fixed },
    el("legend", { class: "label" }, "Settings of the agent"),
    found.map((one) => knob(one, schemas.get(one.knob) ?? {}, path)),
  );
}

function knob(one, schema, path) {
  const set = async (value) => {
    try {
      await patch(path, { knobs: { [one.knob]: value } });
    } catch (error) {
      problem(error, `${one.knob} was not changed`);
      throw error;
    }
  };
  const hint = [one.description, one.momentary && "For one answer only.", one.model_may_set && "The model may change it."].filter(Boolean).join(" ");
  if (schema.type === "boolean" || typeof one.default === "boolean") {
    const on = toggle(one.knob, one.value === true, set);
    return el("div", { class: "field" }, el("div", { class: "row" }, on, el("b", {}, one.knob)), el("span", { class: "hint" }, hint));
  }
  const control = controlOf(one, schema);
  let kept = control.value;
  control.addEventListener("change", async () => {
    const value = control.type === "number" ? Number(control.value) : control.value;
    try {
      await set(value);
      kept = control.value;
    } catch {
      control.value = kept;
    }
  });
  return field(one.knob, control, { hint: `${hint} Takes ${one.takes}.` });
}

function controlOf(one, schema) {
  if (schema.enum) return select(schema.enum, { value: one.value });
  if (schema.type === "number" || typeof one.default === "number") {
    return el("input", { type: "number", value: one.value, min: schema.minimum, max: schema.maximum, step: "any" });
  }
  return el("input", { type: "text", value: one.value ?? "", maxlength: schema.maxLength });
}

function remembered({ state, summary }) {
  const parts = [];
  if (summary) {
    parts.push(el("details", { class: "strip" }, el("summary", {}, "Summary of what was before"), el("div", { class: "body md" }, render(summary))));
  }
  if (state && Object.keys(state).length > 0) {
    parts.push(el("details", { class: "strip" }, el("summary", {}, `State: ${Object.keys(state).length} entries`), el("div", { class: "body" }, el("pre", { tabindex: "0" }, pretty(state)))));
  }
  return parts.length > 0 ? parts : el("p", { class: "muted" }, "It remembers nothing besides what was said.");
}
