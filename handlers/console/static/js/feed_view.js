// The conversation as nodes: what has not changed is not touched.

import { el, fill } from "./dom.js";
import { isOver, shownOf, textOf } from "./feed.js";
import { icon } from "./icons.js";
import { Stream, render } from "./markdown.js";
import { questionCard } from "./question_card.js";
import { clock, day, duration, money, size, whole } from "./time.js";
import { ToolStrip } from "./tool_strip.js";

const NEAR_END = 120;
const LONG_TEXT = 2400;
const ENDED = {
  interrupted: "Interrupted.",
  asked: "It had a question and nobody to ask.",
  iterations: "It used up its steps. Write “go on” to let it continue.",
  length: "The answer was cut at the output limit. Write “go on” to let it continue.",
  cost: "The budget is used up. Raise it in the agent's limits, or wait until tomorrow.",
};
const CUT = { partial: "Stopped here. What was said is kept.", error: "It broke off here." };

/**
 * `host` gives: voices() of the session, many() whether there are several, sent() what is on its
 * way, gap() and fillGap(), older() to load what was before, steps(turn), answer(question, words),
 * copied.
 */
export class FeedView {
  constructor(scroller, feed, host) {
    this.scroller = scroller;
    this.feed = feed;
    this.host = host;
    this.sections = new Map();
    this.blocks = new Map();
    this.dirty = new Set();
    this.all = false;
    this.frame = null;
    this.stuck = true;
    this.fresh = 0;
    this.folded = new Set();
    this.top = el("div", { class: "feed-top" });
    this.list = el("div", { class: "feed-list" });
    this.pending = el("div", { class: "feed-pending" });
    this.gap = el("div", { class: "feed-gap", hidden: true });
    this.said = el("div", { class: "visually-hidden", "aria-live": "polite" });
    this.inner = el("div", { class: "feed", role: "log", "aria-live": "off", "aria-label": "Conversation" }, this.top, this.list, this.pending);
    fill(scroller, this.inner, this.said);
    this.down = el(
      "button",
      { class: "button small feed-down", type: "button", hidden: true, onclick: () => this.toEnd() },
      icon("down"),
      el("span", {}, "Newest"),
    );
    scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.sizes = new ResizeObserver(() => this.stuck && this.jump());
    this.sizes.observe(this.inner);
    this.sizes.observe(scroller);
    this.near = new IntersectionObserver((found) => found.some((one) => one.isIntersecting) && host.older(), {
      root: scroller,
      rootMargin: "800px 0px",
    });
    this.near.observe(this.top);
  }

  close() {
    this.sizes.disconnect();
    this.near.disconnect();
    cancelAnimationFrame(this.frame);
  }

  /** Take an event that was folded in. */
  heard(event) {
    const reply = event.data?.reply;
    const within = ["text", "thinking", "tool.started", "tool.finished"].includes(event.kind);
    if (within && this.blocks.has(reply)) this.dirty.add(reply);
    else this.all = true;
    this.later();
    this.announce(event);
  }

  /** Draw everything anew that has changed. */
  update() {
    this.all = true;
    this.later();
  }

  later() {
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    if (this.all) this.drawAll();
    else for (const one of this.dirty) this.blocks.get(one)?.update(this.feed.replies.get(one));
    this.dirty.clear();
    this.all = false;
    if (this.stuck) this.jump();
  }

  // -- the whole -------------------------------------------------------------------------------

  drawAll() {
    const anchor = this.anchor();
    const seen = new Set();
    let before = null;
    let date = null;
    const gap = this.host.gap();
    this.gap.hidden = !gap;
    let gapDone = !gap;
    for (const group of this.feed.groups()) {
      const entries = this.entries(group);
      if (entries.length === 0) continue;
      let section = this.sections.get(group.key);
      if (!section) {
        section = { node: el("section", { class: "turn" }), entries: new Map() };
        this.sections.set(group.key, section);
      }
      seen.add(group.key);
      const at = (group.messages[0] ?? group.replies[0])?.at;
      const today = at ? day(at) : date;
      if (today !== date) entries.unshift({ key: "day", sig: today, make: () => el("div", { class: "feed-day" }, el("span", {}, today)) });
      date = today;
      this.reconcile(section, entries);
      if (!gapDone && group.number > gap.after) {
        before = this.put(this.gap, before);
        gapDone = true;
      }
      before = this.put(section.node, before);
    }
    for (const [key, section] of this.sections) {
      if (seen.has(key)) continue;
      section.node.remove();
      this.sections.delete(key);
    }
    this.drawPending();
    this.restore(anchor);
  }

