// One session: its conversation, its voices, and where one writes.

import { ApiError, get, may, me, patch, post } from "../api.js";
import { Composer, mentioned } from "../composer.js";
import { confirm } from "../dialog.js";
import { el, fill } from "../dom.js";
import { Feed } from "../feed.js";
import { FeedView } from "../feed_view.js";
import { isGoing, sayRead } from "../going.js";
import { icon } from "../icons.js";
import { destroy as destroyInvestigation } from "../investigation_actions.js";
import { InvestigationPanel } from "../investigation_panel.js";
import { projectLink } from "../investigations.js";
import { menu } from "../menu.js";
import { empty, spinner } from "../parts.js";
import { go, title as windowTitle } from "../router.js";
import { archive, askForTitle, destroy, pin, restore, unpin } from "../session_actions.js";
import { showMemory } from "../session_memory.js";
import { nameOf, notArchivable, sourceIcon } from "../sessions.js";
import { frames, live } from "../socket.js";
import { duration, money } from "../time.js";
import { advice, problem, toast } from "../toast.js";
import { VoicePanel } from "../voice_panel.js";

const PAGE = 100;
const LARGEST_PAGE = 200;
const RECENT_TURNS = 4;
const MOST_LOOKED_AT = 30;
const READ_AFTER_MS = 300;
const REFRESH_AFTER_MS = 250;
const WIDE = "(min-width: 1180px)";
const REFRESHING = new Set(["session.changed", "voice.changed", "turn.finished", "turn.started", "message.added"]);

export async function show(container, params) {
  const view = new SessionPage(container, params);
  fill(container, spinner("Opening the session"));
  await view.load();
  return () => view.close();
}

class SessionPage {
  constructor(container, { session, query, signal }) {
    this.id = session;
    this.path = `/api/sessions/${encodeURIComponent(session)}`;
    this.container = container;
    this.wanted = Number(query.get("message")) || null;
    this.signal = signal;
    this.feed = new Feed();
    this.session = null;
    this.sent = [];
    this.aim = undefined;
    this.known = 0;
    this.oldest = Infinity;
    this.begun = false;
    this.hole = null;
    this.ticking = null;
    this.leaving = [];
  }

  // -- loading ---------------------------------------------------------------------------------

  async load() {
    this.session = await get(this.path, { signal: this.signal });
    this.known = this.session.last_event ?? 0;
    if (this.session.project || this.session.investigated) this.investigate();
    const [messages, known] = await Promise.all([this.newest(), me().catch(() => ({})), this.findings?.load(this.signal)]);
    this.feed.add(messages);
    this.oldest = messages[0]?.number ?? 0;
    this.begun = messages.length < PAGE;
    if (this.wanted && this.wanted < this.oldest) await this.window(this.wanted);
    const after = await this.from(messages);
    if (this.signal.aborted) return;
    this.draw(known);
    this.feed.number = after;
    this.follow(after);
  }

  /** It is to come to something: that is beside the talk. */
  investigate() {
    if (this.session.project) document.dispatchEvent(new CustomEvent("in-project"));
    this.findings = new InvestigationPanel(this.id, this.session.project, {
      drawn: () => this.root && this.update(),
      show: (part) => this.showPart(part),
    });
    document.addEventListener("show-result", ({ detail }) => this.reveal(detail), { signal: this.signal });
  }

  /** The newest messages; also of a service that only reads onwards. */
  async newest() {
    const last = this.session.last_message ?? this.session.last_event ?? 0;
    let found = await this.messages({ before: last + 1, limit: PAGE });
    while (found.length >= PAGE && found.at(-1).number < last && !this.signal.aborted) {
      const more = await this.messages({ after: found.at(-1).number, limit: LARGEST_PAGE });
      if (more.length === 0) break;
      found = [...found, ...more].slice(-LARGEST_PAGE);
    }
    return found;
  }

  async messages(query) {
    const { messages } = await get(`${this.path}/messages`, { query, signal: this.signal });
    return messages;
  }

