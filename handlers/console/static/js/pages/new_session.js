// Begin a session: with one agent, with a composition, or with voices put together here.

import { get, post } from "../api.js";
import { el, fill } from "../dom.js";
import { icon } from "../icons.js";
import { badge, empty, field, page, segments, select } from "../parts.js";
import { go, guardForm } from "../router.js";
import { advice } from "../toast.js";

const WAYS = [
  ["agent", "One agent"],
  ["composition", "Composition"],
  ["voices", "Several voices"],
];
const MODES = [
  ["broadcast", "Broadcast: every voice answers"],
  ["conductor", "Conductor: the voice you pick answers"],
];
const CONTINUATIONS = [
  ["none", "Only by their own rounds"],
  ["prompt", "Ask before each further round"],
  ["auto", "By themselves"],
];
const ROUNDS = [["0", "None"], ["1", "1"], ["2", "2"], ["3", "3"]];
const MOST_VOICES = 8;

export async function show(container, { query, signal }) {
  const [{ agents }, { compositions }] = await Promise.all([
    get("/api/agents", { signal }),
    get("/api/compositions", { signal }).catch(() => ({ compositions: [] })),
  ]);
  const body = page("New session", { lead: "It keeps its agents, providers and models for life.", narrow: true });
  fill(container, backLink(), body);
  if (agents.length === 0) {
    body.append(empty("spark", "There are no agents", "Add one to the configuration under [agents.NAME] and start the service again."));
    return;
  }
  body.append(guardForm(new Form(agents, compositions.filter((one) => !one.archived), query).node));
}

function backLink() {
  return el("a", { class: "button quiet icon only-small new-back", href: "/console/", "aria-label": "Back to the list" }, icon("back"));
}

class Form {
  constructor(agents, compositions, query) {
    this.agents = agents;
    this.compositions = compositions;
    this.voices = [];
    this.way = query.get("composition") ? "composition" : "agent";
    this.problem = el("p", { class: "notice bad", role: "alert", hidden: true });
    this.begin = el("button", { class: "button primary", type: "submit" }, "Begin");
    this.title = el("input", { type: "text", maxlength: "200", autocomplete: "off", placeholder: "From the first message" });
    this.part = el("div", { class: "stack" });
    this.parts = { agent: this.agentPart(query.get("agent")), composition: this.compositionPart(query.get("composition")), voices: this.voicesPart() };
    const ways = segments("What to begin with", WAYS, this.way, (way) => this.choose(way));
    this.node = el(
      "form",
      { class: "card stack", novalidate: true },
      el("div", {}, ways),
      this.part,
      field("Title", this.title, { hint: "Optional; it can be changed at any time." }),
      this.problem,
      el("div", { class: "actions end" }, el("a", { class: "button quiet", href: "/console/", dataset: { discards: "" } }, "Cancel"), this.begin),
    );
    this.node.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.choose(this.way);
  }

  choose(way) {
    this.way = way;
    this.problem.hidden = true;
    fill(this.part, this.parts[way]);
    if (way === "voices" && this.voices.length === 0) {
      this.addVoice();
      this.addVoice();
    }
    this.begin.disabled = way === "composition" && this.compositions.length === 0;
  }

  // -- one agent -------------------------------------------------------------------------------

  agentPart(wanted) {
    this.agent = select(this.agents.map((one) => one.agent), { value: wanted });
    this.model = el("input", { type: "text", maxlength: "200", autocomplete: "off", spellcheck: "false" });
    const about = el("p", { class: "muted" });
    const describe = () => {
      const agent = this.agents.find((one) => one.agent === this.agent.value);
      this.model.placeholder = agent.model;
      const tools = agent.tools?.length ? `Tools: ${agent.tools.join(", ")}.` : "It has no tools.";
      about.textContent = `${agent.provider} · ${agent.model}. ${tools}`;
    };
    this.agent.addEventListener("change", describe);
    describe();
    return [
      field("Agent", this.agent),
      about,
      field("Another model", this.model, { hint: "Optional: a model of the same provider, in place of the agent's own." }),
    ];
  }

  // -- a composition ---------------------------------------------------------------------------

  compositionPart(wanted) {
    if (this.compositions.length === 0) {
      return empty("layers", "No compositions yet", "A composition is a set of voices to begin with again and again.", el("a", { class: "button", href: "/console/compositions" }, "Make one"));
    }
    this.composition = select(this.compositions.map((one) => one.name), { value: wanted });
    const about = el("ul", { class: "voice-cards", role: "list" });
    const describe = () => {
      const found = this.compositions.find((one) => one.name === this.composition.value);
      fill(
        about,
        (found.voices ?? []).map((one) =>
          el("li", {}, el("b", {}, one.name ?? one.agent), " ", el("span", { class: "muted" }, one.agent ?? [one.provider, one.model].filter(Boolean).join(" · ")), one.rounds > 0 && [" ", badge(`${one.rounds} further ${one.rounds === 1 ? "round" : "rounds"}`)]),
        ),
      );
    };
    this.composition.addEventListener("change", describe);
    describe();
    return [field("Composition", this.composition), about];
  }

