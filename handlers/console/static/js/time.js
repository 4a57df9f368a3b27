// Instants, durations and amounts in words, in the browser's own zone and language.

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DATE = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const DATE_YEAR = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const WHOLE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** "today", "yesterday" or "older", by the calendar of the browser's zone. */
export function group(iso, now = new Date()) {
  const days = daysApart(new Date(iso), now);
  if (days <= 0) return "today";
  return days === 1 ? "yesterday" : "older";
}

/** As short as a list needs it: the time today, else the date. */
export function short(iso, now = new Date()) {
  if (!iso) return "";
  const at = new Date(iso);
  if (daysApart(at, now) === 0) return CLOCK.format(at);
  return (at.getFullYear() === now.getFullYear() ? DATE : DATE_YEAR).format(at);
}

/** Date and time: "Today 09:00", "Yesterday 09:00", "3 Nov 09:00". */
export function when(iso, now = new Date()) {
  if (!iso) return "—";
  return `${day(iso, now)} ${CLOCK.format(new Date(iso))}`;
}

/** The day: "Today", "Tomorrow", "Yesterday", else the date. */
export function day(iso, now = new Date()) {
  const at = new Date(iso);
  const near = { 0: "Today", 1: "Yesterday", "-1": "Tomorrow" }[daysApart(at, now)];
  return near ?? (at.getFullYear() === now.getFullYear() ? DATE : DATE_YEAR).format(at);
}

export const clock = (iso) => (iso ? CLOCK.format(new Date(iso)) : "");
export const whole = (iso) => (iso ? WHOLE.format(new Date(iso)) : "");

/** "just now", "5 min ago", "in 2 h", then the date. */
export function ago(iso, now = new Date()) {
  if (!iso) return "—";
  const past = now - new Date(iso);
  const size = Math.abs(past);
  if (size < MINUTE) return past >= 0 ? "just now" : "in a moment";
  if (size >= (past > 0 ? DAY : 2 * DAY)) return when(iso, now);
  const words = size < HOUR ? `${Math.floor(size / MINUTE)} min` : `${Math.floor(size / HOUR)} h`;
  return past > 0 ? `${words} ago` : `in ${words}`;
}

/** "in 5 min", "in 32 h", "in 3 days". */
export function ahead(iso, now = new Date()) {
  const days = Math.floor((new Date(iso) - now) / DAY);
  return days < 2 ? ago(iso, now) : `in ${days} days`;
}

/** "340 ms", "2.4 s", "3 min 05 s", "2 h 10 min". */
export function duration(ms) {
  if (ms === null || ms === undefined) return "—";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${String(seconds % 60).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/** US dollars, with as many digits as a small amount needs. */
export function money(usd) {
  if (usd === null || usd === undefined) return "—";
  if (usd === 0) return "$0";
  if (usd < 0.0001) return "< $0.0001";
  return `$${usd.toFixed(usd < 1 ? 4 : 2)}`;
}

export const count = (n) => (n === null || n === undefined ? "—" : Number(n).toLocaleString());

/** "12 kB", "3.4 MB". */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1_000_000) return `${Math.round(bytes / 1000)} kB`;
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}

function daysApart(at, now) {
  const midnight = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate());
  return Math.round((midnight(now) - midnight(at)) / DAY);
}