  /** Messages around an old one; between them and the newest ones is a hole. */
  async window(number) {
    const found = await this.messages({ after: Math.max(0, number - PAGE / 2), limit: PAGE });
    if (found.length === 0) return;
    this.feed.add(found);
    const last = found.at(-1).number;
    this.hole = last + 1 < this.oldest && found.length >= PAGE ? { after: last, before: this.oldest } : null;
    this.oldest = found[0].number;
    this.begun = false;
  }

  /**
   * The number to follow after: before the turns that are not over, so that words on their way are
   * whole, and before the last few, so that their steps are seen.
   */
  async from(messages) {
    const turns = new Map();
    for (const one of messages) if (one.turn && !turns.has(one.turn)) turns.set(one.turn, one.number);
    const newest = [...turns].reverse();
    let after = this.session.last_event ?? 0;
    for (const [place, [turn, number]] of newest.entries()) {
      if (place >= RECENT_TURNS) {
        if (!this.session.state || place >= MOST_LOOKED_AT) break;
        const { state } = await get(`/api/turns/${turn}`, { signal: this.signal }).catch(() => ({ state: "succeeded" }));
        if (["succeeded", "failed", "stopped"].includes(state)) break;
      }
      after = Math.min(after, number - 1);
    }
    return messages.length === 0 ? 0 : Math.max(0, after);
  }

  follow(after) {
    this.leaving.push(
      live.follow(this.id, after, {
        heard: (event) => this.heard(event),
        gone: (error) => this.gone(error, after),
      }),
    );
    this.leaving.push(
      live.watch((session) => session.session === this.id && this.changed(session)),
      live.listen((status) => status === "up" && this.refresh()),
    );
    const options = { signal: this.signal };
    document.addEventListener("visibilitychange", () => this.read(), options);
    document.addEventListener("session-changed", (event) => event.detail?.session === this.id && this.changed(event.detail), options);
    document.addEventListener("session-gone", (event) => event.detail === this.id && go(this.home(), { replace: true }), options);
    addEventListener("keydown", (event) => this.keys(event), options);
  }

  /** The events after a place cannot be had any more: go on from the newest one. */
  async gone(error, after) {
    if (error.status === 404) {
      document.dispatchEvent(new CustomEvent("session-gone", { detail: this.id }));
      return;
    }
    if (this.signal.aborted || this.skipped) return problem(new ApiError(error.status, error), "The session cannot be followed");
    this.skipped = true;
    this.session = await get(this.path, { signal: this.signal });
    const last = this.session.last_event ?? after;
    this.feed.add(await this.newest());
    this.feed.number = last;
    const { questions } = await get(`${this.path}/questions`, { signal: this.signal }).catch(() => ({ questions: [] }));
    for (const one of questions) this.feed.apply({ number: last, kind: "question.asked", turn: one.turn, data: one, at: null }, { past: true });
    this.view.update();
    this.follow(last);
  }

  close() {
    for (const leave of this.leaving) leave?.();
    clearTimeout(this.reading);
    if (this.reading) this.sayRead();
    clearTimeout(this.refreshing);
    clearInterval(this.ticking);
    this.view?.close();
    this.findings?.close();
    this.composer?.closePicker();
  }

  // -- what comes in ---------------------------------------------------------------------------

  heard(event) {
    this.feed.apply(event);
    if (event.kind === "message.added" && event.data.role !== "voice") this.arrived(event);
    if (event.kind === "voice.changed") this.voiceChanged(event.data);
    this.view.heard(event);
    if (event.number > this.known) this.findings?.heard(event);
    if (event.kind === "message.added" && event.number > this.known) {
      this.view.came();
      this.session.last_message = event.number;
      this.session.unread = true;
      this.read();
    }
    if (event.kind !== "text" && event.kind !== "thinking") this.update();
    else this.drawStatus();
    if (REFRESHING.has(event.kind)) this.refresh();
  }