  // -- several voices --------------------------------------------------------------------------

  voicesPart() {
    this.rows = el("div", { class: "stack" });
    this.more = el("button", { class: "button small", type: "button", onclick: () => this.addVoice({ focus: true }) }, icon("plus"), "Add a voice");
    this.mode = select(MODES);
    this.continuation = select(CONTINUATIONS);
    return [this.rows, el("div", {}, this.more), el("div", { class: "fields" }, field("Who answers", this.mode), field("Voices go on", this.continuation))];
  }

  addVoice({ focus = false } = {}) {
    const providers = [...new Set(this.agents.map((one) => one.provider))];
    const voice = {
      agent: select([...this.agents.map((one) => [`agent:${one.agent}`, one.agent]), ["own", "Set up here …"]]),
      name: el("input", { type: "text", maxlength: "60", autocomplete: "off" }),
      rounds: select(ROUNDS),
      provider: select(providers),
      model: el("input", { type: "text", maxlength: "200", autocomplete: "off", spellcheck: "false" }),
      prompt: el("textarea", { rows: "3", maxlength: "20000" }),
    };
    const own = el("div", { class: "stack" }, el("div", { class: "fields" }, field("Provider", voice.provider), field("Model", voice.model)), field("System prompt", voice.prompt));
    const away = el("button", { class: "button quiet icon small", type: "button", "aria-label": "Leave this voice out" }, icon("close"));
    const legend = el("b", { class: "grow" });
    const describe = () => {
      const made = voice.agent.value === "own";
      own.hidden = !made;
      voice.name.placeholder = made ? "Needed" : voice.agent.value.slice("agent:".length);
      const model = this.agents.find((one) => one.provider === voice.provider.value)?.model;
      voice.model.placeholder = model ?? "";
    };
    voice.agent.addEventListener("change", describe);
    voice.provider.addEventListener("change", describe);
    voice.legend = legend;
    voice.node = el(
      "fieldset",
      { class: "voice-form stack" },
      el("div", { class: "row" }, legend, away),
      el("div", { class: "fields three" }, field("Agent", voice.agent), field("Name", voice.name), field("Further rounds", voice.rounds)),
      own,
    );
    away.addEventListener("click", () => {
      this.voices = this.voices.filter((one) => one !== voice);
      voice.node.remove();
      this.number();
    });
    this.voices.push(voice);
    this.rows.append(voice.node);
    describe();
    this.number();
    if (focus) voice.agent.focus();
  }

  number() {
    this.voices.forEach((voice, place) => (voice.legend.textContent = `Voice ${place + 1}`));
    this.more.disabled = this.voices.length >= MOST_VOICES;
  }

  // -- begin -----------------------------------------------------------------------------------

  wish() {
    const title = this.title.value.trim();
    const named = title ? { title } : {};
    if (this.way === "agent") {
      const model = this.model.value.trim();
      return { agent: this.agent.value, ...(model && { model }), ...named };
    }
    if (this.way === "composition") return { composition: this.composition.value, ...named };
    return { voices: this.voices.map(voiceOf), mode: this.mode.value, continuation: this.continuation.value, ...named };
  }

  /** The first thing that is missing: [control, sentence]; null when nothing is. */
  missing() {
    if (this.way !== "voices") return null;
    if (this.voices.length === 0) return [this.more, "Add at least one voice."];
    const names = new Set();
    for (const voice of this.voices) {
      const made = voice.agent.value === "own";
      const name = (voice.name.value.trim() || (made ? "" : voice.agent.value.slice(6))).toLowerCase();
      if (!name) return [voice.name, "Give the voice a name."];
      if (names.has(name)) return [voice.name, `Two voices are called “${name}”. Give one of them another name.`];
      names.add(name);
      if (made && !voice.model.value.trim()) return [voice.model, "Say which model the voice uses."];
    }
    return null;
  }

  async submit() {
    const missing = this.missing();
    if (missing) {
      this.tell(missing[1]);
      missing[0].focus();
      return;
    }
    this.problem.hidden = true;
    this.begin.disabled = true;
    try {
      const session = await post("/api/sessions", this.wish());
      await go(`/console/sessions/${session.session}`, { replace: true });
      document.dispatchEvent(new CustomEvent("session-changed", { detail: session }));
    } catch (error) {
      this.tell(advice(error));
      this.begin.disabled = false;
    }
  }

  tell(words) {
    this.problem.textContent = words;
    this.problem.hidden = false;
  }
}

function voiceOf(voice) {
  const rounds = Number(voice.rounds.value);
  const name = voice.name.value.trim();
  if (voice.agent.value !== "own") {
    return { agent: voice.agent.value.slice("agent:".length), ...(name && { name }), rounds };
  }
  return { provider: voice.provider.value, model: voice.model.value.trim(), prompt: voice.prompt.value, name, rounds };
}
