// What happens, as it happens: one WebSocket for all sessions, resumed where it broke off. Where
// sockets do not get through, the same events come as server-sent events.

import { get, signIn } from "./api.js";

const FIRST_RETRY_MS = 400;
const LONGEST_RETRY_MS = 5_000;
const PING_MS = 20_000;
const SILENCE_MS = 50_000;
const REFUSALS = 2;
const SOCKET_AGAIN_MS = 60_000;

/** The next wait after `tries` failures, spread so that not everybody comes back at once. */
export function backoff(tries, random = Math.random) {
  return Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** tries) * (0.6 + 0.4 * random());
}

/** The frames of an event stream that are whole, and the rest of the text. */
export function frames(text) {
  const parts = text.replace(/\r\n/g, "\n").split("\n\n");
  const rest = parts.pop();
  const found = [];
  for (const part of parts) {
    const frame = { id: null, event: "message", data: [] };
    for (const line of part.split("\n")) {
      const [, name, value] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
      if (name === "data") frame.data.push(value);
      else if (name === "id" || name === "event") frame[name] = value;
    }
    if (frame.data.length > 0) found.push({ ...frame, data: frame.data.join("\n") });
  }
  return [found, rest];
}

class Live {
  constructor() {
    this.followers = new Map();
    this.listeners = new Set();
    this.watchers = new Set();
    this.status = "connecting";
    this.line = null;
    this.tries = 0;
    this.refused = 0;
    this.opened = false;
    this.timer = null;
    this.heard = 0;
    this.streaming = false;
    this.started = false;
  }

  /**
   * Follow a session after a number. `heard` is told of every event once and in order, `gone` when
   * the events cannot be had. Returns how to stop.
   */
  follow(session, after, { heard, gone = () => {} }) {
    const follower = { session, after, heard, gone, torn: -1, stream: null };
    this.stop(session);
    this.followers.set(session, follower);
    this.begin(follower);
    return () => this.followers.get(session) === follower && this.stop(session);
  }

  /** Be told of sessions of the list that changed. Returns how to stop. */
  watch(told) {
    this.watchers.add(told);
    return () => this.watchers.delete(told);
  }

  /** Be told whether the line is up: "up", "connecting" or "lost". Returns how to stop. */
  listen(told) {
    this.listeners.add(told);
    told(this.status);
    return () => this.listeners.delete(told);
  }

  /** Begin to connect; once for the page. */
  start() {
    if (this.started) return;
    this.started = true;
    addEventListener("online", () => this.now());
    document.addEventListener("visibilitychange", () => !document.hidden && this.now());
    addEventListener("pageshow", (event) => event.persisted && this.now());
    setInterval(() => this.beat(), PING_MS);
    this.connect();
  }

  /** Try again without waiting. */
  now() {
    if (this.status === "up") return this.beat();
    this.tries = 0;
    clearTimeout(this.timer);
    if (this.line?.readyState !== WebSocket.CONNECTING) this.connect();
  }

  /** Hear nothing more; returns how to go on. For who signs out: the service hangs up then. */
  leave() {
    clearTimeout(this.timer);
    this.drop();
    for (const one of this.followers.values()) one.stream?.abort();
    return () => {
      if (this.streaming) for (const one of this.followers.values()) this.stream(one);
      this.connect();
    };
  }

  // -- the socket ------------------------------------------------------------------------------

  connect() {
    clearTimeout(this.timer);
    this.drop();
    let line;
    try {
      line = new WebSocket(`${location.origin.replace(/^http/, "ws")}/api/ws`);
    } catch {
      return this.failed();
    }
    this.line = line;
    this.opened = false;
    this.say(this.streaming ? this.status : this.status === "up" ? "connecting" : this.status);
    line.addEventListener("open", () => line === this.line && this.open());
    line.addEventListener("message", (event) => line === this.line && this.hear(event.data));
    line.addEventListener("close", (event) => line === this.line && this.closed(event));
  }

  open() {
    Object.assign(this, { opened: true, tries: 0, refused: 0, heard: Date.now(), streaming: false });
    for (const one of this.followers.values()) {
      one.stream?.abort();
      one.stream = null;
      this.ask(one);
    }
    this.say("up");
  }

  closed(event) {
    this.line = null;
    if (!this.opened) this.refused += 1;
    // It was too slow, or the service stops: whatever was missed comes again.
    if (event.code === 1013) return this.connect();
    this.failed();
  }

