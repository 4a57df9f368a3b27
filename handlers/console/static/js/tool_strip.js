// A tool call that folds out: its name, what it was given, what came of it.

import { el, fill } from "./dom.js";
import { icon } from "./icons.js";
import { duration } from "./time.js";

const STATES = {
  running: ["Running", ""],
  waiting: ["Waits for you", "warn"],
  done: ["Done", "ok"],
  error: ["Failed", "bad"],
  unknown: ["Outcome unknown", "warn"],
  cancelled: ["Cancelled", ""],
};
const LONGEST_PREVIEW = 90;

export class ToolStrip {
  constructor() {
    this.name = el("b", { class: "mono" });
    this.preview = el("span", { class: "tool-preview" });
    this.state = el("span", { class: "badge" });
    this.body = el("div", { class: "body" });
    this.node = el(
      "details",
      { class: "strip tool" },
      el("summary", {}, icon("tool"), this.name, this.preview, this.state),
      this.body,
    );
    this.drawn = null;
  }

  update(tool) {
    const drawn = `${tool.state}|${tool.arguments?.length}|${tool.text?.length}`;
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    this.name.textContent = tool.tool;
    this.preview.textContent = preview(tool);
    const [words, kind] = STATES[tool.state] ?? [tool.state, ""];
    this.state.className = `badge ${kind}`;
    fill(this.state, tool.state === "running" && el("span", { class: "spinner" }), words);
    const took = tool.startedAt && tool.finishedAt ? Date.parse(tool.finishedAt) - Date.parse(tool.startedAt) : null;
    fill(
      this.body,
      el("h4", {}, "Input"),
      el("pre", { tabindex: "0" }, pretty(tool.arguments) || "—"),
      tool.text !== null && [el("h4", {}, "Result"), el("pre", { tabindex: "0" }, tool.text || "—")],
      tool.tool === "promote_result" && tool.state === "done" && shower(tool.arguments),
      took !== null && el("small", { class: "muted" }, `Took ${duration(took)}`),
    );
  }
}

/** Arguments as people read them; what is no JSON stays as it is. */
export function pretty(given) {
  if (given === null || given === undefined || given === "") return "";
  try {
    return JSON.stringify(typeof given === "string" ? JSON.parse(given) : given, null, 2);
  } catch {
    return String(given);
  }
}

/** Leads to the key result that a call was about. */
function shower(given) {
  const name = resultOf(given);
  const show = () => document.dispatchEvent(new CustomEvent("show-result", { detail: name }));
  return name && el("div", {}, el("button", { class: "button small", type: "button", onclick: show }, icon("chart"), "Show the key result"));
}

function resultOf(given) {
  try {
    return (typeof given === "string" ? JSON.parse(given) : given)?.result ?? null;
  } catch {
    return null;
  }
}

function preview({ arguments: given }) {
  const words = typeof given === "string" ? given : JSON.stringify(given ?? "");
  if (!words || words === "{}") return "";
  return words.length > LONGEST_PREVIEW ? `${words.slice(0, LONGEST_PREVIEW)}…` : words;
}
