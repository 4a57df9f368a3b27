// What charts are made of: axes, bars, lines and areas, slices.

import { SERIES, brief, cut, exact, ticks } from "./scales.js";
import { shape, told, widthOf, words } from "./svg.js";

const TOP = 12;
const RIGHT = 10;
const PLOT_HEIGHT = 210;
const LONGEST_LABEL = 18;
const LABEL_GAP = 14;
const SLANTED_GAP = 17;
const SLANT = Math.PI / 5;
const MARKERS_UP_TO = 40;

// -- axes ---------------------------------------------------------------------------------------

/** The ground of bars and lines: a grid with numbers, and labels below that do not overlap. */
function ground(data, width, { zero, banded }) {
  const known = data.series.flatMap(({ values }) => values).filter((one) => one !== null);
  const steps = ticks(Math.min(...known), Math.max(...known), { zero });
  const left = 14 + Math.max(...steps.map((one) => widthOf(brief(one))));
  const [low, high] = [steps[0], steps.at(-1)];
  const y = (value) => TOP + PLOT_HEIGHT * (1 - (value / 2 - low / 2) / (high / 2 - low / 2));
  const room = width - left - RIGHT;
  const band = room / data.length;
  const span = data.at && !banded ? data.at.at(-1) - data.at[0] : 0;
  const inset = banded || data.length === 1 ? band / 2 : 4;
  const middle = (place) => {
    if (banded || data.length === 1) return left + (place + 0.5) * band;
    const part = span > 0 ? (data.at[place] - data.at[0]) / span : place / (data.length - 1);
    return left + inset + part * (room - 2 * inset);
  };
  const below = labels(data.labels, middle, { band: room / Math.max(1, data.length), left, width });
  const grid = steps.flatMap((one) => [
    shape("line", { class: one === 0 && low < 0 ? "grid zero" : "grid", x1: left, x2: width, y1: y(one), y2: y(one) }),
    words(left - 8, y(one) + 4, brief(one), "end"),
  ]);
  return { y, middle, band, left, base: y(Math.min(Math.max(0, low), high)), height: TOP + PLOT_HEIGHT + below.height, parts: [...grid, ...below.parts] };
}

/** Labels below the plot: level while there is room, else aslant; some are left out. */
function labels(texts, middle, { band, left, width }) {
  const shown = texts.map((one) => cut(one, LONGEST_LABEL));
  const longest = Math.max(...shown.map(widthOf));
  const level = longest + LABEL_GAP <= band || texts.length > 24 || longest < 48;
  const y = TOP + PLOT_HEIGHT + 18;
  const parts = [];
  let free = -Infinity;
  let deep = 0;
  shown.forEach((text, place) => {
    const half = widthOf(text) / 2;
    const x = level ? Math.min(Math.max(middle(place), left + half - 10), width - half) : middle(place);
    if (level ? x - half < free : x < free) return;
    free = level ? x + half + LABEL_GAP : x + SLANTED_GAP;
    if (level) {
      parts.push(words(x, y, text, "middle"));
      return;
    }
    const part = fitting(text, (x - 4) / Math.cos(SLANT));
    deep = Math.max(deep, widthOf(part) * Math.sin(SLANT));
    const node = words(x + 4, y - 4, part, "end", { transform: `rotate(${(-SLANT * 180) / Math.PI} ${x + 4} ${y - 4})` });
    node.append(told(texts[place]));
    parts.push(node);
  });
  return { parts, height: level ? 28 : 22 + deep };
}

/** As much of a label as there is room for. */
function fitting(text, room) {
  let most = text.length;
  while (most > 1 && widthOf(cut(text, most)) > room) most -= 1;
  return cut(text, most);
}

/** A stripe over the whole height that tells all values at one place when the pointer rests on it. */
function stripe(data, place, from, to, height = PLOT_HEIGHT) {
  const values = data.series.map(({ name, values: all }) => `${name}: ${exact(all[place])}`);
  return [
    shape("rect", { class: "catch", x: from, y: TOP, width: Math.max(1, to - from), height }),
    told([data.labels[place], ...values].join("\n")),
  ];
}

// -- bars ---------------------------------------------------------------------------------------