  /** A message of ours came round: what was shown in its stead goes. */
  arrived(event) {
    const byTurn = this.sent.find((one) => one.turn && one.turn === event.turn);
    const byText = this.sent.find((one) => !one.turn && one.state !== "failed" && one.text === (event.data.text ?? "").trim());
    const found = byTurn ?? byText;
    if (found) this.sent = this.sent.filter((one) => one !== found);
  }

  voiceChanged({ voice, active, rounds }) {
    const found = (this.session.voices ?? []).find((one) => one.voice === voice);
    if (!found) return;
    if (active !== undefined) found.active = active;
    if (rounds !== undefined) found.rounds = rounds;
  }

  changed(session) {
    this.session = { ...this.session, ...session };
    this.update();
    this.read();
  }

  refresh() {
    clearTimeout(this.refreshing);
    this.refreshing = setTimeout(async () => {
      if (isGoing(this.id)) return;
      try {
        this.changed(await get(this.path, { signal: this.signal }));
      } catch (error) {
        if (error.status === 404) document.dispatchEvent(new CustomEvent("session-gone", { detail: this.id }));
      }
    }, REFRESH_AFTER_MS);
  }

  /** Say that what is shown was read, once it is in sight; several messages at once. */
  read({ now = false } = {}) {
    if (!this.session.unread || document.hidden || !may("operator") || this.findings?.shared() === false) return;
    clearTimeout(this.reading);
    this.reading = setTimeout(() => this.sayRead(), now ? 0 : READ_AFTER_MS);
  }

  async sayRead() {
    this.reading = null;
    if (document.hidden || !this.session.unread || isGoing(this.id)) return;
    this.session.unread = false;
    try {
      // Whoever goes on to another page has seen it all the same: nothing aborts this.
      const found = await sayRead(this.id);
      document.dispatchEvent(new CustomEvent("session-changed", { detail: { unread: false, ...found, session: this.id } }));
    } catch {
      // It is said again with the next message.
    }
  }

  row() {
    const { voices: _voices, usage: _usage, summary: _summary, ...row } = this.session;
    return row;
  }

  async older() {
    if (this.begun || this.loadingOlder || this.signal.aborted) return;
    this.loadingOlder = true;
    fill(this.view.top, spinner("Loading what was before"));
    try {
      const found = await this.messages({ before: this.oldest, limit: PAGE });
      const fresh = found.filter((one) => one.number < this.oldest);
      this.feed.add(fresh);
      this.oldest = fresh[0]?.number ?? this.oldest;
      this.begun = fresh.length < PAGE;
      this.view.update();
      this.view.draw();
    } catch (error) {
      if (error.name !== "AbortError") {
        const again = el("button", { class: "button small", type: "button", onclick: () => this.older() }, "Try again");
        fill(this.view.top, el("div", { class: "loading" }, advice(error), again));
      }
      this.loadingOlder = false;
      return;
    }
    this.loadingOlder = false;
    this.drawTop();
    // When it is still in sight the observer says nothing new.
    if (!this.begun && this.view.scroller.scrollTop < 800) setTimeout(() => this.older(), 50);
  }

  drawTop() {
    fill(this.view.top, this.begun ? this.beginning() : el("div", { class: "loading" }));
  }

  beginning() {
    if (this.feed.messages.size === 0 && this.sent.length === 0) {
      if (this.findings?.unstarted) return this.findings.beginning();
      const many = this.voices().length > 1;
      const who = many ? `${this.voices().length} voices listen` : `${this.session.agent ?? "The agent"} listens`;
      return empty("chat", who, "Write below. Everything that is said is kept, here and in the list of sessions.");
    }
    return null;
  }

  async fillHole() {
    if (!this.hole || this.filling) return;
    this.filling = true;
    try {
      const found = await this.messages({ after: this.hole.after, limit: LARGEST_PAGE });
      const { before } = this.hole;
      this.feed.add(found.filter((one) => one.number < before));
      const last = found.at(-1)?.number ?? before;
      this.hole = found.length < LARGEST_PAGE || last >= before - 1 ? null : { after: last, before };
      this.view.update();
    } catch (error) {
      problem(error, "The messages in between could not be read");
    }
    this.filling = false;
  }

