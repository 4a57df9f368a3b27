// From messages and events to what readers see: a fold without a document or a network.
//
// A message and the event that tells of it have one number, so both ways meet: what was read as a
// message and comes again as an event is the same thing.

const FINAL = new Set(["succeeded", "failed", "stopped"]);

export class Feed {
  constructor() {
    this.messages = new Map();
    this.turns = new Map();
    this.replies = new Map();
    this.questions = new Map();
    /** The number of the newest event folded in. */
    this.number = 0;
  }

  /** Take messages that were read. Returns the keys of the groups that changed. */
  add(messages) {
    const changed = new Set();
    for (const one of messages) {
      this.messages.set(one.number, { ...this.messages.get(one.number), ...one });
      changed.add(this.#match(one) ?? groupOf(one));
    }
    return changed;
  }

  /**
   * Fold one event in; `past` for events of old turns that are read on their own. Returns the key
   * of the group that changed, null when nothing did.
   */
  apply(event, { past = false } = {}) {
    if (!past) {
      if (event.number <= this.number) return null;
      this.number = event.number;
    }
    const data = event.data ?? {};
    switch (event.kind) {
      case "message.added":
        return this.#message(event, data);
      case "turn.queued":
      case "turn.started":
      case "turn.retrying":
      case "turn.finished":
        return this.#turn(event, data);
      case "round.started":
        return this.#round(event, data);
      case "reply.started":
        return this.#begin(event, data);
      case "text":
      case "thinking":
        return this.#words(event.kind, data);
      case "reply.reset":
        return this.#reset(data);
      case "reply.finished":
        return this.#end(data);
      case "tool.started":
      case "tool.finished":
        return this.#tool(event, data);
      case "question.asked":
        return this.#ask(event, data);
      case "question.answered":
        return this.#answer(data);
      default:
        return null;
    }
  }

  /** What belongs together, in order: { key, number, turn, messages, replies, questions, rounds }. */
  groups() {
    const found = new Map();
    const group = (key, number, turn) => {
      let one = found.get(key);
      if (!one) {
        one = { key, number, turn: this.turns.get(turn) ?? null, messages: [], replies: [], questions: [], rounds: new Map() };
        found.set(key, one);
      }
      one.number = Math.min(one.number, number);
      return one;
    };
    for (const one of this.messages.values()) {
      if (one.reply && one.role !== "system") continue;
      const place = group(groupOf(one), one.number, one.turn);
      if (one.role === "voice") place.replies.push(spoken(one));
      else place.messages.push(one);
    }
    for (const one of this.replies.values()) {
      const message = one.message === null ? null : this.messages.get(one.message);
      // What came of summing up stands in the conversation as a message of the system.
      if (message?.role === "system") continue;
      group(one.turn, one.number, one.turn).replies.push({ ...one, said: message ?? null });
    }
    for (const one of this.questions.values()) if (!one.within) group(one.turn, one.number, one.turn).questions.push(one);
    for (const one of found.values()) {
      for (const [round, told] of one.turn?.rounds ?? []) one.rounds.set(round, told);
      one.messages.sort((a, b) => a.number - b.number);
      one.questions.sort((a, b) => a.number - b.number);
      one.replies.sort((a, b) => a.round - b.round || a.number - b.number);
    }
    return [...found.values()].sort((a, b) => a.number - b.number);
  }

  /** The turns that are not over, in the order they were queued. */
  open() {
    return [...this.turns.values()].filter((one) => !FINAL.has(one.state)).sort((a, b) => a.number - b.number);
  }

  /** The turn that runs or waits for an answer; null when none does. */
  running() {
    return this.open().find((one) => one.state !== "queued") ?? null;
  }

  /** How many turns are before a queued one; null when it is not queued. */
  ahead(turn) {
    const open = this.open();
    const place = open.findIndex((one) => one.turn === turn);
    return place >= 0 && open[place].state === "queued" ? place : null;
  }

  /** The newest reply of every voice, by the voice's id. */
  newest() {
    const found = new Map();
    for (const one of this.replies.values()) {
      const old = found.get(one.voice);
      if (!old || one.number > old.number) found.set(one.voice, one);
    }
    return found;
  }

  // -- one kind of event each ------------------------------------------------------------------

  #message(event, data) {
    const message = { attachments: [], ...data, number: data.number ?? event.number, turn: event.turn, at: event.at };
    const old = this.messages.get(message.number);
    this.messages.set(message.number, { ...message, ...old });
    return this.#match(this.messages.get(message.number)) ?? groupOf(message);
  }