export function bars(data, width) {
  const { y, middle, band, base, height, parts } = ground(data, width, { zero: true, banded: true });
  const gap = Math.min(18, band * 0.28);
  const wide = Math.min(64, (band - gap) / data.series.length);
  const whole = wide * data.series.length;
  const groups = data.labels.map((_, place) => {
    const from = middle(place) - whole / 2;
    const rects = data.series.map(({ values, place: order }, number) => {
      if (values[place] === null) return null;
      const at = y(values[place]);
      const tall = Math.max(1, Math.abs(at - base));
      return shape("rect", { class: `mark series-${order % SERIES}`, x: from + number * wide, y: values[place] < 0 ? base : base - tall, width: Math.max(0.8, wide - (wide > 6 ? 1 : 0)), height: tall, rx: Math.min(2, wide / 4, tall / 2) });
    });
    return shape("g", { class: "spot" }, ...rects, ...stripe(data, place, middle(place) - band / 2, middle(place) + band / 2));
  });
  return { height, parts: [...parts, ...groups] };
}

// -- lines and areas ----------------------------------------------------------------------------

export function lines(data, width) {
  const known = data.series.flatMap(({ values }) => values).filter((one) => one !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  // An area is measured from zero; a line may begin higher, when all of it is far from zero.
  const zero = data.kind === "area" || low <= 0 || low <= (high - low) * 1.5;
  const { y, middle, base, left, height, parts } = ground(data, width, { zero, banded: false });
  const drawn = data.series.flatMap(({ values, place: order }) => {
    const kind = `series-${order % SERIES} dash-${order % 4}`;
    return runs(values).flatMap((run) => {
      const points = run.map((place) => `${round(middle(place))},${round(y(values[place]))}`);
      const dots = run.length === 1 || data.length <= MARKERS_UP_TO ? run.map((place) => shape("circle", { class: `dot ${kind}`, cx: middle(place), cy: y(values[place]), r: 3 })) : [];
      const area = data.kind === "area" && run.length > 1 && shape("path", { class: `area ${kind}`, d: `M${round(middle(run[0]))},${base}L${points.join("L")}L${round(middle(run.at(-1)))},${base}Z` });
      return [area, run.length > 1 && shape("path", { class: `line ${kind}`, d: `M${points.join("L")}` }), ...dots];
    });
  });
  const spots = data.labels.map((_, place) => {
    const from = place === 0 ? left : (middle(place - 1) + middle(place)) / 2;
    const to = place === data.length - 1 ? width : (middle(place) + middle(place + 1)) / 2;
    return shape("g", { class: "spot" }, ...stripe(data, place, from, to));
  });
  return { height, parts: [...parts, ...drawn, ...spots] };
}

/** Stretches of places without a gap. */
function runs(values) {
  const found = [[]];
  values.forEach((value, place) => (value === null ? found.push([]) : found.at(-1).push(place)));
  return found.filter((run) => run.length > 0);
}

// -- slices -------------------------------------------------------------------------------------

export function slices(data, width) {
  const [{ name, values }] = data.series;
  const sum = values.reduce((so, one) => so + one, 0);
  const radius = Math.min(100, width / 2 - 12);
  const [x, y] = [width / 2, radius + 8];
  let from = -Math.PI / 2;
  const parts = values.map((value, place) => {
    const to = from + (2 * Math.PI * value) / sum;
    const node = shape(
      "g",
      { class: "spot" },
      shape("path", { class: `slice series-${place % SERIES}`, d: ring(x, y, radius, radius * 0.58, from, to) }),
      told(`${data.labels[place]}\n${name}: ${exact(value)} (${((100 * value) / sum).toFixed(1)} %)`),
    );
    from = to;
    return node;
  });
  const total = [words(x, y - 2, brief(sum), "middle", { class: "total" }), words(x, y + 16, cut(name, 16), "middle")];
  return { height: 2 * radius + 16, parts: [...parts, ...total] };
}

function ring(x, y, outer, inner, from, given) {
  // A whole circle has no beginning and no end: it is drawn a hair short of that.
  const to = Math.min(given, from + 2 * Math.PI - 0.0001);
  const large = to - from > Math.PI ? 1 : 0;
  const at = (radius, angle) => `${round(x + radius * Math.cos(angle))} ${round(y + radius * Math.sin(angle))}`;
  return `M${at(outer, from)}A${outer} ${outer} 0 ${large} 1 ${at(outer, to)}L${at(inner, to)}A${inner} ${inner} 0 ${large} 0 ${at(inner, from)}Z`;
}

const round = (value) => Math.round(value * 100) / 100;
