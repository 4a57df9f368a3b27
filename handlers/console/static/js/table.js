// A table of any length: only the rows in sight are in the document.

import { el, fill } from "./dom.js";
import { icon } from "./icons.js";
import { exact } from "./scales.js";

const ROW = 32;
const AROUND = 10;
const LETTER = 7.4;
const HEAD_LETTER = 8.6;
const MOST_DECIMALS = 4;
const NARROWEST = 64;
const WIDEST = 340;
const LOOKED_AT = 200;
const LONGEST_CELL = 300;
const COLLATOR = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

/** Shows { columns, rows }; `height` is the most pixels that it takes. */
export class DataTable {
  constructor({ columns, rows }, { caption, height = 340 }) {
    this.columns = columns.map((name, place) => ({ name: String(name), place, ...kind(rows, place) }));
    this.rows = rows;
    this.order = rows.map((_, place) => place);
    this.sorted = null;
    this.shown = null;
    this.drawnAt = -1;
    const widths = this.columns.map((column) => width(column, rows));
    this.heads = this.columns.map((column) => this.head(column));
    this.body = el("tbody", {});
    const group = el("colgroup", {}, widths.map((wide) => sized(el("col", {}), "width", wide)));
    this.table = el(
      "table",
      { class: "table data-table", "aria-rowcount": rows.length + 1 },
      el("caption", { class: "visually-hidden" }, caption),
      group,
      el("thead", {}, el("tr", { "aria-rowindex": 1 }, this.heads)),
      this.body,
    );
    sized(this.table, "width", widths.reduce((sum, one) => sum + one, 0));
    this.node = el("div", { class: "table-wrap data-scroll", tabindex: "0", role: "region", "aria-label": caption }, this.table);
    sized(this.node, "maxHeight", height);
    this.height = height;
    this.node.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.node);
    this.draw();
  }

  head(column) {
    const button = el("button", { class: "sort", type: "button", title: column.name, onclick: () => this.sort(column) }, el("span", {}, column.name), icon("chevron"));
    return el("th", { scope: "col", class: column.number ? "number" : null, "aria-sort": "none" }, button);
  }

  /** Upwards, then downwards, then as it came. */
  sort(column) {
    const way = this.sorted?.column !== column ? "ascending" : this.sorted.way === "ascending" ? "descending" : null;
    this.sorted = way && { column, way };
    this.order = this.rows.map((_, place) => place);
    if (way) {
      const sign = way === "ascending" ? 1 : -1;
      const { place } = column;
      this.order.sort((a, b) => compared(this.rows[a][place], this.rows[b][place], sign) || a - b);
    }
    this.columns.forEach((one, number) => this.heads[number].setAttribute("aria-sort", one === column && way ? way : "none"));
    this.shown = null;
    this.draw();
  }

  /** Put the rows in sight into the document, and some above and below. */
  draw() {
    const seen = this.node.clientHeight || this.height;
    const first = Math.max(0, Math.floor(this.node.scrollTop / ROW) - AROUND);
    const last = Math.min(this.rows.length, Math.ceil((this.node.scrollTop + seen) / ROW) + AROUND);
    const drawn = `${first} ${last}`;
    if (drawn === this.shown) return;
    this.shown = drawn;
    const rows = [];
    for (let place = first; place < last; place += 1) rows.push(this.row(place));
    fill(this.body, spacer(first), rows, spacer(this.rows.length - last));
  }

  row(place) {
    const values = this.rows[this.order[place]];
    const cells = this.columns.map(({ number, digits, place: at }) => {
      const text = digits && values[at] !== null ? digits.format(values[at]) : words(values[at]);
      return el("td", { class: number ? "number" : text === "—" ? "muted" : null, title: text.length > 24 ? text : null }, text);
    });
    return el("tr", { "aria-rowindex": place + 2 }, cells);
  }
}

function spacer(rows) {
  return rows > 0 && el("tr", { class: "spacer", "aria-hidden": "true" }, sized(el("td", {}), "height", rows * ROW));
}

function sized(node, what, pixels) {
  node.style[what] = `${Math.round(pixels)}px`;
  return node;
}

/** Whether a column holds numbers and nothing else, and how those with decimals are written. */
function kind(rows, place) {
  let decimals = 0;
  let found = false;
  for (const row of rows) {
    const value = row[place];
    if (value === null || value === undefined) continue;
    if (typeof value !== "number") return { number: false, digits: null };
    found = true;
    decimals = Math.max(decimals, Number.isInteger(value) ? 0 : decimalsOf(value));
  }
  // All with as many decimals, so that their points stand below each other.
  const digits = decimals > 0 && decimals <= MOST_DECIMALS ? new Intl.NumberFormat(undefined, { minimumFractionDigits: decimals, maximumFractionDigits: decimals }) : null;
  return { number: found, digits };
}

function decimalsOf(value) {
  const text = String(value);
  return text.includes("e") ? MOST_DECIMALS + 1 : text.length - text.indexOf(".") - 1;
}

/** How wide a column is, by its name and by rows from all over the table. */
function width({ name, place }, rows) {
  const step = Math.max(1, Math.floor(rows.length / LOOKED_AT));
  let longest = 0;
  for (let at = 0; at < rows.length; at += step) longest = Math.max(longest, words(rows[at][place]).length);
  return Math.min(WIDEST, Math.max(NARROWEST, longest * LETTER + 30, name.length * HEAD_LETTER + 46));
}

/** What a cell says. */
export function words(value) {
  if (value === null || value === undefined || value === "") return "—";
  if (typeof value === "number") return Number.isSafeInteger(value) ? String(value) : exact(value);
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  return text.length > LONGEST_CELL ? `${text.slice(0, LONGEST_CELL)}…` : text;
}

/** Nothing comes last, whichever way; numbers before words. */
function compared(a, b, sign) {
  const [none, other] = [a === null || a === undefined, b === null || b === undefined];
  if (none || other) return none === other ? 0 : none ? 1 : -1;
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  if (typeof a === "number") return -sign;
  if (typeof b === "number") return sign;
  return sign * COLLATOR.compare(String(a), String(b));
}
