// A chart of a table: bars, lines, areas or slices, drawn in the width there is.

import { bars, lines, slices } from "./chart_marks.js";
import { el, fill } from "./dom.js";
import { SERIES, cut, exact, numeric, thinned } from "./scales.js";
import { shape } from "./svg.js";
import { count } from "./time.js";

export const KINDS = [
  ["bar", "Bars"],
  ["line", "Lines"],
  ["area", "Areas"],
  ["pie", "Slices"],
];
const NAMES = { bar: "Bar chart", line: "Line chart", area: "Area chart", pie: "Pie chart" };
const NARROWEST = 240;
const USUAL = 560;
/** Pixels that a mark needs to be seen. */
const LEAST_ROOM = { bar: 3, line: 1.5, area: 1.5, pie: 1 };
const MOST_SLICES = 8;

/**
 * A figure that draws `spec` ({ kind, x, y: [columns], title }) of a table ({ columns, rows }).
 * What it shows is told in words, too, for those who do not see it. `below` is the heading that it
 * stands below, which need not be said twice.
 */
export function chart(spec, table, { below = null } = {}) {
  const data = read(spec, table);
  if (data.problem) return el("p", { class: "notice warn" }, data.problem);
  const canvas = el("div", { class: "plot-canvas" });
  const note = el("p", { class: "muted plot-note" });
  const figure = el(
    "figure",
    { class: `plot plot-${data.kind}` },
    spec.title && spec.title !== below && el("figcaption", { class: "plot-title" }, spec.title),
    canvas,
    data.kind === "pie" ? shares(data) : data.series.length > 1 && legend(data.series.map(({ name }) => name)),
    note,
    el("p", { class: "visually-hidden" }, summary(data)),
  );
  let drawnAt = 0;
  const draw = () => {
    const width = Math.max(NARROWEST, Math.floor(canvas.clientWidth) || USUAL);
    if (width === drawnAt) return;
    drawnAt = width;
    const shown = fitting(data, width);
    fill(canvas, drawn(shown, width, spec.title ?? below));
    fill(note, shown.length < data.length && `${count(shown.length)} of ${count(data.length)} points are drawn: the lowest and the highest of each stretch.`);
    note.hidden = shown.length >= data.length;
  };
  draw();
  new ResizeObserver(draw).observe(canvas);
  return figure;
}

/** What is drawn: labels, and series of numbers; `problem` when there is nothing to draw. */
function read({ kind, x, y }, { columns, rows }) {
  const wanted = [y].flat().filter(Boolean);
  const missing = [x, ...wanted].filter((name) => !columns.includes(name));
  if (missing.length) return { problem: `The data has no column ${missing.join(", ")}.` };
  if (rows.length === 0) return { problem: "There are no rows to draw." };
  const at = columns.indexOf(x);
  const labels = rows.map((row) => label(row[at]));
  const places = wanted.map((name) => columns.indexOf(name));
  const series = places.map((place, order) => ({ name: wanted[order], place: order, values: rows.map((row) => numeric(row[place])) }));
  if (!series.some(({ values }) => values.some((one) => one !== null))) return { problem: "There are no numbers to draw." };
  const data = { kind: kind in NAMES ? kind : "bar", x, labels, series, at: positions(rows.map((row) => row[at])), length: rows.length };
  return kind === "pie" ? sliced(data) : data;
}

const label = (value) => (value === null || value === undefined || value === "" ? "—" : String(value));

/** Where points stand when their labels are growing numbers or dates; null: side by side. */
function positions(values) {
  const dates = values.every((one) => typeof one === "string" && /^\d{4}-\d{2}(-\d{2})?/.test(one));
  const found = dates ? values.map(Date.parse) : values.every((one) => typeof one === "number") ? values : null;
  return found?.every((one, place) => Number.isFinite(one) && (place === 0 || one > found[place - 1])) ? found : null;
}

/** The largest shares, what is left of them as one, and how many values have no share at all. */
function sliced(data) {
  const [{ name, values }] = data.series;
  const parts = data.labels.map((text, place) => ({ text, value: values[place] ?? 0 })).filter(({ value }) => value > 0);
  if (parts.length === 0) return { problem: "Only values above zero have a share." };
  parts.sort((a, b) => b.value - a.value);
  const rest = parts.splice(parts.length > MOST_SLICES ? MOST_SLICES - 1 : MOST_SLICES);
  if (rest.length) parts.push({ text: `${rest.length} others`, value: rest.reduce((sum, one) => sum + one.value, 0) });
  const sum = parts.reduce((so, one) => so + one.value, 0);
  const left = data.length - parts.length - rest.length + (rest.length ? 1 : 0);
  return { ...data, length: parts.length, left, sum, labels: parts.map((one) => one.text), series: [{ name, place: 0, values: parts.map((one) => one.value) }] };
}

/** As many points as the width can show. */
function fitting(data, width) {
  const most = Math.floor(width / (LEAST_ROOM[data.kind] * (data.kind === "bar" ? data.series.length : 1)));
  if (data.length <= most || data.kind === "pie") return data;
  const kept = thinned(data.series[0].values, most);
  const of = (list) => kept.map((place) => list[place]);
  return { ...data, length: kept.length, labels: of(data.labels), at: data.at && of(data.at), series: data.series.map((one) => ({ ...one, values: of(one.values) })) };
}

function drawn(data, width, title) {
  const marks = { bar: bars, line: lines, area: lines, pie: slices }[data.kind];
  const name = [title, `${NAMES[data.kind]} of ${data.series.map((one) => one.name).join(", ")} by ${data.x}`].filter(Boolean).join(": ");
  const { height, parts } = marks(data, width);
  return shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": name }, ...parts);
}

function legend(names) {
  const items = names.map((name, place) => el("li", {}, el("span", { class: `swatch series-${place % SERIES}` }), name));
  return el("ul", { class: "legend", role: "list" }, items);
}

function shares({ labels, series, sum, left }) {
  const items = labels.map((text, place) => {
    const value = series[0].values[place];
    const part = el("span", { class: "muted nowrap" }, `${exact(value)} · ${percent(value, sum)}`);
    return el("li", {}, el("span", { class: `swatch series-${place % SERIES}` }), el("span", { class: "grow", title: text }, cut(text, 60)), part);
  });
  const none = left > 0 && el("li", { class: "muted" }, `${left} ${left === 1 ? "value is" : "values are"} not above zero and left out.`);
  return el("ul", { class: "shares", role: "list" }, items, none);
}

const percent = (value, sum) => `${((100 * value) / sum).toFixed(value / sum < 0.1 ? 1 : 0)} %`;

/** What the chart shows, in words. */
function summary(data) {
  const series = data.series.map(({ name, values }) => {
    const known = values.map((value, place) => ({ value, place })).filter(({ value }) => value !== null);
    if (known.length === 0) return `${name}: no numbers`;
    const low = known.reduce((a, b) => (b.value < a.value ? b : a));
    const high = known.reduce((a, b) => (b.value > a.value ? b : a));
    const [first, last] = [known[0], known.at(-1)];
    const told = ({ value, place }) => `${exact(value)} at ${data.labels[place]}`;
    return `${name}: lowest ${told(low)}, highest ${told(high)}, first ${told(first)}, last ${told(last)}`;
  });
  return `${NAMES[data.kind]} by ${data.x}, ${count(data.length)} points. ${series.join(". ")}.`;
}
