// The voices of a session: who they are, what they do, whom messages go to.

import { get, may } from "./api.js";
import { open } from "./dialog.js";
import { el, fill } from "./dom.js";
import { initials } from "./feed_view.js";
import { icon } from "./icons.js";
import { field, segments, select, toggle } from "./parts.js";
import { problem } from "./toast.js";

const MODES = [
  ["broadcast", "Broadcast"],
  ["conductor", "Conductor"],
];
const MODE_HINTS = {
  broadcast: "Every active voice answers.",
  conductor: "The voice you pick answers; the others read along.",
};
const CONTINUATIONS = [
  ["none", "Only by its own rounds"],
  ["prompt", "Ask me before each round"],
  ["auto", "By themselves"],
];
const STATUS = { waiting: "Waiting", generating: "Answering", done: "Done", error: "Failed" };

/**
 * `host` gives session(), voices() with their status, aimed(), target(voice), change(fields),
 * voice(voice, fields), add(fields), stop(voice), fold(voice, on), folded(voice), close().
 */
export class VoicePanel {
  constructor(host) {
    this.host = host;
    this.open = new Set();
    this.drawn = "";
    this.list = el("ul", { class: "voice-list", role: "list" });
    this.mode = el("div", { class: "voice-mode" });
    const away = el("button", { class: "button quiet icon small", type: "button", "aria-label": "Close the voices", onclick: () => host.close() }, icon("close"));
    this.more = el("div", {});
    this.node = el(
      "aside",
      { class: "voice-panel", "aria-label": "Voices" },
      el("header", { class: "row" }, el("h2", { class: "grow" }, "Voices"), away),
      this.mode,
      this.list,
      this.more,
    );
  }

  update() {
    const session = this.host.session();
    const voices = this.host.voices();
    const drawn = JSON.stringify([voices, session.mode, session.continuation, session.archived, this.host.aimed(), [...this.open], voices.map((one) => this.host.folded(one.voice))]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const focused = document.activeElement?.closest?.("[data-keep]")?.dataset.keep;
    const fixed = Boolean(session.archived) || !may("operator");
    fill(this.mode, voices.length > 1 && this.drawMode(session, fixed));
    fill(this.list, voices.map((one) => this.row(one, session, fixed, voices.length)));
    fill(this.more, !fixed && el("button", { class: "button quiet small", type: "button", dataset: { keep: "add" }, onclick: () => this.add() }, icon("plus"), "Add a voice"));
    if (focused) this.node.querySelector(`[data-keep="${CSS.escape(focused)}"]`)?.focus();
  }

  drawMode(session, fixed) {
    const mode = session.mode ?? "broadcast";
    const group = segments("Who answers", MODES, mode, (chosen) => this.host.change({ mode: chosen }));
    const rounds = select(CONTINUATIONS, { value: session.continuation ?? "none", disabled: fixed });
    rounds.classList.add("small");
    rounds.addEventListener("change", () => this.host.change({ continuation: rounds.value }));
    if (fixed) for (const one of group.children) one.disabled = true;
    return [group, el("p", { class: "hint" }, MODE_HINTS[mode]), field("Voices go on", rounds)];
  }

  row(voice, session, fixed, count) {
    const status = voice.active === false ? "inactive" : voice.status ?? "waiting";
    const aimed = this.host.aimed() === voice.voice;
    const opened = this.open.has(voice.voice);
    const body = [
      el("span", { class: "monogram", "aria-hidden": "true" }, initials(voice.name), el("i", { class: `status ${status}` })),
      el(
        "span",
        { class: "grow" },
        el("span", { class: "voice-name" }, voice.name),
        el("small", {}, `${voice.active === false ? "Rests" : STATUS[status] ?? status}`),
      ),
    ];
    const pickable = count > 1 && voice.active !== false && !fixed;
    const name = pickable
      ? el(
          "button",
          {
            class: "voice-pick",
            type: "button",
            "aria-pressed": String(aimed),
            title: aimed ? "Messages go to this voice" : `Direct messages to ${voice.name}`,
            dataset: { keep: `pick${voice.voice}` },
            onclick: () => this.host.target(aimed && session.mode !== "conductor" ? null : voice.voice),
          },
          body,
        )
      : el("div", { class: "voice-pick" }, body);
    const stop =
      voice.status === "generating" &&
      may("operator") &&
      el("button", { class: "button quiet icon small", type: "button", "aria-label": `Stop ${voice.name}`, title: `Stop ${voice.name}`, onclick: () => this.host.stop(voice.voice) }, icon("stop"));
    const expand = el(
      "button",
      {
        class: "button quiet icon small expand",
        type: "button",
        "aria-expanded": String(opened),
        "aria-label": `Settings of ${voice.name}`,
        dataset: { keep: `open${voice.voice}` },
        onclick: () => {
          if (!this.open.delete(voice.voice)) this.open.add(voice.voice);
          this.update();
        },
      },
      icon("chevron"),
    );
    return el(
      "li",
      { class: aimed ? "voice-row aimed" : "voice-row" },
      el("div", { class: "row" }, name, stop, expand),
      voice.error && status === "error" && el("p", { class: "voice-error" }, voice.error),
      opened && this.settings(voice, fixed, count),
    );
  }

  settings(voice, fixed, count) {
    const rounds = segments("Further rounds", [["0", "0"], ["1", "1"], ["2", "2"], ["3", "3"]], String(voice.rounds ?? 0), (chosen) =>
      this.host.voice(voice.voice, { rounds: Number(chosen) }),
    );
    const active = toggle(`${voice.name} takes part`, voice.active !== false, (on) => this.host.voice(voice.voice, { active: on }));
    const shown = toggle(`Show what ${voice.name} says`, !this.host.folded(voice.voice), async (on) => this.host.fold(voice.voice, !on));
    if (fixed) {
      active.disabled = true;
      for (const one of rounds.children) one.disabled = true;
    }
    return el(
      "dl",
      { class: "voice-settings" },
      el("dt", {}, "Agent"),
      el("dd", {}, voice.agent ?? "—"),
      el("dt", {}, "Model"),
      el("dd", {}, [voice.provider, voice.model].filter(Boolean).join(" · ") || "—"),
      count > 1 && [el("dt", {}, "Takes part"), el("dd", {}, active)],
      count > 1 && [el("dt", {}, "Further rounds"), el("dd", {}, rounds)],
      el("dt", {}, "Shown in full"),
      el("dd", {}, shown),
    );
  }

  async add() {
    let agents;
    try {
      ({ agents } = await get("/api/agents"));
    } catch (error) {
      return problem(error, "The agents could not be read");
    }
    const agent = select(agents.map((one) => [one.agent, `${one.agent} · ${one.model}`]));
    const name = el("input", { placeholder: agents[0]?.agent ?? "", maxlength: "60", autocomplete: "off" });
    const rounds = select([["0", "none"], ["1", "1"], ["2", "2"], ["3", "3"]]);
    agent.addEventListener("change", () => (name.placeholder = agent.value));
    await open({
      title: "Add a voice",
      body: el(
        "div",
        { class: "stack" },
        el("p", { class: "muted" }, "It reads what was said and answers from the next message on."),
        field("Agent", agent),
        field("Name", name, { hint: "How it is called in this session." }),
        field("Further rounds by itself", rounds),
      ),
      focus: agent,
      actions: [
        { label: "Cancel", value: null },
        {
          label: "Add",
          primary: true,
          run: () => this.host.add({ agent: agent.value, ...(name.value.trim() && { name: name.value.trim() }), rounds: Number(rounds.value) }),
        },
      ],
    });
  }
}