  put(node, before) {
    const place = before ? before.nextSibling : this.list.firstChild;
    if (place !== node) this.list.insertBefore(node, place);
    return node;
  }

  /** The entries of a group: { key, sig, make, update }; made anew when `sig` changes. */
  entries(group) {
    const found = group.messages.map((one) => this.messageEntry(one));
    const many = this.host.many() || group.replies.some((one) => one.round > 1);
    let round = 0;
    const rounds = Math.max(0, ...group.rounds.keys(), ...group.replies.map((one) => one.round));
    for (const reply of group.replies) {
      if (reply.round !== round && many && rounds > 1) found.push(this.roundEntry(reply.round, group));
      round = reply.round;
      found.push(this.replyEntry(reply));
    }
    for (const one of group.questions) found.push(this.questionEntry(one));
    const end = this.endEntry(group);
    if (end) found.push(end);
    return found;
  }

  reconcile(section, entries) {
    const keys = new Set(entries.map((one) => one.key));
    for (const [key, old] of section.entries) {
      if (keys.has(key)) continue;
      old.node.remove();
      if (old.block) this.forget(old.block);
      section.entries.delete(key);
    }
    let before = null;
    for (const entry of entries) {
      let old = section.entries.get(entry.key);
      if (old && old.sig !== entry.sig && !entry.update) {
        const node = entry.make();
        old.node.replaceWith(node);
        old = { node, sig: entry.sig };
        section.entries.set(entry.key, old);
      } else if (!old) {
        const made = entry.make();
        old = made instanceof Node ? { node: made, sig: entry.sig } : { node: made.node, sig: entry.sig, block: made };
        section.entries.set(entry.key, old);
      }
      entry.update?.(old.block);
      const place = before ? before.nextSibling : section.node.firstChild;
      if (place !== old.node) section.node.insertBefore(old.node, place);
      before = old.node;
    }
  }

  forget(block) {
    if (this.blocks.get(block.id) === block) this.blocks.delete(block.id);
  }

  // -- entries ---------------------------------------------------------------------------------

  messageEntry(message) {
    const ahead = this.feed.ahead(message.turn);
    const joined = this.feed.turns.get(message.turn)?.joined;
    return {
      key: `m${message.number}`,
      sig: `${message.status} ${ahead} ${joined} ${message.attachments?.length} ${message.text?.length}`,
      make: () => messageNode(message, { ahead, joined }),
    };
  }

  roundEntry(round, group) {
    const voices = group.rounds.get(round)?.voices ?? [];
    const names = voices.map((one) => (typeof one === "string" ? one : one.name)).filter(Boolean);
    return {
      key: `round${round}`,
      sig: names.join(),
      make: () => el("div", { class: "feed-round", role: "separator" }, el("span", {}, `Round ${round}`), names.length > 0 && el("small", {}, names.join(", "))),
    };
  }

  replyEntry(reply) {
    const id = reply.reply ?? `m${reply.number}`;
    return {
      key: `r${id}`,
      sig: "",
      make: () => {
        const block = new ReplyBlock(id, reply, this);
        this.blocks.set(id, block);
        return block;
      },
      update: (block) => block.update(reply),
    };
  }

  questionEntry(question) {
    return {
      key: `q${question.question}`,
      sig: `${question.state} ${question.answer}`,
      make: () => questionCard(question, (words) => this.host.answer(question, words)),
    };
  }

  endEntry(group) {
    const turn = group.turn;
    if (!turn || !isOver(turn)) return null;
    const told = group.replies.some((one) => one.error && one.error === turn.error);
    if (turn.state === "failed" && turn.error && !told) {
      return { key: "end", sig: turn.error, make: () => notice("bad", turn.error) };
    }
    if (turn.ended && ENDED[turn.ended] && turn.ended !== "interrupted") {
      return { key: "end", sig: turn.ended, make: () => notice("warn", ENDED[turn.ended]) };
    }
    if (turn.state === "stopped" && group.replies.length === 0) {
      return { key: "end", sig: "stopped", make: () => el("p", { class: "feed-note" }, "Stopped before it began.") };
    }
    return null;
  }

