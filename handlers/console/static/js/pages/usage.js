// What agents took, day by day: a chart, and a table that says the same.

import { get } from "../api.js";
import { el, fill } from "../dom.js";
import { badge, empty, page, segments, table } from "../parts.js";
import { go } from "../router.js";
import { shape, words as words_ } from "../svg.js";
import { count, duration, money } from "../time.js";

const DAY_MS = 86_400_000;
const SERIES = 8;
const MEASURES = {
  tokens: { label: "Tokens", of: (one) => one.input_tokens + one.output_tokens, words: count },
  cost: { label: "Cost", of: (one) => one.cost_usd, words: money },
  turns: { label: "Turns", of: (one) => one.turns, words: count },
  time: { label: "Time", of: (one) => one.processing_ms, words: duration },
};
const DAYS = [
  ["7", "7 days"],
  ["30", "30 days"],
  ["90", "90 days"],
];
const NARROWEST = 260;
const WIDTH = 720;
const HEIGHT = 240;
const LEFT = 58;
const LABEL_WIDTH = 64;
const BOTTOM = 26;
const TOP = 10;

export async function show(container, { query, signal }) {
  const days = DAYS.some(([given]) => given === query.get("days")) ? query.get("days") : "30";
  let measure = query.get("measure") in MEASURES ? query.get("measure") : "tokens";
  const { usage, since } = await get("/api/usage", { query: { days }, signal });
  const to = (given) => go(`/console/usage?days=${given}&measure=${measure}`, { replace: true });
  const body = page("Usage", {
    lead: "What agents took, by day (UTC). Cost is known for models with a price.",
    actions: [segments("Period", DAYS, days, to)],
  });
  fill(container, body);
  if (!usage.length) {
    body.append(empty("chart", "Nothing was used yet", `No agent has answered in the last ${days} days. As soon as one does, its turns, tokens, time and cost are counted here.`));
    return null;
  }
  const data = arranged(usage, since, Number(days));
  const chart = el("figure", { class: "chart" });
  const draw = (given) => {
    measure = given;
    const width = Math.max(NARROWEST, Math.floor(chart.clientWidth) || WIDTH);
    fill(chart, drawn(data, MEASURES[measure], width), legend(data, MEASURES[measure]));
  };
  const kinds = Object.entries(MEASURES).map(([given, { label }]) => [given, label]);
  body.append(
    totals(usage),
    el("section", { class: "card stack" }, el("div", { class: "chart-head" }, el("h2", {}, "By day and agent"), segments("Measure", kinds, measure, draw)), chart),
    el("section", { class: "stack" }, el("h2", {}, "In numbers"), el("div", { class: "long" }, tableOf(data))),
  );
  draw(measure);
  // Drawn in the width there is, so that its words stay readable on a phone.
  let drawnAt = 0;
  const watch = new ResizeObserver(() => {
    if (chart.clientWidth === drawnAt) return;
    drawnAt = chart.clientWidth;
    draw(measure);
  });
  watch.observe(chart);
  return () => watch.disconnect();
}

/** Every day of the period, oldest first, with what each agent took; agents by what they took. */
function arranged(usage, since, days) {
  const first = Date.parse(`${since}T00:00:00Z`);
  const all = Array.from({ length: days }, (_, place) => new Date(first + place * DAY_MS).toISOString().slice(0, 10));
  const tokens = new Map();
  for (const one of usage) tokens.set(one.agent, (tokens.get(one.agent) ?? 0) + MEASURES.tokens.of(one));
  const agents = [...tokens.keys()].sort((a, b) => tokens.get(b) - tokens.get(a) || a.localeCompare(b));
  const found = new Map(usage.map((one) => [`${one.day} ${one.agent}`, one]));
  return { days: all, agents, usage, of: (day, agent) => found.get(`${day} ${agent}`) };
}

function totals(usage) {
  const sum = (of) => usage.reduce((so, one) => so + of(one), 0);
  const figure = ({ label, of, words }) => el("div", { class: "figure" }, el("dt", {}, label), el("dd", {}, words(sum(of))));
  return el("dl", { class: "figures card" }, Object.values(MEASURES).map(figure));
}

// -- the chart ----------------------------------------------------------------------------------

