// The key results of a session, and the tool results that could become some.

import { el, fill } from "./dom.js";
import { icon } from "./icons.js";
import { badge } from "./parts.js";
import { ResultCard, ResultData, content, extent } from "./result_card.js";
import { editResult } from "./result_form.js";
import { advice } from "./toast.js";
import { clock } from "./time.js";

const LONGEST_PREVIEW = 120;
const CANDIDATE_PX = 240;

export class ResultsPanel {
  /** `host` gives session, mayWrite(), changed(). */
  constructor(host) {
    this.host = { ...host, edit: (result, data) => this.edit(result, data) };
    this.cards = new Map();
    this.strips = new Map();
    this.list = el("ol", { class: "results", role: "list" });
    this.none = el("p", { class: "muted findings-none" });
    this.candidates = el("ol", { class: "candidates", role: "list" });
    this.count = el("span", {});
    this.fold = el("details", { class: "strip quiet candidates-fold" }, el("summary", {}, this.count), this.candidates);
    this.node = el("section", { class: "findings-part", "aria-label": "Key results", dataset: { part: "results" } }, el("h2", {}, "Key results"), this.none, this.list, this.fold);
  }

  /** Cards of results that are the same stay: their tables keep their place. */
  update(results, { started }) {
    const shown = results.filter((one) => one.title !== null);
    const candidates = results.filter((one) => one.title === null);
    keep(this.list, this.cards, shown, (one) => new ResultCard(one, this.host));
    keep(this.candidates, this.strips, candidates, (one) => new Candidate(one, this.host));
    this.none.hidden = shown.length > 0;
    this.none.textContent = started ? (candidates.length ? "None yet. The agent promotes what matters; a candidate below can be promoted by hand." : "None yet. What tools find out is listed here.") : "It has not started yet.";
    this.fold.hidden = candidates.length === 0;
    this.count.textContent = `Candidates (${candidates.length})`;
    return shown.length;
  }

  async edit(result, data) {
    if (await editResult(this.host.session, result, data)) await this.host.changed();
  }

  /** Bring a result into sight; false when it is not there. */
  reveal(name) {
    const card = this.cards.get(name);
    if (!card) return false;
    card.node.scrollIntoView({ block: "start" });
    card.title.focus();
    card.node.classList.remove("pointed");
    requestAnimationFrame(() => card.node.classList.add("pointed"));
    return true;
  }
}

function keep(list, known, wanted, make) {
  for (const name of [...known.keys()].filter((one) => !wanted.some(({ result }) => result === one))) known.delete(name);
  const nodes = wanted.map((one) => {
    const found = known.get(one.result);
    found?.update(one);
    if (!found) known.set(one.result, make(one));
    return known.get(one.result).node;
  });
  // What stands in its place already is not moved: that would lose its scroll position and focus.
  nodes.forEach((node, place) => list.children[place] === node || list.insertBefore(node, list.children[place] ?? null));
  while (list.children.length > nodes.length) list.lastElementChild.remove();
}

/** A tool result without a title. */
class Candidate {
  constructor(result, host) {
    this.result = result;
    this.data = new ResultData(host.session, result.result);
    this.body = el("div", { class: "body" });
    const promote = host.mayWrite() && el("button", { class: "button small", type: "button", onclick: (event) => (event.preventDefault(), host.edit(this.result, this.data)) }, "Promote");
    const head = el("summary", {}, el("b", { class: "mono" }, result.tool), el("span", { class: "tool-preview" }, preview(result.arguments)), badge(extent(result)), el("span", { class: "muted nowrap" }, clock(result.created_at)));
    this.strip = el("details", { class: "strip tool" }, head, this.body);
    this.strip.addEventListener("toggle", () => this.strip.open && this.show());
    this.node = el("li", { class: "candidate" }, this.strip, promote);
  }

  update(result) {
    this.result = result;
  }

  async show() {
    if (this.shown) return;
    try {
      const found = await this.data.read();
      this.shown = true;
      fill(this.body, el("pre", { tabindex: "0" }, sql(this.result.arguments)), content(found, this.result, "table", CANDIDATE_PX));
    } catch (error) {
      fill(this.body, el("p", { class: "bad-words" }, icon("alert"), advice(error)));
    }
  }
}

/** What a tool was asked: a query as it is, else JSON. */
function sql(given) {
  const values = Object.values(given ?? {});
  return values.length === 1 && typeof values[0] === "string" ? values[0] : JSON.stringify(given ?? {}, null, 2);
}

function preview(given) {
  const words = sql(given).replace(/\s+/g, " ");
  return words.length > LONGEST_PREVIEW ? `${words.slice(0, LONGEST_PREVIEW)}…` : words;
}