  drawPending() {
    fill(this.pending, this.host.sent().map(pendingNode));
  }

  // -- where we are ----------------------------------------------------------------------------

  scrolled() {
    const left = this.scroller.scrollHeight - this.scroller.clientHeight - this.scroller.scrollTop;
    this.stuck = left < NEAR_END && !this.host.gap();
    if (this.stuck) this.fresh = 0;
    this.down.hidden = left < NEAR_END * 3 && !this.fresh;
    this.down.lastChild.textContent = this.fresh ? `${this.fresh} new` : "Newest";
  }

  /** Something new came while the reader was further up. */
  came() {
    if (this.stuck) return;
    this.fresh += 1;
    this.scrolled();
  }

  jump() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  toEnd() {
    this.stuck = true;
    this.fresh = 0;
    this.draw();
    this.jump();
  }

  /** Show a message in the middle, and point at it. */
  show(number) {
    this.draw();
    const node = this.inner.querySelector(`[data-number="${CSS.escape(String(number))}"]`);
    if (!node) return false;
    this.stuck = false;
    node.scrollIntoView({ block: "center" });
    node.classList.add("pointed");
    setTimeout(() => node.classList.remove("pointed"), 2600);
    return true;
  }

  anchor() {
    if (this.stuck) return null;
    const top = this.scroller.getBoundingClientRect().top;
    for (const node of this.list.children) {
      const box = node.getBoundingClientRect();
      if (box.bottom > top) return { node, top: box.top };
    }
    return null;
  }

  restore(anchor) {
    if (!anchor?.node.isConnected) return;
    this.scroller.scrollTop += anchor.node.getBoundingClientRect().top - anchor.top;
  }

  announce(event) {
    if (event.kind === "message.added" && event.data.role === "voice") this.said.textContent = `${event.data.author}: ${event.data.text.slice(0, 300)}`;
    if (event.kind === "question.asked") this.said.textContent = `A question waits for you: ${event.data.text}`;
    if (event.kind === "turn.finished" && event.data.error) this.said.textContent = event.data.error;
  }

  /** Fold or unfold all blocks of a voice. */
  fold(voice, folded) {
    if (folded) this.folded.add(voice);
    else this.folded.delete(voice);
    for (const block of this.blocks.values()) if (block.voice === voice) block.setFolded(folded);
  }
}

// -- messages ------------------------------------------------------------------------------------

function messageNode(message, { ahead, joined }) {
  if (message.role === "system") return systemNode(message);
  const event = message.role === "event";
  const note = ahead === null ? joined && "Taken along by the answer that ran" : queuedNote(ahead);
  return el(
    "article",
    { class: event ? "said event" : "said", dataset: { number: message.number } },
    el(
      "header",
      { class: "said-head" },
      event && icon("hook", "Event"),
      el("span", { class: "said-author" }, message.author),
      el("time", { datetime: message.at, title: whole(message.at) }, clock(message.at)),
    ),
    message.text && longText(message.text),
    files(message.attachments),
    note && el("p", { class: "said-note" }, note),
  );
}

function queuedNote(ahead) {
  return ahead === 0 ? "Queued: it is next" : `Queued: ${ahead} before it`;
}

/** The words of people and events are shown as they are. */
function longText(text) {
  const body = el("div", { class: "said-text" }, text);
  if (text.length <= LONG_TEXT) return body;
  body.classList.add("cut");
  const more = el("button", { class: "button quiet small", type: "button", "aria-expanded": "false" }, "Show all");
  more.addEventListener("click", () => {
    const cut = body.classList.toggle("cut");
    more.textContent = cut ? "Show all" : "Show less";
    more.setAttribute("aria-expanded", String(!cut));
  });
  return [body, more];
}

function systemNode(message) {
  if (message.text.length < 160 && !message.text.includes("\n")) {
    return el("div", { class: "feed-note", dataset: { number: message.number } }, message.text);
  }
  return el(
    "details",
    { class: "strip", dataset: { number: message.number } },
    el("summary", {}, icon("fold"), el("span", { class: "grow" }, "Everything before was summed up"), el("time", {}, clock(message.at))),
    el("div", { class: "body md" }, render(message.text)),
  );
}