  /** Go to the project that a scan has made. */
  async openProjectOf(turn) {
    try {
      const { scan } = await get(`/api/turns/${turn}`, { signal: this.signal });
      if (scan?.project) go(projectLink(scan.project));
      else toast("Its project is not made yet, or was deleted");
    } catch (error) {
      problem(error, "The project could not be found");
    }
  }

  /** Read the events of an old turn, to show how its answer came about. */
  async steps(turn) {
    try {
      const answer = await fetch(`${this.path}/events?turn=${turn}&after=0`, {
        headers: { Accept: "text/event-stream" },
        signal: this.signal,
      });
      if (answer.status === 204) return;
      if (!answer.ok) throw new ApiError(answer.status, await answer.json().catch(() => ({})));
      const [found] = frames(`${await answer.text()}\n\n`);
      for (const one of found) {
        const { turn: of, at, ...data } = JSON.parse(one.data);
        if (one.event !== "message.added") this.feed.apply({ number: Number(one.id), kind: one.event, turn: of, data, at }, { past: true });
      }
      this.view.update();
    } catch (error) {
      if (error.status === 410) toast("The steps of this answer are not kept any more");
      else problem(error, "The steps could not be read");
    }
  }

  // -- what goes out ---------------------------------------------------------------------------

  async send({ text, files, busy, key = crypto.randomUUID(), target = this.addressee(text) }) {
    const one = { text, files, busy, key, target, state: "sending", turn: null, problem: null };
    one.again = () => this.resend(one);
    one.edit = () => {
      this.unsend(one);
      this.composer.put(one);
    };
    this.sent.push(one);
    if (this.session.mode !== "conductor") this.aim = undefined;
    this.view.toEnd();
    this.drawTop();
    this.update();
    await this.deliver(one);
  }

  resend(one) {
    one.state = "sending";
    this.view.update();
    return this.deliver(one);
  }

  unsend(one) {
    this.sent = this.sent.filter((other) => other !== one);
    this.view.update();
  }

  async deliver(one) {
    const words = {
      ...(one.text && { text: one.text }),
      ...(one.busy && { busy: one.busy }),
      ...(one.target && this.many() && { target: one.target }),
    };
    let body = words;
    if (one.files.length > 0) {
      body = new FormData();
      body.append("message", JSON.stringify(words));
      for (const file of one.files) body.append("files", file, file.name);
    }
    try {
      // The same key again makes no second message, whatever became of the first try.
      const receipt = await post(`${this.path}/messages`, body, { headers: { "Idempotency-Key": one.key } });
      one.turn = receipt?.turn ?? null;
      one.state = "sent";
      const shown = [...this.feed.messages.values()].some((message) => message.turn === one.turn && message.role !== "voice");
      if (shown || receipt?.answered || receipt?.duplicate || receipt?.turn === null) this.unsend(one);
      if (receipt?.turn === null) toast("This was not taken as a message", { kind: "bad", more: receipt.reason });
    } catch (error) {
      if (error.status === 401) return;
      one.state = "failed";
      one.problem = advice(error);
    }
    this.view.update();
  }

  async command(failed, path, body) {
    try {
      return (await post(`${this.path}${path}`, body)) ?? {};
    } catch (error) {
      problem(error, failed);
      return null;
    }
  }

  stop(voice = null) {
    return this.command("The answer was not stopped", "/stop", voice ? { voice } : {});
  }

  async interrupt() {
    const found = await this.command("The answer was not interrupted", "/interrupt", {});
    // What sums up the talk goes on, and has nothing to ask.
    if (found) this.interrupting = found.interrupt !== "idle";
    this.drawStatus();
  }

  async answer(question, words) {
    return Boolean(await this.command("The answer was not taken", "/answer", { question: question.question, answer: words }));
  }