  async failed() {
    if (!this.streaming) this.say(this.tries === 0 ? "connecting" : "lost");
    const answers = await this.reachable();
    if (answers && this.refused >= REFUSALS) this.fallBack();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), this.streaming ? SOCKET_AGAIN_MS : backoff(this.tries));
    this.tries += 1;
  }

  /** Whether the service answers; whoever is not signed in any more is led to sign in. */
  async reachable() {
    try {
      await get("/api/me");
      return true;
    } catch (error) {
      if (!this.streaming) this.say("lost");
      return error.status > 0 && error.status !== 401;
    }
  }

  beat() {
    if (this.line?.readyState !== WebSocket.OPEN) return;
    if (Date.now() - this.heard > SILENCE_MS) {
      // A line that is dead on the way says nothing about it.
      this.line.close();
      this.line = null;
      this.connect();
      return;
    }
    this.send({ do: "ping" });
  }

  drop() {
    const line = this.line;
    this.line = null;
    line?.close();
  }

  send(what) {
    if (this.line?.readyState === WebSocket.OPEN) this.line.send(JSON.stringify(what));
  }

  ask(follower) {
    this.send({ do: "follow", session: follower.session, after: follower.after, id: follower.session });
  }

  hear(text) {
    this.heard = Date.now();
    let said;
    try {
      said = JSON.parse(text);
    } catch {
      return;
    }
    if (said.event) this.event(said.event);
    else if (said.session) for (const told of this.watchers) told(said.session);
    else if (said.error?.do === "follow") this.notFollowed(said.error);
    else if (said.error?.status === 401) signIn();
  }

  notFollowed(error) {
    const follower = this.followers.get(error.session ?? error.id);
    if (!follower || error.status === 409) return;
    if (error.status >= 500) setTimeout(() => this.followers.has(follower.session) && this.ask(follower), 2000);
    else follower.gone(error);
  }

  event(event) {
    const follower = this.followers.get(event.session);
    if (!follower || event.number <= follower.after) return;
    if (event.number > follower.after + 1 && follower.torn !== follower.after) {
      // Something is missing in between: have it told again, once.
      follower.torn = follower.after;
      if (follower.stream) this.stream(follower);
      else {
        this.send({ do: "unfollow", session: follower.session });
        this.ask(follower);
      }
      return;
    }
    follower.after = event.number;
    follower.heard(event);
  }

  begin(follower) {
    if (this.streaming) this.stream(follower);
    else this.ask(follower);
  }

  stop(session) {
    const follower = this.followers.get(session);
    if (!follower) return;
    this.followers.delete(session);
    follower.stream?.abort();
    if (!follower.stream) this.send({ do: "unfollow", session });
  }

  // -- without a socket ------------------------------------------------------------------------

  fallBack() {
    this.streaming = true;
    this.say("up");
    for (const one of this.followers.values()) if (!one.stream) this.stream(one);
  }

  /** Read a session's events as a stream until it is stopped, again and again. */
  async stream(follower) {
    follower.stream?.abort();
    const stopped = new AbortController();
    follower.stream = stopped;
    for (let tries = 0; !stopped.signal.aborted; tries += 1) {
      try {
        const path = `/api/sessions/${follower.session}/events?after=${follower.after}`;
        const headers = { Accept: "text/event-stream" };
        const answer = await fetch(path, { headers, signal: stopped.signal, cache: "no-store" });
        if (answer.status === 401) return signIn();
        if (answer.status >= 400 && answer.status < 500) {
          return follower.gone({ status: answer.status, ...(await answer.json().catch(() => ({}))) });
        }
        if (answer.ok) {
          tries = 0;
          this.say("up");
          await this.read(answer.body.getReader(), follower);
        }
      } catch {
        if (stopped.signal.aborted) return;
      }
      if (tries > 0) this.say("lost");
      await new Promise((resolve) => setTimeout(resolve, backoff(tries)));
    }
  }

  async read(reader, follower) {
    const decoder = new TextDecoder();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const [found, rest] = frames(text + decoder.decode(value, { stream: true }));
      text = rest;
      for (const one of found) {
        const { turn, at, ...data } = JSON.parse(one.data);
        this.event({ session: follower.session, number: Number(one.id), kind: one.event, turn, data, at });
      }
    }
  }

  say(status) {
    if (status === this.status) return;
    this.status = status;
    for (const told of this.listeners) told(status);
  }
}

/** The one line of this page. */
export const live = new Live();
