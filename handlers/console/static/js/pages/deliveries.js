// Answers on their way out, and what came in that nobody understood; both can be tried again.

import { get, may, post } from "../api.js";
import { confirm } from "../dialog.js";
import { doing } from "../doing.js";
import { el, fill } from "../dom.js";
import { badge, empty, page, segments, spinner } from "../parts.js";
import { go } from "../router.js";
import { toast } from "../toast.js";
import { ago, size, whole } from "../time.js";

const STATES = {
  pending: ["waiting", "accent"],
  sending: ["on its way", "accent"],
  sent: ["arrived", "ok"],
  failed: ["failed", "bad"],
  uncertain: ["may have arrived", "warn"],
};
const FILTERS = [
  ["", "All"],
  ["failed", "Failed"],
  ["uncertain", "Uncertain"],
  ["pending", "Waiting"],
];
const FAR_MS = 90 * 86_400_000;
const CHANNELS = { telegram: "Telegram", webhook: "Callback" };
const NOTHING = {
  "": ["Nothing was sent yet", "Answers that go to a Telegram chat or a callback are listed here with whether they arrived."],
  failed: ["Nothing failed", "Answers that a channel refused for good would be listed here."],
  uncertain: ["Nothing is uncertain", "When a channel breaks off before it confirms an answer, it is listed here instead of being sent twice."],
  pending: ["Nothing is waiting", "All answers are on their way, or have arrived."],
};

export async function show(container, params) {
  const quarantine = params.query.get("view") === "quarantine";
  const body = page("Deliveries", { lead: "Answers on their way out, and what came in that could not be understood." });
  const list = el("section", { class: "stack" });
  body.append(tabs(quarantine), list);
  await (quarantine ? showQuarantine(list, params) : showDeliveries(list, params));
  fill(container, body);
}

function tabs(quarantine) {
  const tab = (href, words, on) => el("a", { class: "tab", href, "aria-current": on ? "page" : null }, words);
  return el(
    "nav",
    { class: "tabs", "aria-label": "What is shown" },
    tab("/console/deliveries", "Answers", !quarantine),
    tab("/console/deliveries?view=quarantine", "Quarantine", quarantine),
  );
}

// -- answers ------------------------------------------------------------------------------------

async function showDeliveries(container, { query, signal }) {
  const state = query.get("state") ?? "";
  const pick = (given) => go(given ? `/console/deliveries?state=${given}` : "/console/deliveries", { replace: true });
  const filter = segments("State", FILTERS, state, pick);
  const found = await get("/api/deliveries", { query: { state, limit: 50 }, signal });
  fill(container, el("div", { class: "scroll-x" }, filter));
  if (!found.deliveries.length) {
    container.append(empty("inbox", ...(NOTHING[state] ?? NOTHING[""])));
    return;
  }
  const rows = el("ul", { class: "rows", role: "list" });
  container.append(rows);
  const grow = (page_) => {
    rows.append(...page_.deliveries.map((one) => deliveryRow(one)));
    more?.remove();
    more = page_.next && moreButton(async () => grow(await get("/api/deliveries", { query: { state, limit: 50, cursor: page_.next }, signal })));
    if (more) container.append(more);
  };
  let more = null;
  grow(found);
}

const moreButton = (work) => el("div", { class: "more-row" }, doing("Show older ones", work, { failing: "Could not read on" }));

function deliveryRow(one) {
  const node = el("li", { class: "row-card" });
  const replaced = one.replayed_as && badge("sent again");
  fill(
    node,
    el(
      "div",
      { class: "row-main" },
      el(
        "p",
        { class: "row-title" },
        badge(...(STATES[one.state] ?? [one.state])),
        replaced,
        el("strong", {}, CHANNELS[one.channel] ?? one.channel),
        el("code", { class: "muted" }, place(one)),
      ),
      one.text && el("p", { class: "quote" }, one.text),
      one.error && one.state !== "sent" && el("p", { class: "bad-words" }, one.error),
      el(
        "p",
        { class: "row-more muted" },
        el("time", { title: whole(one.created_at) }, ago(one.created_at)),
        one.attempt > 1 && el("span", {}, `${one.attempt} attempts`),
        isTriedAgain(one) && el("span", {}, "Next try ", el("time", { title: whole(one.due_at) }, ago(one.due_at))),
        one.session && el("a", { href: `/console/sessions/${one.session}` }, "Open session"),
      ),
    ),
    el("div", { class: "row-actions" }, replayButton(one, node)),
  );
  return node;
}