  /** Tie a voice's message to the reply it is the end of. */
  #match(message) {
    if (!message.voice || message.reply || !message.turn) return null;
    const round = message.round ?? null;
    const fits = [...this.replies.values()].filter(
      (one) =>
        one.turn === message.turn &&
        one.voice === message.voice &&
        one.message === null &&
        one.number < message.number &&
        (round === null || one.round === round),
    );
    const reply = fits.at(-1);
    if (!reply) return null;
    reply.message = message.number;
    if (reply.state === "generating" || reply.state === "waiting") reply.state = "done";
    message.reply = reply.reply;
    this.messages.set(message.number, message);
    return message.turn;
  }

  #turn(event, data) {
    const turn = this.#turnOf(data.turn ?? event.turn, event.number);
    if (event.kind === "turn.queued") {
      turn.kind = data.kind ?? turn.kind;
      if (!turn.touched) turn.state = "queued";
    } else if (event.kind === "turn.started") {
      turn.state = "running";
      turn.startedAt = event.at;
      turn.retry = null;
    } else if (event.kind === "turn.retrying") {
      turn.retry = { ...data, at: event.at };
    } else {
      Object.assign(turn, {
        state: data.state ?? "succeeded",
        error: data.error ?? null,
        ended: data.ended ?? null,
        joined: data.joined ?? null,
        processingMs: data.processing_ms ?? null,
        usage: data.usage ?? null,
        retry: null,
      });
      this.#close(turn.turn);
    }
    turn.touched = true;
    return turn.turn;
  }

  /** Nothing of a turn that is over goes on. */
  #close(turn) {
    for (const one of this.replies.values()) {
      if (one.turn !== turn) continue;
      if (one.state === "generating" || one.state === "waiting") one.state = "done";
      for (const tool of one.segments) if (tool.kind === "tool" && isOpen(tool)) tool.state = "cancelled";
    }
    for (const one of this.questions.values()) if (one.turn === turn && one.state === "open") one.state = "cancelled";
  }

  #round(event, data) {
    const turn = this.#turnOf(event.turn, event.number);
    turn.rounds.set(data.round ?? 1, { voices: data.voices ?? [], at: event.at });
    return turn.turn;
  }

  #begin(event, data) {
    if (this.replies.has(data.reply)) return null;
    this.#turnOf(event.turn, event.number);
    this.replies.set(data.reply, {
      reply: data.reply,
      turn: event.turn,
      voice: data.voice,
      name: data.name ?? "",
      round: data.round ?? 1,
      state: "generating",
      error: null,
      number: event.number,
      at: event.at,
      message: null,
      segments: [],
    });
    // The message may have been read before.
    for (const one of this.messages.values()) if (one.turn === event.turn) this.#match(one);
    return event.turn;
  }

  #words(kind, data) {
    const reply = this.replies.get(data.reply);
    if (!reply) return null;
    const last = reply.segments.at(-1);
    if (last?.kind === kind) last.text += data.text;
    else reply.segments.push({ kind, text: data.text, key: `${kind}${reply.segments.length}` });
    return reply.turn;
  }

  /** Take back what was said after `text`; tools have run all the same. */
  #reset(data) {
    const reply = this.replies.get(data.reply);
    if (!reply) return null;
    let left = (data.text ?? "").length;
    let over = false;
    const kept = [];
    for (const one of reply.segments) {
      if (one.kind === "tool" || one.kind === "question") kept.push(one);
      else if (!over && one.kind === "thinking") kept.push(one);
      else if (one.kind === "text" && left > 0) {
        kept.push({ ...one, text: one.text.slice(0, left) });
        left -= Math.min(left, one.text.length);
      }
      if (one.kind === "text" && left === 0) over = true;
    }
    reply.segments = kept;
    reply.state = "generating";
    if (textOf(reply) !== (data.text ?? "")) {
      reply.segments = kept.filter((one) => one.kind !== "text");
      if (data.text) reply.segments.push({ kind: "text", text: data.text, key: `text${kept.length}r` });
    }
    return reply.turn;
  }

  #end(data) {
    const reply = this.replies.get(data.reply);
    if (!reply) return null;
    reply.state = data.state ?? "done";
    reply.error = data.error ?? null;
    return reply.turn;
  }

  #tool(event, data) {
    const reply = this.replies.get(data.reply);
    if (!reply) return null;
    let tool = reply.segments.find((one) => one.kind === "tool" && one.call === data.call);
    if (!tool) {
      tool = { kind: "tool", key: `tool${data.call}`, call: data.call, tool: data.tool, arguments: "", state: "running", text: null, startedAt: event.at };
      reply.segments.push(tool);
    }
    if (event.kind === "tool.started") {
      tool.arguments = data.arguments ?? tool.arguments;
      tool.state = "running";
    } else {
      tool.state = data.state ?? "done";
      tool.text = data.text ?? "";
      tool.finishedAt = event.at;
    }
    return reply.turn;
  }

  #ask(event, data) {
    const known = this.questions.get(data.question);
    this.questions.set(data.question, { choices: [], state: "open", ...data, turn: event.turn ?? data.turn, number: event.number, ...pick(known) });
    const turn = this.#turnOf(event.turn, event.number);
    if (!FINAL.has(turn.state)) turn.state = "waiting";
    const reply = this.replies.get(data.reply);
    if (reply) {
      reply.state = "waiting";
      const tool = reply.segments.find((one) => one.kind === "tool" && one.call === data.call);
      if (tool) tool.state = "waiting";
      // It stands where it was asked: what is said after the answer comes below.
      const key = `question${data.question}`;
      if (!reply.segments.some((one) => one.key === key)) reply.segments.push({ kind: "question", key, question: data.question });
      this.questions.get(data.question).within = true;
    }
    return event.turn;
  }

  #answer(data) {
    const question = this.questions.get(data.question);
    if (!question) return null;
    Object.assign(question, { state: data.state ?? "answered", answer: data.answer ?? null, by: data.by ?? null });
    const turn = this.turns.get(question.turn);
    const left = [...this.questions.values()].some((one) => one.turn === question.turn && one.state === "open");
    if (turn && !left && turn.state === "waiting") turn.state = "queued";
    const reply = this.replies.get(question.reply);
    if (reply?.state === "waiting") reply.state = "generating";
    return question.turn;
  }

  #turnOf(id, number) {
    let turn = this.turns.get(id);
    if (!turn) {
      turn = { turn: id, number, kind: "message", state: "queued", error: null, ended: null, joined: null, rounds: new Map(), startedAt: null, retry: null, touched: false };
      this.turns.set(id, turn);
    }
    return turn;
  }
}