  async change(fields) {
    try {
      const found = await patch(this.path, fields);
      this.changed(found ?? fields);
    } catch (error) {
      problem(error, "The session was not changed");
      this.panel.drawn = "";
      this.update();
    }
  }

  async changeVoice(voice, fields) {
    try {
      await patch(`${this.path}/voices/${voice}`, fields);
      this.voiceChanged({ voice, ...fields });
      this.update();
    } catch (error) {
      problem(error, "The voice was not changed");
      this.panel.drawn = "";
      this.update();
      throw error;
    }
  }

  async addVoice(fields) {
    const added = await this.command("The voice was not added", "/voices", fields);
    if (added) this.refresh();
    return Boolean(added);
  }

  target(voice) {
    this.aim = voice ?? undefined;
    if (this.session.mode === "conductor" && voice) this.change({ target: voice });
    this.update();
    this.composer.focus();
  }

  // -- what the parts ask ----------------------------------------------------------------------

  voices() {
    const newest = this.feed.newest();
    const running = this.feed.running();
    return (this.session.voices ?? []).map((one) => {
      const reply = newest.get(one.voice);
      if (!reply) return one;
      const waits = running && reply.turn !== running.turn && running.state === "running";
      const status = waits ? "waiting" : reply.state;
      return { ...one, status, error: reply.error ?? (reply.state === "error" ? one.error : null) };
    });
  }

  many() {
    return (this.session.voices ?? []).length > 1;
  }

  aimed() {
    const active = (one) => (this.session.voices ?? []).some((voice) => voice.voice === one && voice.active !== false);
    if (this.aim && active(this.aim)) return this.aim;
    return this.session.mode === "conductor" && this.many() && active(this.session.target) ? this.session.target : null;
  }

  /** Whom words go to: the voice they call by its name, whoever is picked; null for all. */
  addressee(text = this.composer.text.value) {
    const named = this.many() ? mentioned(text ?? "", this.session.voices) : null;
    return named?.voice ?? this.aimed();
  }

  /** Why a message cannot be directed; null when it can. */
  unaimed(text) {
    const active = this.voices().filter((one) => one.active !== false);
    if (this.session.mode !== "conductor" || active.length < 2) return null;
    return this.addressee(text) ? null : "Pick the voice that is to answer: in the voice panel, or with @ and its name.";
  }

  running() {
    return Boolean(this.feed.running()) || this.feed.open().length > 0;
  }

  closed() {
    if (!may("operator")) return { text: "You can read along. Writing takes the role operator; ask an administrator for it.", restore: false };
    if (this.findings && !this.findings.shared()) return { text: "You can read along. Writing takes a share in the project; ask its owner for it.", restore: false };
    if (this.session.archived) return { text: "This session is archived: it can be read, not written to.", restore: true };
    return null;
  }

  // -- drawing ---------------------------------------------------------------------------------