/** Whether it failed before and has a time for the next try: what waits for its turn has none. */
const isTriedAgain = ({ state, attempt, due_at: due }) => state === "pending" && attempt > 0 && Date.parse(due) > Date.now() && Date.parse(due) < Date.now() + FAR_MS;

/** Where it goes; the bot's number before a chat says nothing to people. */
const place = ({ channel, address }) => (channel === "telegram" ? `chat ${address.split(":").slice(1).join(", topic ")}` : address);

function replayButton(one, node) {
  if (!["failed", "uncertain"].includes(one.state) || one.replayed_as || !may("operator")) return null;
  const work = async () => {
    const risky = one.state === "uncertain";
    if (risky && !(await agreed())) return;
    const again = await send(one, risky);
    if (!again) return;
    toast("It is sent again");
    node.replaceWith(deliveryRow({ ...one, replayed_as: again.delivery }));
  };
  return doing("Send again", work, { kind: "small", glyph: "refresh", failing: "Could not send it again" });
}

/** Ask the service; when a failed one had arrived in part, ask people first. */
async function send(one, confirmed) {
  const path = `/api/deliveries/${one.delivery}/replay`;
  try {
    return await post(path, confirmed ? { confirm: true } : {});
  } catch (error) {
    if (error.status !== 409 || !error.message.includes("confirm")) throw error;
    return (await agreed()) ? post(path, { confirm: true }) : null;
  }
}

const agreed = () =>
  confirm({
    title: "Send it again?",
    text: "It may have arrived already, at least in part. Then it will be there twice.",
    action: "Send again",
  });

// -- quarantine ---------------------------------------------------------------------------------

async function showQuarantine(container, { signal }) {
  fill(container, spinner());
  const { inbox } = await get("/api/inbox", { query: { state: "quarantined", limit: 100 }, signal });
  if (!inbox.length) {
    fill(
      container,
      empty("check", "Nothing in quarantine", "Updates and posts that could not be understood are kept here with the reason. Once the template or the service is mended they can be tried again."),
    );
    return;
  }
  const words = "Kept as they came. Mend the template or update the service, then try them again: each rings at most once.";
  fill(container, el("p", { class: "muted" }, words), el("ul", { class: "rows", role: "list" }, inbox.map(receivedRow)));
}

function receivedRow(one) {
  const node = el("li", { class: "row-card" });
  const from = one.channel === "telegram" ? "Telegram" : `Webhook ${one.source}`;
  fill(
    node,
    el(
      "div",
      { class: "row-main" },
      el("p", { class: "row-title" }, badge("quarantined", "warn"), el("strong", {}, from), el("code", { class: "muted cut-key" }, one.event_key)),
      el("p", { class: "bad-words" }, one.reason),
      el("p", { class: "row-more muted" }, el("time", { title: whole(one.received_at) }, ago(one.received_at)), el("span", {}, size(one.bytes))),
    ),
    may("operator") && el("div", { class: "row-actions" }, tryButton(one, node)),
  );
  return node;
}

function tryButton(one, node) {
  const work = async () => {
    const { channel, source, event_key } = one;
    const became = await post("/api/inbox/replay", { channel, source, event_key });
    if (!became.turn) {
      toast(became.state === "accepted" ? "It was understood" : "It was understood, and is not for an agent", { more: became.reason });
    } else {
      const turn = await get(`/api/turns/${became.turn}`);
      toast("It was understood and rings now", { action: { label: "Open session", run: () => go(`/console/sessions/${turn.session}`) } });
    }
    node.remove();
  };
  return doing("Try again", work, { kind: "small", glyph: "refresh", failing: "It is still in quarantine" });
}
