// Numbers on axes: round steps, short words, and fewer points than there are. Pure.

/** How many series have a colour of their own. */
export const SERIES = 8;

const STEPS = [1, 2, 2.5, 5, 10];
const COMPACT = new Intl.NumberFormat(undefined, { notation: "compact", maximumSignificantDigits: 4 });
const PLAIN = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 12 });
const HUGE = 1e15;
const TINY = 1e-4;
const LEAST_STEP = 1e-300;

/** A finite number, or null: numbers that came as text count, too. */
export function numeric(value) {
  if (typeof value === "number") return Number.isFinite(value) ? value : null;
  if (typeof value !== "string" || value.trim() === "") return null;
  const found = Number(value);
  return Number.isFinite(found) ? found : null;
}

/** Round steps around `low` to `high`: [-50, 0, 50, 100]; `zero` always has 0 among them. */
export function ticks(low, high, { wanted = 4, zero = true } = {}) {
  let from = zero ? Math.min(0, low) : low;
  let to = zero ? Math.max(0, high) : high;
  if (from === to) [from, to] = from === 0 ? [0, 1] : [Math.min(0, from), Math.max(0, to)];
  // Halved first: the distance of two very large numbers is no number any more.
  const raw = to / wanted - from / wanted;
  if (raw < LEAST_STEP) return [0, 1];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = STEPS.find((one) => one * power >= raw * 0.999) * power;
  const first = Math.floor(from / step + 1e-9);
  const last = Math.ceil(to / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, place) => round(within((first + place) * step), step));
}

/** As short as an axis needs it: 12K, 1.5M, 2e+30. */
export function brief(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size >= HUGE || size < TINY)) return value.toExponential(1).replace(".0e", "e");
  return COMPACT.format(value);
}

/** A number in full. */
export const exact = (value) => (value === null ? "—" : PLAIN.format(value));

/**
 * The places of at most about `most` values, in their order: of each stretch the lowest and the
 * highest, so that no peak is lost.
 */
export function thinned(values, most) {
  const places = values.map((_, place) => place);
  if (values.length <= most) return places;
  const size = Math.ceil((values.length * 2) / most);
  const kept = [];
  for (let from = 0; from < values.length; from += size) {
    const stretch = places.slice(from, from + size).filter((place) => values[place] !== null);
    if (stretch.length === 0) continue;
    const low = stretch.reduce((a, b) => (values[b] < values[a] ? b : a));
    const high = stretch.reduce((a, b) => (values[b] > values[a] ? b : a));
    kept.push(...new Set([Math.min(low, high), Math.max(low, high)]));
  }
  return kept;
}

/** Text in at most `most` characters. */
export const cut = (text, most) => (text.length > most ? `${text.slice(0, Math.max(1, most - 1)).trimEnd()}…` : text);

/** Beyond the largest number there is no axis. */
const within = (value) => Math.max(-Number.MAX_VALUE, Math.min(Number.MAX_VALUE, value));

function round(value, step) {
  const digits = Math.max(0, Math.min(100, 2 - Math.floor(Math.log10(step))));
  return digits > 20 ? value : Number(value.toFixed(Math.min(20, digits)));
}