  draw(known) {
    this.heading = el("h1", {});
    this.heading.addEventListener("dblclick", () => this.rename());
    this.badges = el("div", { class: "session-badges" });
    this.people = el("button", { class: "button quiet icon", type: "button", "aria-label": "Voices", title: "Voices", "aria-pressed": "false", onclick: () => this.togglePanel() }, icon("people"));
    const more = el("button", { class: "button quiet icon", type: "button", "aria-label": "Menu of this session", title: "More" }, icon("more"));
    more.addEventListener("click", () => menu(more, this.items()));
    const back = el("a", { class: "button quiet icon only-small", href: this.home(), "aria-label": this.session.project ? "Back to the project" : "Back to the list" }, icon("back"));
    const crumb = this.findings?.crumb && el("nav", { class: "crumbs", "aria-label": "Where this is" }, this.findings.crumb);
    const head = el("header", { class: "session-head" }, back, el("div", { class: "grow" }, crumb, this.heading, this.badges), this.people, more);
    const scroller = el("div", { class: "feed-scroll", tabindex: "0", "aria-label": "Conversation" });
    this.view = new FeedView(scroller, this.feed, {
      voices: () => this.session.voices ?? [],
      many: () => this.many(),
      sent: () => this.sent,
      gap: () => this.hole,
      older: () => this.older(),
      steps: (turn) => this.steps(turn),
      answer: (question, words) => this.answer(question, words),
      copy: (words) => copy(words),
      scan: () => Boolean(this.session.scan),
      project: (turn) => this.openProjectOf(turn),
    });
    const fillIn = el("button", { class: "button small", type: "button", onclick: () => this.fillHole() }, "Show what is in between");
    fill(this.view.gap, fillIn);
    this.status = el("div", { class: "session-status", hidden: true });
    this.composer = new Composer(
      {
        session: () => this.session,
        voices: () => this.voices(),
        running: () => this.running(),
        aimed: () => this.addressee(),
        unaimed: (text) => this.unaimed(text),
        closed: () => this.closed(),
        send: (message) => this.send(message),
        stop: () => this.stop(),
        target: (voice) => this.target(voice),
        restore: () => this.restore(),
      },
      known ?? {},
    );
    this.panel = new VoicePanel({
      session: () => this.session,
      voices: () => this.voices(),
      aimed: () => this.aimed(),
      target: (voice) => this.target(voice),
      change: (fields) => this.change(fields),
      voice: (voice, fields) => this.changeVoice(voice, fields),
      add: (fields) => this.addVoice(fields),
      stop: (voice) => this.stop(voice),
      fold: (voice, on) => this.view.fold(voice, on),
      folded: (voice) => this.view.folded.has(voice),
      close: () => this.togglePanel(false),
    });
    const talk = el("div", { class: "talk" }, scroller, this.view.down, this.status, this.composer.node);
    this.root = el("div", { class: "session", dataset: { part: "talk" } }, head, this.findings?.tabs, el("div", { class: "session-main" }, talk, this.panel.node, this.findings?.node));
    this.dropping(talk);
    fill(this.container, this.root);
    this.togglePanel(this.many() && !this.findings && matchMedia(WIDE).matches);
    this.composer.restoreDraft();
    this.drawTop();
    this.update();
    this.view.update();
    this.view.draw();
    requestAnimationFrame(() => this.shown());
  }

  shown() {
    this.composer.grow();
    if (this.wanted) {
      if (!this.view.show(this.wanted)) toast("This message is not there any more");
    } else {
      this.view.toEnd();
    }
    // A double click in the list opens the session and renames it: who types a title goes on.
    const typing = document.activeElement?.matches("input, textarea");
    if (!matchMedia("(pointer: coarse)").matches && !this.wanted && !typing) this.composer.focus();
    this.read({ now: true });
  }

  update() {
    const { session } = this;
    if (this.findings) this.updateFindings();
    const name = nameOf(session);
    if (this.heading.textContent !== name) this.heading.textContent = name;
    this.heading.title = name;
    windowTitle(name);
    this.drawBadges();
    this.drawStatus();
    this.composer.update();
    this.drawFoot();
    this.panel.update();
    this.view.update();
  }

  /** Until it starts there is a request in place of the talk, and nothing to write in. */
  updateFindings() {
    const unstarted = this.findings.unstarted && this.feed.messages.size === 0;
    this.composer.node.hidden = unstarted;
    const drawn = unstarted && JSON.stringify([this.findings.view, this.findings.mayWrite()]);
    if (drawn !== this.drawnBeginning) this.drawTop();
    this.drawnBeginning = drawn;
  }

  /** Show one part on a small screen. */
  showPart(part) {
    this.root.dataset.part = part;
    this.findings.select(part);
    if (part === "talk") this.view.update();
  }

  reveal(result) {
    this.showPart("results");
    if (!this.findings.results.reveal(result)) toast("This key result is not there any more");
  }

  /** Where one goes back to. */
  home() {
    return this.session?.project ? projectLink(this.session.project) : "/console/";
  }