function drawn(data, { label, of, words }, width) {
  const sums = data.days.map((day) => total(data, day, of));
  const most = ceiling(Math.max(...sums));
  const wide = (width - LEFT) / data.days.length;
  const every = Math.max(1, Math.ceil(data.days.length / Math.floor((width - LEFT) / LABEL_WIDTH)));
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / most);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": `${label} per day; the table below says the same` });
  for (const part of [0, 0.5, 1]) {
    svg.append(shape("line", { class: "grid", x1: LEFT, x2: width, y1: y(most * part), y2: y(most * part) }));
    svg.append(words_(LEFT - 8, y(most * part) + 4, part === 0 ? "0" : brief(most * part, words), "end"));
  }
  data.days.forEach((day, place) => {
    const x = LEFT + place * wide;
    svg.append(bar(data, day, { x, wide, y, of, words }));
    // Counted from the last day, which is always labelled and must not stand out at the side.
    if ((data.days.length - 1 - place) % every) return;
    const last = place === data.days.length - 1 && wide < LABEL_WIDTH;
    svg.append(last ? words_(width, HEIGHT - 8, dayWords(day), "end") : words_(x + wide / 2, HEIGHT - 8, dayWords(day), "middle"));
  });
  return svg;
}

function bar(data, day, { x, wide, y, of, words }) {
  const group = shape("g", { class: "bar" });
  const told = [dayWords(day)];
  let below = 0;
  data.agents.forEach((agent, place) => {
    const one = data.of(day, agent);
    const value = one ? of(one) : 0;
    if (!value) return;
    const gap = Math.min(4, wide * 0.22);
    const height = Math.max(1, y(below) - y(below + value));
    group.append(shape("rect", { class: `series-${place % SERIES}`, x: x + gap / 2, y: y(below + value), width: wide - gap, height, rx: Math.min(2, height / 2) }));
    told.push(`${agent}: ${words(value)}`);
    below += value;
  });
  // The whole height answers the pointer, not only what is drawn.
  group.append(shape("rect", { class: "catch", x, y: TOP, width: wide, height: HEIGHT - TOP - BOTTOM }));
  const title = shape("title", {});
  title.textContent = told.length > 1 ? told.join("\n") : `${told[0]}: nothing`;
  group.append(title);
  return group;
}

function legend(data, { of, words }) {
  const items = data.agents.map((agent, place) => {
    const sum = data.usage.filter((one) => one.agent === agent).reduce((so, one) => so + of(one), 0);
    return el("li", {}, el("span", { class: `swatch series-${place % SERIES}` }), agent, el("span", { class: "muted" }, words(sum)));
  });
  return el("figcaption", {}, el("ul", { class: "legend", role: "list" }, items));
}

const total = (data, day, of) => data.agents.reduce((so, agent) => so + (data.of(day, agent) ? of(data.of(day, agent)) : 0), 0);

/** The next round number above, so that the grid has readable steps. */
function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 5, 10].find((one) => one * power >= value);
  return step * power;
}

/** As short as an axis needs it: 12k, 1.5M; durations and money as they are. */
function brief(value, words) {
  if (words !== count) return words(value);
  if (value >= 1_000_000) return `${+(value / 1_000_000).toFixed(1)}M`;
  return value >= 1000 ? `${+(value / 1000).toFixed(1)}k` : String(+value.toFixed(1));
}

const DATE = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", timeZone: "UTC" });
const dayWords = (day) => DATE.format(new Date(`${day}T00:00:00Z`));

// -- the table ----------------------------------------------------------------------------------

function tableOf(data) {
  const right = (label) => ({ label, class: "number" });
  const heads = ["Day", "Agent", right("Turns"), right("Tokens in"), right("Tokens out"), right("Cost"), right("Time")];
  const sorted = [...data.usage].sort((a, b) => b.day.localeCompare(a.day) || a.agent.localeCompare(b.agent));
  const rows = sorted.map((one) => [
    el("span", { class: "nowrap" }, dayWords(one.day)),
    badge(one.agent),
    count(one.turns),
    count(one.input_tokens),
    count(one.output_tokens),
    money(one.cost_usd),
    el("span", { class: "nowrap" }, duration(one.processing_ms)),
  ]);
  return table("What each agent took on each day, the newest first", heads, rows);
}