export function files(attachments) {
  if (!attachments?.length) return null;
  const items = attachments.map((one) => {
    const words = [icon("file"), el("span", { class: "file-name" }, one.name), el("small", {}, one.problem ?? size(one.size ?? 0))];
    // Events name the file and leave its address to us.
    const url = one.url ?? (one.attachment && `/api/attachments/${one.attachment}`);
    if (!url || one.problem) return el("li", {}, el("span", { class: "file" }, words));
    return el("li", {}, el("a", { class: "file", href: url, download: one.name, title: `Save ${one.name}` }, words));
  });
  return el("ul", { class: "files", role: "list", "aria-label": "Files" }, items);
}

function pendingNode(one) {
  const failed = one.state === "failed";
  return el(
    "article",
    { class: failed ? "said failed" : "said sending" },
    one.text && el("div", { class: "said-text" }, one.text),
    files(one.files.map((file) => ({ name: file.name, size: file.size }))),
    failed
      ? el(
          "div",
          { class: "said-note bad", role: "alert" },
          el("span", {}, `Not sent. ${one.problem}`),
          el(
            "span",
            { class: "actions" },
            el("button", { class: "button small", type: "button", onclick: one.again }, "Send again"),
            el("button", { class: "button quiet small", type: "button", onclick: one.edit }, "Edit"),
          ),
        )
      : el("p", { class: "said-note" }, one.state === "sent" ? "Received" : "Sending …"),
  );
}

function notice(kind, text) {
  return el("div", { class: `notice ${kind}` }, icon("alert"), el("div", {}, text));
}

// -- answers -------------------------------------------------------------------------------------

/** One voice's answer in one round, while it comes in and afterwards. */
class ReplyBlock {
  constructor(id, reply, view) {
    this.id = id;
    this.view = view;
    this.voice = reply.voice;
    this.parts = new Map();
    this.name = el("span", { class: "voice-name" });
    this.about = el("span", { class: "voice-about" });
    this.time = el("time");
    this.head = el(
      "button",
      { class: "reply-head", type: "button", "aria-expanded": "true" },
      el("span", { class: "monogram", "aria-hidden": "true" }, initials(reply.name)),
      this.name,
      this.about,
      this.time,
      icon("chevron"),
    );
    this.head.addEventListener("click", () => this.setFolded(!this.node.classList.contains("folded")));
    this.body = el("div", { class: "reply-body" });
    this.busy = el("p", { class: "thinking", hidden: true }, el("span", { class: "dots", "aria-hidden": "true" }, el("i"), el("i"), el("i")), el("span"));
    this.foot = el("footer", { class: "reply-foot" });
    this.node = el("article", { class: "reply" }, this.head, this.body, this.busy, this.foot);
    this.drawn = "";
    if (view.folded.has(reply.voice)) this.setFolded(true);
  }

  setFolded(folded) {
    this.node.classList.toggle("folded", folded);
    this.head.setAttribute("aria-expanded", String(!folded));
  }

  update(given) {
    if (!given) return;
    const message = given.message === null ? null : this.view.feed.messages.get(given.message);
    const reply = { ...given, said: given.said ?? message ?? null };
    const open = reply.state === "generating";
    this.name.textContent = reply.name;
    const voice = this.view.host.voices().find((one) => one.voice === reply.voice);
    this.about.textContent = voice && this.view.host.many() ? voice.model ?? "" : "";
    const at = reply.said?.at ?? reply.at;
    if (at && this.time.dateTime !== at) {
      this.time.dateTime = at;
      this.time.textContent = clock(at);
      this.time.title = whole(at);
    }
    const number = reply.said?.number ?? reply.number;
    if (this.node.dataset.number !== String(number)) this.node.dataset.number = number;
    this.node.setAttribute("aria-label", `${reply.name}${reply.round > 1 ? `, round ${reply.round}` : ""}`);
    this.node.setAttribute("aria-busy", String(open));
    this.drawParts(reply, open);
    this.drawBusy(reply, open);
    this.drawFoot(reply, open);
  }