  drawBadges() {
    const { session } = this;
    const [name, meaning] = sourceIcon(session) ?? [];
    const voice = session.voices?.[0];
    const who = this.many() ? `${session.voices.length} voices` : [session.agent, voice?.model].filter(Boolean).join(" · ");
    const drawn = JSON.stringify([name, who, session.task, session.composition, session.sticky, session.archived, session.mode]);
    if (drawn === this.drawnBadges) return;
    this.drawnBadges = drawn;
    fill(
      this.badges,
      name && icon(name, meaning),
      el("span", {}, [session.task, session.composition, who].filter(Boolean).join(" · ")),
      session.sticky && icon("pin", "Pinned"),
      session.archived && el("span", { class: "badge" }, "archived"),
    );
  }

  /** What goes on now, and how to interrupt it. */
  drawStatus() {
    const turn = this.feed.running();
    const speaking = [...this.feed.replies.values()].filter((one) => one.turn === turn?.turn && one.state === "generating");
    if (!turn || (turn.state !== "running" && speaking.length === 0)) {
      clearInterval(this.ticking);
      this.ticking = null;
      this.interrupting = false;
      this.drawnStatus = "";
      this.status.hidden = true;
      return;
    }
    this.ticking ??= setInterval(() => this.tick(), 1000);
    const names = speaking.map((one) => one.name);
    const words = turn.retry ? `Trying again: ${turn.retry.reason ?? "the model did not answer"}` : names.length > 0 ? `${joined(names)} ${names.length > 1 ? "answer" : "answers"}` : "Working";
    const drawn = `${words}|${this.interrupting}|${turn.turn}`;
    if (drawn === this.drawnStatus) return;
    this.drawnStatus = drawn;
    this.clock = el("span", { class: "muted nowrap" });
    const interrupt = el(
      "button",
      { class: "button quiet small", type: "button", disabled: this.interrupting, title: "Pause at the next step and ask how to go on", onclick: () => this.interrupt() },
      icon("pause"),
      this.interrupting ? "Interrupting …" : "Interrupt",
    );
    fill(this.status, el("span", { class: "pulse" }), el("span", { class: "status-words", role: "status" }, words), this.clock, may("operator") && turn.kind !== "compact" && interrupt);
    this.status.hidden = false;
    this.tick();
  }

  tick() {
    const turn = this.feed.running();
    if (!turn?.startedAt || !this.clock) return;
    this.clock.textContent = duration(Math.max(0, Math.floor((Date.now() - Date.parse(turn.startedAt)) / 1000) * 1000 || 0)).replace("0 ms", "0 s").replace(".0 s", " s");
  }

  drawFoot() {
    const { processing_ms: took, usage } = this.session;
    const cost = usage?.cost_usd ?? (usage?.cost_micros === undefined ? null : usage.cost_micros / 1e6);
    const parts = [took > 0 && `${duration(took)} of thinking`, cost > 0 && money(cost), "AI can make mistakes: check what matters."];
    const words = parts.filter(Boolean).join(" · ");
    if (this.composer.foot.textContent !== words) this.composer.foot.textContent = words;
  }

  togglePanel(open = this.panel.node.hidden) {
    this.panel.node.hidden = !open;
    this.people.setAttribute("aria-pressed", String(open));
    if (open) this.panel.update();
  }

