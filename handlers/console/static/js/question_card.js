// A question or an approval that a turn waits for: answered here, once.

import { may } from "./api.js";
import { el } from "./dom.js";
import { icon } from "./icons.js";
import { ago, when } from "./time.js";
import { pretty } from "./tool_strip.js";

const OVER = { expired: "Nobody answered in time.", cancelled: "Withdrawn: the talk went on without it." };

/** `answer(words)` is a promise of whether the answer was taken. */
export function questionCard(question, answer) {
  const approval = question.kind === "approval";
  const open = question.state === "open";
  const card = el(
    "section",
    { class: open ? "question" : "question over", "aria-label": approval ? "Approval" : "Question" },
    el(
      "header",
      { class: "row" },
      icon(approval ? "key" : "chat"),
      el("b", { class: "grow" }, approval ? `May ${question.tool} run?` : "A question for you"),
      open && question.expires_at && el("small", { class: "muted" }, timeLeft(question.expires_at)),
    ),
    approval
      ? [el("p", { class: "muted" }, "With exactly this input:"), el("pre", { class: "exact", tabindex: "0" }, pretty(question.arguments) || "no input")]
      : el("p", { class: "question-text" }, question.text),
  );
  card.append(open ? controls(question, approval, answer) : outcome(question, approval));
  return card;
}

function timeLeft(at) {
  const left = Date.parse(at) - Date.now();
  if (left <= 0) return "its time is over";
  return left < 172_800_000 ? `answer within ${ago(at).replace(/^in /, "")}` : `answer until ${when(at)}`;
}

function controls(question, approval, answer) {
  if (!may("operator")) return el("p", { class: "muted" }, "An operator can answer it.");
  const box = el("div", { class: "question-controls" });
  const say = async (words) => {
    for (const one of box.querySelectorAll("button, input")) one.disabled = true;
    const taken = await answer(words);
    if (!taken) for (const one of box.querySelectorAll("button, input")) one.disabled = false;
  };
  const button = (label, words, kind = "") =>
    el("button", { class: `button ${kind}`.trim(), type: "button", onclick: () => say(words) }, label);
  if (approval) {
    box.append(el("div", { class: "actions" }, button("Allow", "yes", "primary"), button("Deny", "no", "danger")));
    return box;
  }
  if (question.choices?.length) {
    box.append(el("div", { class: "actions" }, question.choices.map((one) => button(one, one))));
  }
  const input = el("input", {
    class: "input grow",
    placeholder: question.choices?.length ? "Or answer in your own words" : "Your answer",
    "aria-label": "Your answer",
    maxlength: "20000",
  });
  const form = el("form", { class: "row" }, input, el("button", { class: "button", type: "submit" }, "Answer"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.value.trim()) say(input.value.trim());
  });
  box.append(form);
  return box;
}

function outcome(question, approval) {
  const by = question.by ? ` by ${question.by}` : "";
  if (question.state === "answered") {
    const words = approval ? (/^\s*(yes|y|ok|allow)/i.test(question.answer ?? "") ? "Allowed" : "Denied") : `Answered: ${question.answer ?? ""}`;
    return el("p", { class: "outcome" }, icon("check"), `${words}${by}`);
  }
  return el("p", { class: "outcome muted" }, OVER[question.state] ?? question.state);
}