/** The words of a reply as they were streamed. */
export function textOf(reply) {
  return reply.segments.filter((one) => one.kind === "text").map((one) => one.text).join("");
}

/** What of a reply is to be shown: its segments, or the words of its message where they differ. */
export function shownOf(reply) {
  const said = reply.said;
  if (!said || said.text === textOf(reply) || said.text.trim() === textOf(reply).trim()) return reply.segments;
  const steps = reply.segments.filter((one) => one.kind !== "text");
  return [...steps, { kind: "text", key: "said", text: said.text }];
}

export const isOver = (turn) => FINAL.has(turn.state);

function isOpen(tool) {
  return tool.state === "running" || tool.state === "waiting";
}

/** What an answer that came before the question says. */
function pick(known) {
  return known && known.state !== "open" ? { state: known.state, answer: known.answer, by: known.by } : {};
}

/** A voice's message of which no events were read. */
function spoken(message) {
  return {
    reply: null,
    turn: message.turn,
    voice: message.voice ?? null,
    name: message.author,
    round: message.round ?? 1,
    state: message.status === "failed" ? "error" : "done",
    error: null,
    number: message.number,
    at: message.at,
    message: message.number,
    segments: [],
    said: message,
  };
}

function groupOf(message) {
  return message.turn && message.role !== "system" ? message.turn : `m${message.number}`;
}