  keys(event) {
    if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open], .menu")) return;
    if (!this.panel.node.hidden && !matchMedia(WIDE).matches) this.togglePanel(false);
  }

  dropping(talk) {
    const veil = el("div", { class: "drop", hidden: true }, icon("clip"), "Drop the files to add them");
    talk.append(veil);
    let depth = 0;
    const holds = (event) => event.dataTransfer?.types.includes("Files") && !this.closed();
    const move = (by) => {
      depth = Math.max(0, depth + by);
      veil.hidden = depth === 0;
    };
    talk.addEventListener("dragenter", (event) => holds(event) && (event.preventDefault(), move(1)));
    talk.addEventListener("dragover", (event) => holds(event) && event.preventDefault());
    talk.addEventListener("dragleave", (event) => holds(event) && move(-1));
    talk.addEventListener("drop", (event) => {
      if (!holds(event)) return;
      event.preventDefault();
      move(-depth);
      this.composer.take(event.dataTransfer.files);
    });
  }

  // -- the menu --------------------------------------------------------------------------------

  items() {
    const { session } = this;
    const fixed = session.archived ? "It is archived. Restore it first." : null;
    const viewer = may("operator") ? null : "It takes the role operator.";
    const row = this.row();
    const save = (format) => ({ label: `Save as ${format.label}`, icon: "download", run: () => this.save(format.value) });
    const busy = this.running() ? "An answer runs. Stop it or wait." : null;
    return [
      { label: "Rename", icon: "pencil", disabled: viewer ?? fixed, run: () => this.rename() },
      session.sticky
        ? { label: "Unpin", icon: "pin", disabled: viewer, run: () => this.tell(unpin(row), { sticky: false }) }
        : { label: "Pin", icon: "pin", disabled: viewer ?? fixed, run: () => this.tell(pin(row), { sticky: true }) },
      session.archived
        ? { label: "Restore to active", icon: "restore", disabled: viewer, run: () => this.restore() }
        : { label: "Archive", icon: "archive", disabled: viewer ?? notArchivable(session), run: () => this.archive() },
      null,
      { label: "Settings and memory", icon: "sliders", run: () => showMemory(this.session, { fixed: Boolean(viewer ?? fixed), changed: (fields) => this.change(fields) }) },
      { label: "Sum up what was said", icon: "fold", disabled: viewer ?? fixed ?? busy, run: () => this.compact() },
      { label: "Clear the context", icon: "eraser", disabled: viewer ?? fixed ?? busy, run: () => this.clear() },
      null,
      ...[{ label: "Markdown", value: "markdown" }, { label: "JSON", value: "json" }, { label: "text", value: "text" }].map(save),
      null,
      { label: "Delete", icon: "trash", danger: true, disabled: viewer, run: () => this.destroy() },
    ];
  }

  async tell(deed, fields) {
    const found = await deed;
    if (!found) return;
    const told = { ...this.row(), ...fields, ...found };
    document.dispatchEvent(new CustomEvent("session-changed", { detail: told }));
  }

  async rename() {
    if (!may("operator") || this.session.archived) return;
    const found = await askForTitle(this.row());
    if (found) this.tell(Promise.resolve(found), {});
  }

  archive() {
    const undo = (found) => found && this.tell(Promise.resolve(found), { archived: false });
    return this.tell(archive(this.row(), undo), { archived: true });
  }

  restore() {
    return this.tell(restore(this.row()), { archived: false });
  }

  async compact() {
    if (await this.command("It was not summed up", "/compact", {})) toast("Summing up what was said", { more: "The voices go on from the summary. Everything stays readable here." });
  }

  async clear() {
    const agreed = await confirm({
      title: "Clear the context?",
      text: "The voices forget what was said so far. It stays readable here, and in exports.",
      action: "Clear",
    });
    if (agreed) await this.command("The context was not cleared", "/clear", {});
  }

  save(format) {
    const link = el("a", { href: `${this.path}/export?format=${format}`, download: "" });
    document.body.append(link);
    link.click();
    link.remove();
  }

  async destroy() {
    const gone = this.session.project ? await destroyInvestigation(this.findings.view, () => this.findings.project.investigations) : await destroy(this.row());
    if (!gone) return;
    document.dispatchEvent(new CustomEvent("session-gone", { detail: this.id }));
  }
}

function joined(names) {
  if (names.length < 2) return names.join("");
  if (names.length > 3) return `${names.length} voices`;
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

async function copy(words) {
  try {
    await navigator.clipboard.writeText(words);
    toast("Copied");
  } catch {
    toast("The browser did not allow copying", { kind: "bad", more: "Select the words and copy them by hand." });
  }
}
