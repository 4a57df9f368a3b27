// The list of sessions at the side: views, groups, search, and what can be done with a row.

import { get, may } from "./api.js";
import { el, fill } from "./dom.js";
import { icon } from "./icons.js";
import { destroy as destroyInvestigation } from "./investigation_actions.js";
import { projectApi } from "./investigations.js";
import { keep } from "./keeping.js";
import { menu } from "./menu.js";
import { empty, spinner } from "./parts.js";
import { go, visit } from "./router.js";
import { archive, destroy, pin, rename, restore, unpin } from "./session_actions.js";
import { grouped, isBusy, marked, merged, nameOf, notArchivable, sorted, sourceIcon } from "./sessions.js";
import { live } from "./socket.js";
import { duration, short, when } from "./time.js";
import { advice } from "./toast.js";

const VIEWS = [
  ["active", "Active"],
  ["archived", "Archived"],
  ["scheduled", "Scheduled"],
];
const VIEW = "sessions-view";
const PAGE = 50;
const LARGEST_PAGE = 200;
const SEARCH_AFTER_MS = 220;
const POLL_MS = 15_000;
const SHORTEST_QUERY = 2;

export class SessionList {
  constructor(side) {
    this.side = side;
    this.view = lastView();
    this.sessions = [];
    this.next = null;
    this.selected = null;
    this.loading = null;
    this.failed = null;
    this.query = "";
    this.hits = null;
    this.opened = false;
    this.editing = null;
    this.pressed = false;
    this.late = false;
  }

  /** Draw and load it; once. */
  open() {
    if (this.opened) return;
    this.opened = true;
    this.draw();
    this.load();
    live.watch((session) => this.take(session));
    let before = "up";
    live.listen((status) => {
      // What changed while the line was down was not told.
      if (status === "up" && before !== "up") this.load({ quietly: true });
      before = status;
    });
    setInterval(() => live.streaming && !document.hidden && this.load({ quietly: true }), POLL_MS);
    document.addEventListener("session-changed", (event) => this.take(event.detail));
    document.addEventListener("session-gone", (event) => this.drop(event.detail));
  }

  /** Mark the session that is open. */
  select(session) {
    this.selected = session;
    for (const row of this.side.querySelectorAll(".session-link")) mark(row, session);
    // What was unread is being read.
    if (this.opened && this.sessions.some((one) => one.session === session && one.unread)) this.later();
    this.side.querySelector(".session-link[aria-current]")?.scrollIntoView({ block: "nearest" });
  }

  focusSearch() {
    if (this.side.hidden) return void visit("/console/").then(() => this.search?.focus());
    this.search?.focus();
    this.search?.select();
  }

  /** Go to the next or previous row. */
  step(by) {
    const rows = [...this.side.querySelectorAll(".session-link, .hit")];
    if (rows.length === 0) return;
    const focused = rows.indexOf(document.activeElement);
    const current = focused >= 0 ? focused : rows.findIndex((one) => one.hasAttribute("aria-current"));
    const next = rows[Math.max(0, Math.min(rows.length - 1, current + by))] ?? rows[0];
    next.focus();
  }

  // -- loading ---------------------------------------------------------------------------------