  drawParts(reply, open) {
    const segments = shownOf(reply);
    const keys = new Set(segments.map((one) => one.key));
    for (const [key, part] of this.parts) {
      if (keys.has(key)) continue;
      part.node.remove();
      this.parts.delete(key);
    }
    let before = null;
    segments.forEach((segment, place) => {
      let part = this.parts.get(segment.key);
      if (!part) {
        part = makePart(segment, this.view);
        this.parts.set(segment.key, part);
      }
      part.update(segment, open && place === segments.length - 1);
      const next = before ? before.nextSibling : this.body.firstChild;
      if (next !== part.node) this.body.insertBefore(part.node, next);
      before = part.node;
    });
  }

  drawBusy(reply, open) {
    const last = reply.segments.at(-1);
    const running = last?.kind === "tool" && last.state === "running" && last.tool;
    const words = running ? `Using ${last.tool}` : last?.kind === "text" ? "" : "Thinking";
    this.busy.hidden = !open;
    if (this.busy.lastChild.textContent !== words) this.busy.lastChild.textContent = words;
  }

  drawFoot(reply, open) {
    const turn = this.view.feed.turns.get(reply.turn);
    const cut = CUT[reply.said?.status];
    const drawn = [open, reply.state, reply.error, cut, turn?.state, reply.reply, Boolean(reply.said)].join("|");
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const failed = reply.error ? notice("bad", reply.error) : cut && el("p", { class: "feed-note left" }, cut);
    const last = turn && isOver(turn) && turn.usage && !this.view.host.many();
    const cost = last ? (turn.usage.cost_micros ?? 0) / 1e6 : 0;
    const took = last && turn.processingMs !== null ? [duration(turn.processingMs), cost ? ` · ${money(cost)}` : ""] : null;
    const words = () => reply.said?.text ?? textOf(this.view.feed.replies.get(reply.reply) ?? reply);
    const copy = el("button", { class: "button quiet small", type: "button", title: "Copy this answer" }, icon("copy"), "Copy");
    copy.addEventListener("click", () => this.view.host.copy(words()));
    const steps = !reply.reply && reply.turn && el("button", { class: "button quiet small", type: "button", title: "Show the tools and thoughts behind it" }, icon("tool"), "Steps");
    if (steps) {
      steps.addEventListener("click", async () => {
        steps.disabled = true;
        await this.view.host.steps(reply.turn);
        steps.disabled = false;
      });
    }
    const over = !open && reply.state !== "waiting" && (reply.said || reply.segments.length > 0);
    const project = reply.turn && this.view.host.scan() && el("button", { class: "button quiet small", type: "button", title: "Open the project that this scan made" }, icon("project"), "Project");
    if (project) project.addEventListener("click", () => this.view.host.project(reply.turn));
    const tools = (over || project) && el("div", { class: "reply-tools" }, over && copy, over && steps, project, over && took && el("small", {}, took));
    fill(this.foot, failed, tools);
  }
}

function makePart(segment, view) {
  if (segment.kind === "question") return new Question(view);
  if (segment.kind === "tool") return new ToolStrip();
  return segment.kind === "thinking" ? new Thoughts() : new Words();
}

class Words {
  constructor() {
    this.node = el("div", { class: "md" });
    this.stream = new Stream(this.node);
    this.drawn = null;
  }

  update({ text }, open) {
    const drawn = `${text.length} ${open}`;
    if (drawn === this.drawn && text === this.stream.text) return;
    this.drawn = drawn;
    this.stream.update(text, { open });
  }
}

class Question {
  constructor(view) {
    this.view = view;
    this.node = el("div");
    this.drawn = "";
  }

  update({ question }) {
    const found = this.view.feed.questions.get(question);
    const drawn = found ? `${found.state} ${found.answer}` : "";
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    fill(this.node, found && questionCard(found, (words) => this.view.host.answer(found, words)));
  }
}

class Thoughts {
  constructor() {
    this.text = el("div", { class: "body thoughts" });
    this.node = el("details", { class: "strip quiet" }, el("summary", {}, icon("spark"), "Thoughts"), this.text);
  }

  update({ text }) {
    if (this.text.textContent !== text) this.text.textContent = text;
  }
}

export function initials(name) {
  const words = (name ?? "?").trim().split(/[\s_-]+/);
  return (words.length > 1 ? words[0][0] + words[1][0] : (words[0] ?? "?").slice(0, 2)).toUpperCase();
}