  async load({ more = false, quietly = false } = {}) {
    if (this.loading) {
      if (more) return;
      this.loading.abort();
    }
    const loading = new AbortController();
    this.loading = loading;
    this.failed = null;
    if (!quietly) this.drawList();
    try {
      // What is loaded already was ordered as it was then: quietly, all of it is read again.
      const many = quietly ? Math.max(PAGE, this.sessions.length) : PAGE;
      const found = await this.read(more ? this.next : null, many, loading.signal);
      if (this.loading !== loading) return;
      const known = more ? this.sessions : [];
      this.sessions = sorted([...dropped(known, found.sessions), ...found.sessions], this.view);
      this.next = found.next;
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!quietly) this.failed = error;
    } finally {
      if (this.loading === loading) this.loading = null;
    }
    if (!loading.signal.aborted) this.drawList();
  }

  /** So many sessions from a cursor on, and the cursor after them. */
  async read(cursor, many, signal) {
    const sessions = [];
    let next = cursor;
    do {
      const limit = Math.min(LARGEST_PAGE, many - sessions.length);
      const page = await get("/api/sessions", { query: { view: this.view, limit, cursor: next }, signal });
      sessions.push(...page.sessions);
      next = page.next ?? null;
    } while (next && sessions.length < many);
    return { sessions, next };
  }

  /** Bring a session up to date that changed here or elsewhere. */
  take(session) {
    if (!session?.session) return;
    const known = this.sessions.some((one) => one.session === session.session);
    const shown = known || session.last_message > 0 || session.session === this.selected;
    if (!shown) return;
    this.sessions = merged(this.sessions, session, this.view);
    this.later();
  }

  drop(id) {
    this.sessions = this.sessions.filter((one) => one.session !== id);
    this.drawList();
  }

  later() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.drawList();
    });
  }

  /** A row stays what it is between the press and the click; then it catches up. */
  press() {
    clearTimeout(this.releasing);
    this.pressed = true;
  }

  release() {
    if (!this.pressed) return;
    // The click comes after this; the second one of two may begin before.
    this.releasing = setTimeout(() => {
      this.pressed = false;
      if (this.late) this.drawList();
    });
  }

  // -- drawing ---------------------------------------------------------------------------------

  draw() {
    this.search = el("input", {
      class: "input small",
      type: "search",
      placeholder: "Search",
      "aria-label": "Search in all sessions",
      autocomplete: "off",
      spellcheck: "false",
      maxlength: "200",
    });
    this.search.addEventListener("input", () => this.seek());
    this.search.addEventListener("keydown", (event) => this.searchKeys(event));
    this.tabs = VIEWS.map(([view, label]) =>
      el(
        "button",
        {
          class: "tab",
          type: "button",
          role: "tab",
          id: `tab-${view}`,
          "aria-controls": "session-list",
          dataset: { view },
          onclick: () => this.show(view),
        },
        label,
      ),
    );
    const tablist = el("div", { class: "tabs", role: "tablist", "aria-label": "Which sessions" }, this.tabs);
    tablist.addEventListener("keydown", (event) => this.tabKeys(event));
    this.body = el("div", { class: "side-body", id: "session-list", role: "tabpanel", tabindex: "-1" });
    this.body.addEventListener("keydown", (event) => this.rowKeys(event));
    this.body.addEventListener("pointerdown", () => this.press());
    for (const over of ["pointerup", "pointercancel"]) addEventListener(over, () => this.release());
    this.body.addEventListener("scroll", () => this.nearEnd() && this.next && this.load({ more: true }), { passive: true });
    const begin = el(
      "a",
      { class: "button primary small", href: "/console/sessions/new", id: "new-session" },
      icon("plus"),
      "New",
    );
    fill(
      this.side,
      el("header", { class: "side-head" }, el("h2", {}, "Sessions"), may("operator") && begin),
      el("div", { class: "side-search" }, icon("search"), this.search, el("kbd", {}, "/")),
      tablist,
      this.body,
    );
    this.markTabs();
  }

  markTabs() {
    for (const tab of this.tabs) {
      const on = tab.dataset.view === this.view;
      tab.setAttribute("aria-selected", String(on));
      tab.tabIndex = on ? 0 : -1;
    }
    this.body.setAttribute("aria-labelledby", `tab-${this.view}`);
  }

  show(view) {
    this.clearSearch();
    this.view = view;
    keep((storage) => storage.setItem(VIEW, view));
    this.sessions = [];
    this.next = null;
    this.markTabs();
    this.load();
  }

  drawList() {
    this.late = this.pressed;
    if (!this.opened || this.editing || this.pressed) return;
    const focused = document.activeElement?.closest?.("[data-session]")?.dataset.session;
    const within = document.activeElement?.className;
    const top = this.body.scrollTop;
    this.body.setAttribute("aria-busy", String(Boolean(this.loading)));
    fill(this.body, this.hits ? this.drawHits() : this.drawSessions());
    this.body.scrollTop = top;
    if (focused) {
      const row = this.body.querySelector(`[data-session="${CSS.escape(focused)}"]`);
      [...(row?.querySelectorAll("a, button") ?? [])].find((one) => one.className === within)?.focus({ preventScroll: true });
    }
    if (this.next && !this.loading && this.nearEnd()) this.load({ more: true });
  }

  drawSessions() {
    if (this.failed && this.sessions.length === 0) return this.drawFailed(this.failed, () => this.load());
    if (this.sessions.length === 0) return this.loading ? spinner() : this.drawEmpty();
    const groups = grouped(this.sessions, this.view).map(([label, sessions]) =>
      el(
        "section",
        { "aria-label": label },
        el("h3", { class: "side-group" }, label === "Pinned" && icon("pin"), label),
        el("ul", { role: "list" }, sessions.map((one) => this.row(one))),
      ),
    );
    return [groups, this.next && this.loading && spinner()];
  }

  drawEmpty() {
    const words = {
      active: ["chat", "No sessions yet", "Begin one here, write to the bot, or ring a webhook."],
      archived: ["archive", "Nothing is archived", "Archive a session from its menu; it can be read here and restored."],
      scheduled: ["clock", "No task has run yet", "Each run of a task makes a session, which is shown here."],
    };
    return empty(...words[this.view]);
  }

  drawFailed(error, again) {
    const button = el("button", { class: "button small", type: "button", onclick: again }, "Try again");
    return empty("alert", "The list could not be read", advice(error), button);
  }

  row(session) {
    const [name, meaning] = sourceIcon(session) ?? [];
    const link = el(
      "a",
      {
        class: `session-link${session.unread && session.session !== this.selected ? " unread" : ""}`,
        href: `/console/sessions/${session.session}`,
        title: nameOf(session),
      },
      el("span", { class: "session-title" }, name && icon(name, meaning), nameOf(session)),
      el("span", { class: "session-more" }, this.about(session)),
      this.flag(session),
    );
    mark(link, this.selected);
    link.addEventListener("dblclick", (event) => {
      event.preventDefault();
      this.edit(session);
    });
    const more = el(
      "button",
      { class: "button quiet icon small session-menu", type: "button", "aria-label": `Menu of ${nameOf(session)}` },
      icon("more"),
    );
    more.addEventListener("click", () => menu(more, this.items(session)));
    const row = el("li", { class: "session-row", dataset: { session: session.session } }, link, may("operator") && more);
    row.addEventListener("contextmenu", (event) => {
      if (!may("operator")) return;
      event.preventDefault();
      menu(more, this.items(session));
    });
    return row;
  }

  about(session) {
    if (this.view !== "scheduled" || !session.run) {
      const voices = session.composition ?? session.agent;
      return [el("time", { datetime: session.active_at }, short(session.active_at)), voices && ` · ${voices}`];
    }
    const run = session.run;
    const took = run.duration_ms ?? (run.finished_at && run.started_at ? Date.parse(run.finished_at) - Date.parse(run.started_at) : null);
    return [when(run.scheduled_at ?? run.started_at), took !== null && ` · ${duration(took)}`, run.manual && " · by hand"];
  }

  flag(session) {
    if (isBusy(session)) return el("span", { class: "session-flag", title: "It answers" }, el("span", { class: "pulse" }), el("span", { class: "visually-hidden" }, "It answers"));
    if (session.state === "waiting") return el("span", { class: "session-flag badge warn" }, "asks");
    if (this.view === "scheduled" && session.run?.state === "failed") return el("span", { class: "session-flag badge bad" }, "failed");
    if (session.unread && session.session !== this.selected) {
      return el("span", { class: "session-flag", title: "Unread" }, el("span", { class: "dot" }), el("span", { class: "visually-hidden" }, "Unread"));
    }
    return null;
  }

  // -- what can be done ------------------------------------------------------------------------

  items(session) {
    const done = async (deed) => {
      const found = await deed;
      if (found) this.changed({ ...session, ...found });
    };
    const archived = session.archived
      ? { label: "Restore to active", icon: "restore", run: () => done(restore(session).then((found) => found && { archived: false, ...found })) }
      : {
          label: "Archive",
          icon: "archive",
          disabled: notArchivable(session),
          run: () =>
            done(
              archive(session, (found) => found && this.changed({ ...session, archived: false, ...found })).then(
                (found) => found && { archived: true, ...found },
              ),
            ),
        };
    const pinned = session.sticky
      ? { label: "Unpin", icon: "pin", run: () => done(unpin(session).then((found) => found && { sticky: false, ...found })) }
      : {
          label: "Pin",
          icon: "pin",
          disabled: session.archived ? "It is archived. Restore it first." : null,
          run: () => done(pin(session).then((found) => found && { sticky: true, ...found })),
        };
    return [
      { label: "Rename", icon: "pencil", run: () => this.edit(session), disabled: session.archived ? "It is archived. Restore it first." : null },
      pinned,
      archived,
      null,
      { label: "Delete", icon: "trash", danger: true, run: () => this.destroy(session) },
    ];
  }

  changed(session) {
    document.dispatchEvent(new CustomEvent("session-changed", { detail: session }));
  }

  async destroy(session) {
    const { project } = session;
    const others = async () => (await get(projectApi(project))).investigations;
    const gone = project ? await destroyInvestigation({ ...session, title: nameOf(session) }, others) : await destroy(session);
    if (!gone) return;
    document.dispatchEvent(new CustomEvent("session-gone", { detail: session.session }));
    if (this.selected === session.session) go("/console/", { replace: true });
  }

  /** Change the title in its place: Enter keeps it, Esc does not. */
  edit(session) {
    const row = this.body.querySelector(`[data-session="${CSS.escape(session.session)}"]`);
    if (!row || this.editing || session.archived || !may("operator")) return;
    const input = el("input", { class: "input small", value: nameOf(session), "aria-label": "Title", maxlength: "200" });
    this.editing = session.session;
    const end = async (keep) => {
      if (this.editing !== session.session) return;
      this.editing = null;
      const found = keep ? await rename(session, input.value) : null;
      if (found) this.changed({ ...session, title: input.value.trim(), ...found });
      this.drawList();
      this.body.querySelector(`[data-session="${CSS.escape(session.session)}"] a`)?.focus({ preventScroll: true });
    };
    input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter" && !event.isComposing) end(true);
      if (event.key === "Escape") end(false);
    });
    input.addEventListener("blur", () => end(true));
    fill(row, el("div", { class: "session-edit" }, input));
    input.focus();
    input.select();
  }

  // -- search ----------------------------------------------------------------------------------

  seek() {
    clearTimeout(this.seeking);
    this.query = this.search.value.trim();
    if (this.query.length < SHORTEST_QUERY) {
      this.hits = null;
      return this.drawList();
    }
    this.seeking = setTimeout(() => this.find(this.query), SEARCH_AFTER_MS);
  }

  async find(query) {
    this.hits ??= { query, found: null, error: null };
    this.drawList();
    try {
      const { hits } = await get("/api/search", { query: { q: query, limit: 50 } });
      if (query === this.query) this.hits = { query, found: hits, error: null };
    } catch (error) {
      if (query === this.query) this.hits = { query, found: null, error };
    }
    if (query === this.query) this.drawList();
  }

  drawHits() {
    const { query, found, error } = this.hits;
    if (error) return this.drawFailed(error, () => this.find(query));
    if (!found) return spinner("Searching");
    if (found.length === 0) return empty("search", "Nothing found", `No title and no message holds “${query}”. Archived sessions are not searched.`);
    const count = found.length >= 50 ? "The first 50 hits" : `${found.length} ${found.length === 1 ? "hit" : "hits"}`;
    return [
      el("h3", { class: "side-group", role: "status" }, count),
      el("ul", { role: "list" }, found.map((one) => el("li", {}, this.hit(one, query)))),
    ];
  }

  hit(one, query) {
    const where = one.number ? `?message=${one.number}` : "";
    const parts = marked(one.excerpt ?? "", query).map(([part, on]) => (on ? el("mark", {}, part) : part));
    return el(
      "a",
      { class: "hit", href: `/console/sessions/${one.session}${where}` },
      el("span", { class: "row" }, el("span", { class: "session-title grow" }, one.title || "New session"), el("time", { class: "muted nowrap" }, short(one.at))),
      el("span", { class: "hit-text" }, one.author && el("b", {}, `${one.author}: `), parts),
    );
  }

  clearSearch() {
    clearTimeout(this.seeking);
    this.search.value = "";
    this.query = "";
    this.hits = null;
  }

  // -- keys ------------------------------------------------------------------------------------

  searchKeys(event) {
    if (event.key === "Escape") {
      event.stopPropagation();
      const empty_ = !this.search.value;
      this.clearSearch();
      this.drawList();
      if (empty_) this.search.blur();
    } else if (event.key === "ArrowDown") {
      event.preventDefault();
      this.body.querySelector(".hit, .session-link")?.focus();
    }
  }

  tabKeys(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const now = VIEWS.findIndex(([view]) => view === this.view);
    const [view] = VIEWS[(now + by + VIEWS.length) % VIEWS.length];
    this.show(view);
    this.tabs.find((one) => one.dataset.view === view).focus();
  }

  rowKeys(event) {
    if (event.target.tagName === "INPUT") return;
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) {
      event.preventDefault();
      this.step(by);
    } else if (event.key === "F2") {
      const id = event.target.closest("[data-session]")?.dataset.session;
      const session = this.sessions.find((one) => one.session === id);
      if (session) this.edit(session);
    }
  }

  nearEnd() {
    return this.body.scrollTop + this.body.clientHeight > this.body.scrollHeight - 400;
  }
}

function mark(link, selected) {
  const id = link.closest("[data-session]")?.dataset.session ?? link.getAttribute("href").split("/").at(-1);
  if (id === selected) link.setAttribute("aria-current", "page");
  else link.removeAttribute("aria-current");
}

function dropped(known, found) {
  const ids = new Set(found.map((one) => one.session));
  return known.filter((one) => !ids.has(one.session));
}

/** What this window showed before its page was loaded anew. */
function lastView() {
  const kept = keep((storage) => storage.getItem(VIEW));
  return VIEWS.some(([view]) => view === kept) ? kept : "active";
}
