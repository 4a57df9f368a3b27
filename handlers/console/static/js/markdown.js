// Markdown to nodes: a small, safe part of it. Text is never markup, links lead only to http, https
// and mailto, pictures are links, HTML is text. Unfinished text is shown as if it went on well.
//
// `parse` gives a tree of plain objects and knows no document; `render` and `Stream` make nodes.

import { el } from "./dom.js";
import { icon } from "./icons.js";

const DEEPEST = 8;
const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:\s+(.*?))?(?:\s+#+)?\s*$/;
const RULE = /^ {0,3}(?:(?:-\s*){3,}|(?:\*\s*){3,}|(?:_\s*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?:( +)(.*)|)$/;
const DELIMITERS = /^ {0,3}\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;
// What may still become the beginning of something: not shown while text comes in.
const BUDDING = /^\s*(?:[-*+]|\d{1,9}[.)]|#{1,6}|`{1,3}|~{1,3}|>|[-*_]{2,})\s*$/;

// -- blocks ------------------------------------------------------------------------------------

/** The blocks of a text; `open` says that more of it may come. */
export function parse(text, { open = false } = {}) {
  return blocks(lines(text), open, 0).map((one) => one.block);
}

/** Blocks with the line each begins at. */
function blocks(given, open, depth) {
  const found = [];
  let at = 0;
  while (at < given.length) {
    if (!given[at].trim()) {
      at += 1;
      continue;
    }
    const [block, next] = one(given, at, open, depth);
    if (block) found.push({ block, line: at });
    at = next;
  }
  return found;
}

function one(given, at, open, depth) {
  const line = given[at];
  const fence = FENCE.exec(line);
  if (fence) return fenced(given, at, fence);
  const heading = HEADING.exec(line);
  if (heading && (heading[2] || !open)) {
    const ends = open && at === given.length - 1;
    return [{ type: "heading", level: heading[1].length, inline: inline(heading[2] ?? "", ends) }, at + 1];
  }
  if (RULE.test(line) && !(open && at === given.length - 1)) return [{ type: "rule" }, at + 1];
  if (depth < DEEPEST && QUOTE.test(line)) return quoted(given, at, open, depth);
  if (depth < DEEPEST && isItem(line)) return listed(given, at, open, depth);
  if (isTable(given, at, open)) return tabled(given, at, open);
  return paragraph(given, at, open);
}

function fenced(given, at, fence) {
  const closing = new RegExp(`^ {0,3}${fence[1][0]}{${fence[1].length},}\\s*$`);
  let end = at + 1;
  while (end < given.length && !closing.test(given[end])) end += 1;
  const text = given.slice(at + 1, end).join("\n");
  const language = fence[2].trim().split(/\s/)[0] ?? "";
  return [{ type: "code", language, text, closed: end < given.length }, end + 1];
}

function quoted(given, at, open, depth) {
  let end = at;
  const inner = [];
  while (end < given.length && (QUOTE.test(given[end]) || (given[end].trim() && !begins(given[end])))) {
    inner.push(given[end].replace(QUOTE, ""));
    end += 1;
  }
  const ends = open && end >= given.length;
  return [{ type: "quote", blocks: blocks(inner, ends, depth + 1).map((b) => b.block) }, end];
}

function listed(given, at, open, depth) {
  const first = ITEM.exec(given[at]);
  const ordered = /\d/.test(first[2]);
  const kind = ordered ? first[2].at(-1) : first[2];
  const margin = first[1].length;
  const items = [];
  let loose = false;
  let apart = false; // whether a blank line stands before the next item
  let end = at;
  while (end < given.length) {
    const match = ITEM.exec(given[end]);
    const same = match && match[1].length <= margin + 1 && match[2].at(-1) === kind && !RULE.test(given[end]);
    if (!same) break;
    const [inner, next] = itemLines(given, end, match);
    const ends = open && next >= given.length;
    items.push(item(inner, ends, depth));
    loose ||= apart;
    apart = next < given.length && !given[next - 1].trim();
    end = next;
  }
  loose ||= items.some((one) => one.loose);
  const start = ordered ? Number.parseInt(first[2], 10) : null;
  return [{ type: "list", ordered, start, loose, items }, end];
}

/** The lines of one item without its margin, and where the next thing begins. */
function itemLines(given, at, match) {
  const spaces = match[3]?.length ?? 1;
  const indent = match[1].length + match[2].length + (spaces > 4 ? 1 : spaces);
  const inner = [match[4] ?? ""];
  let end = at + 1;
  while (end < given.length) {
    const line = given[end];
    if (!line.trim()) {
      let next = end + 1;
      while (next < given.length && !given[next].trim()) next += 1;
      const goesOn = next < given.length && margin(given[next]) >= Math.min(indent, match[1].length + 2);
      if (!goesOn || (isItem(given[next]) && margin(given[next]) <= match[1].length + 1)) {
        // Blank lines belong to the item only when something of it follows.
        return [inner, next];
      }
      for (let place = end; place < next; place += 1) inner.push("");
      end = next;
      continue;
    }
    const inside = margin(line) >= Math.min(indent, match[1].length + 2);
    const lazy = !begins(line) && !isItem(line) && inner.at(-1)?.trim();
    if (!inside && !lazy) break;
    inner.push(line.slice(Math.min(margin(line), indent)));
    end += 1;
  }
  return [inner, end];
}

function item(inner, open, depth) {
  const task = /^\[([ xX])\]\s+/.exec(inner[0]);
  const rest = task ? [inner[0].slice(task[0].length), ...inner.slice(1)] : inner;
  const found = blocks(rest, open, depth + 1).map((b) => b.block);
  const paragraphs = found.filter((b) => b.type === "paragraph").length;
  return { done: task ? task[1] !== " " : null, blocks: found, loose: paragraphs > 1 };
}

function isTable(given, at, open) {
  if (!given[at].includes("|")) return false;
  const next = given[at + 1];
  if (next === undefined) return open && /^\s*\|.*\S/.test(given[at]);
  if (open && at + 2 >= given.length && /^\s*\|[\s|:-]*$/.test(next)) return true;
  return DELIMITERS.test(next) && next.includes("-") && cells(next).length === cells(given[at]).length;
}

function tabled(given, at, open) {
  const head = cells(given[at]);
  const align = cells(given[at + 1] ?? "").map((cell) => {
    const [left, right] = [cell.startsWith(":"), cell.endsWith(":")];
    return right ? (left ? "center" : "right") : null;
  });
  const rows = [];
  let end = at + 2;
  while (end < given.length && given[end].trim() && !(begins(given[end]) && !given[end].includes("|"))) {
    rows.push(cells(given[end]).slice(0, head.length));
    end += 1;
  }
  const ends = open && end >= given.length;
  const shown = (row) => row.map((cell) => inline(cell, ends));
  return [{ type: "table", align, head: shown(head), rows: rows.map(shown) }, end];
}

function cells(line) {
  const trimmed = line.trim().replace(/^\|/, "");
  const found = [];
  let cell = "";
  let code = false;
  for (let at = 0; at < trimmed.length; at += 1) {
    const sign = trimmed[at];
    if (sign === "\\" && trimmed[at + 1] === "|") {
      cell += "|";
      at += 1;
    } else if (sign === "|" && !code) {
      found.push(cell.trim());
      cell = "";
    } else {
      if (sign === "`") code = !code;
      cell += sign;
    }
  }
  if (cell.trim()) found.push(cell.trim());
  return found;
}

function paragraph(given, at, open) {
  let end = at + 1;
  while (end < given.length && given[end].trim() && !begins(given[end]) && !isTable(given, end, false)) {
    end += 1;
  }
  const ends = open && end >= given.length;
  const inner = given.slice(at, end);
  if (ends && BUDDING.test(inner.at(-1))) inner.pop();
  if (inner.length === 0) return [null, end];
  // Two spaces or a backslash at the end break a line; so does the end of a line by itself.
  const text = inner.map((line) => line.trimStart().replace(/(?: {2,}|\\)$/, "")).join("\n").trimEnd();
  return [{ type: "paragraph", inline: inline(text, ends) }, end];
}

/** Whether a line begins a block of its own in the middle of a paragraph. */
function begins(line) {
  if (FENCE.test(line) || HEADING.test(line) || QUOTE.test(line) || RULE.test(line)) return true;
  const match = ITEM.exec(line);
  return Boolean(match && match[4]?.trim() && (!/\d/.test(match[2]) || Number.parseInt(match[2], 10) === 1 || match[1]));
}

function isItem(line) {
  const match = ITEM.exec(line);
  return Boolean(match && (match[3] || match[2]) && !RULE.test(line) && (match[4] !== undefined || line.trim() === match[2]));
}

const margin = (line) => line.length - line.trimStart().length;
const lines = (text) => text.replace(/\r\n?/g, "\n").replace(/\t/g, "    ").split("\n");

// -- words -------------------------------------------------------------------------------------

/** The spans of a text. */
export function inline(text, open = false) {
  return new Words(text, open).spans(0, text.length, 0);
}

const ESCAPABLE = /[!-/:-@[-`{-~]/;
const BARE = /(?:https?:\/\/|mailto:)[^\s<>"'`]+/iy;
const ANGLE = /<((?:https?:\/\/|mailto:)[^\s<>]+)>/iy;
const SPACE = /\s/;
const WORD = /[\p{L}\p{N}_]/u;

class Words {
  constructor(text, open) {
    this.text = text;
    this.open = open;
    this.brackets = null;
    this.lastRound = null;
    // A search that found nothing finds nothing further on either: no quadratic time.
    this.hopeless = new Set();
  }

  spans(from, to, depth) {
    const found = [];
    let plain = "";
    const flush = () => {
      if (plain) found.push({ type: "text", text: plain });
      plain = "";
    };
    let at = from;
    while (at < to) {
      const sign = this.text[at];
      if (sign === "\\" && at + 1 < to && ESCAPABLE.test(this.text[at + 1])) {
        plain += this.text[at + 1];
        at += 2;
        continue;
      }
      if (sign === "\n") {
        flush();
        found.push({ type: "break" });
        at += 1;
        continue;
      }
      const span = depth < DEEPEST ? this.span(sign, at, to, depth) : null;
      if (span) {
        flush();
        if (span.node) found.push(span.node);
        at = span.end;
      } else {
        const run = "*_~`".includes(sign) ? this.run(at, to) : 1;
        plain += this.text.slice(at, at + run);
        at += run;
      }
    }
    flush();
    return found;
  }

  span(sign, at, to, depth) {
    if (sign === "`") return this.code(at, to);
    if (sign === "*" || sign === "_" || sign === "~") return this.emphasis(sign, at, to, depth);
    if (sign === "[" || (sign === "!" && this.text[at + 1] === "[")) return this.link(at, to, depth);
    if (sign === "<") return this.angle(at, to);
    if ((sign === "h" || sign === "H" || sign === "m" || sign === "M") && !this.after(at)) return this.bare(at, to);
    return null;
  }

  code(at, to) {
    const ticks = this.run(at, to);
    const key = `code${ticks}`;
    if (!this.hopeless.has(key)) {
      let end = at + ticks;
      while (end < to) {
        const next = this.text.indexOf("`", end);
        if (next < 0 || next >= to) break;
        const run = this.run(next, to);
        if (run === ticks) return { node: codeSpan(this.text.slice(at + ticks, next)), end: next + run };
        end = next + run;
      }
      this.hopeless.add(key);
    }
    if (!this.ends(to)) return null;
    const rest = this.text.slice(at + ticks, to);
    return { node: rest.trim() ? codeSpan(rest) : null, end: to };
  }

  emphasis(sign, at, to, depth) {
    const run = this.run(at, to);
    const size = sign === "~" ? 2 : Math.min(run, 2);
    if (run < size || run > 3 || (sign === "~" && run !== 2)) return null;
    const before = this.text[at - 1] ?? " ";
    const after = this.text[at + run];
    if (after === undefined || at + run >= to) {
      // Nothing after it yet: it may begin or end something, so it waits.
      return this.ends(to) && !SPACE.test(before) ? null : this.ends(to) ? { node: null, end: to } : null;
    }
    if (SPACE.test(after) || (sign === "_" && WORD.test(before))) return null;
    const type = sign === "~" ? "strike" : size === 2 ? "strong" : "em";
    const inside = at + size;
    const end = this.closing(sign, size, inside, to);
    if (end >= 0) return { node: { type, inline: this.spans(inside, end, depth + 1) }, end: end + size };
    if (!this.ends(to) || SPACE.test(after)) return null;
    // Unfinished: as if the end stood here; a half of the closing sign is not shown.
    const half = this.text.slice(inside, to).endsWith(sign) ? to - 1 : to;
    return { node: { type, inline: this.spans(inside, half, depth + 1) }, end: to };
  }

  /** Where the closing signs of an emphasis begin; -1 when there are none. */
  closing(sign, size, from, to) {
    const key = `${sign}${size}:${to}`;
    if (this.hopeless.has(key)) return -1;
    let at = from;
    while (at < to) {
      const here = this.text[at];
      if (here === "\\") {
        at += 2;
      } else if (here === "`") {
        at = this.code(at, to)?.end ?? at + this.run(at, to);
      } else if (here === sign) {
        const run = this.run(at, to);
        const after = this.text[at + run] ?? " ";
        const closes = !SPACE.test(this.text[at - 1] ?? " ") && (sign !== "_" || !WORD.test(after));
        if (closes && at > from && (run === size || run === 3)) {
          // Of three signs the outer emphasis takes the last ones.
          return run === 3 ? at + (3 - size) : at;
        }
        at += run;
      } else {
        at += 1;
      }
    }
    this.hopeless.add(key);
    return -1;
  }

  link(at, to, depth) {
    const picture = this.text[at] === "!";
    const opening = picture ? at + 1 : at;
    const closing = this.matching(opening);
    if (closing === null || closing >= to) {
      if (!this.ends(to) || this.text.slice(opening, to).includes("\n")) return null;
      return { node: { type: "group", inline: this.spans(opening + 1, to, depth + 1) }, end: to };
    }
    const shown = () => this.spans(opening + 1, closing, depth + 1);
    if (this.text[closing + 1] !== "(") return null;
    this.lastRound ??= this.text.lastIndexOf(")");
    const target = this.lastRound > closing ? destination(this.text, closing + 2, to) : null;
    if (target === null) {
      if (!this.ends(to) || this.text.slice(closing, to).includes("\n")) return null;
      return { node: { type: "group", inline: shown() }, end: to };
    }
    const href = safe(target.url);
    const words = picture && closing === opening + 1 ? [{ type: "text", text: "picture" }] : shown();
    if (href === null) return { node: { type: "group", inline: [...words, { type: "text", text: ` (${target.url})` }] }, end: target.end };
    return { node: { type: "link", href, picture, inline: unlinked(words) }, end: target.end };
  }

  angle(at, to) {
    ANGLE.lastIndex = at;
    const match = ANGLE.exec(this.text);
    if (!match || at + match[0].length > to) return null;
    const href = safe(match[1]);
    if (href === null) return null;
    return { node: { type: "link", href, inline: [{ type: "text", text: match[1] }] }, end: at + match[0].length };
  }

  bare(at, to) {
    BARE.lastIndex = at;
    const match = BARE.exec(this.text);
    if (!match) return null;
    const url = trimmed(match[0].slice(0, to - at));
    const href = safe(url);
    if (href === null) return null;
    return { node: { type: "link", href, inline: [{ type: "text", text: url }] }, end: at + url.length };
  }

  /** The bracket that closes the one at `at`; all are matched in one pass. */
  matching(at) {
    if (!this.brackets) {
      this.brackets = new Map();
      const stack = [];
      for (let place = 0; place < this.text.length; place += 1) {
        const sign = this.text[place];
        if (sign === "\\") place += 1;
        else if (sign === "[") stack.push(place);
        else if (sign === "]" && stack.length > 0) this.brackets.set(stack.pop(), place);
      }
    }
    return this.brackets.get(at) ?? null;
  }

  run(at, to) {
    let end = at + 1;
    while (end < to && this.text[end] === this.text[at]) end += 1;
    return end - at;
  }

  after(at) {
    return at > 0 && WORD.test(this.text[at - 1]);
  }

  ends(to) {
    return this.open && to === this.text.length;
  }
}

/** Spans without the links among them: there is no link in a link. */
function unlinked(spans) {
  return spans.map((one) => {
    if (!one.inline) return one;
    return { ...one, type: one.type === "link" ? "group" : one.type, inline: unlinked(one.inline) };
  });
}

function codeSpan(text) {
  const plain = text.replace(/\n/g, " ");
  const padded = /^ .* $/.test(plain) && plain.trim();
  return { type: "code", text: padded ? plain.slice(1, -1) : plain };
}

/** What stands in the round brackets of a link, and where they end; null when they do not. */
function destination(text, from, to) {
  let depth = 0;
  for (let at = from; at < to && at - from < 4000; at += 1) {
    const sign = text[at];
    if (sign === "\n") return null;
    if (sign === "\\") at += 1;
    else if (sign === "(") depth += 1;
    else if (sign === ")") {
      if (depth === 0) {
        const [url = ""] = text.slice(from, at).trim().split(/\s+(?=["'(])/);
        return { url: url.replace(/^<(.*)>$/, "$1").replace(/\\([!-/:-@[-`{-~])/g, "$1"), end: at + 1 };
      }
      depth -= 1;
    }
  }
  return null;
}

/** Without the signs that end a sentence rather than an address. */
function trimmed(url) {
  let end = url.length;
  while (end > 0) {
    const sign = url[end - 1];
    if (".,;:!?*_~'\"".includes(sign)) end -= 1;
    else if (sign === ")" && count(url, ")", end) > count(url, "(", end)) end -= 1;
    else if (sign === "]" && count(url, "]", end) > count(url, "[", end)) end -= 1;
    else break;
  }
  return url.slice(0, end);
}

function count(text, sign, end) {
  let found = 0;
  for (let at = 0; at < end; at += 1) if (text[at] === sign) found += 1;
  return found;
}

/** The address as the browser writes it, hosts in punycode; null for what is no link of ours. */
export function safe(href) {
  let url;
  try {
    url = new URL(href.trim());
  } catch {
    return null;
  }
  if (url.protocol === "mailto:") return url.href;
  if (url.protocol !== "http:" && url.protocol !== "https:") return null;
  // A name before the host is there to be taken for the host.
  return url.username || url.password || !url.hostname ? null : url.href;
}

// -- nodes -------------------------------------------------------------------------------------

/** A text as nodes. */
export function render(text) {
  const fragment = document.createDocumentFragment();
  fragment.append(...parse(text).map(blockNode));
  return fragment;
}

/** A text that grows inside of `container`: only its last block is made anew. */
export class Stream {
  constructor(container) {
    this.container = container;
    this.text = "";
    this.settled = 0; // characters whose nodes stay as they are
    this.kept = 0; // nodes that stay
  }

  /** Show `text`; `open` says that more may come. */
  update(text, { open = true } = {}) {
    if (!text.startsWith(this.text.slice(0, this.settled))) this.reset();
    this.text = text;
    const rest = lines(text.slice(this.settled));
    const found = blocks(rest, open, 0);
    const nodes = this.container.childNodes;
    found.forEach(({ block }, place) => {
      const old = nodes[this.kept + place];
      if (old && sameCode(old, block)) return;
      const made = blockNode(block);
      if (old) old.replaceWith(made);
      else this.container.append(made);
    });
    while (nodes.length > this.kept + found.length) this.container.lastChild.remove();
    if (open && found.length > 1 && !text.includes("\r") && !text.includes("\t")) this.settle(rest, found);
  }

  settle(rest, found) {
    const line = found.at(-1).line;
    this.settled += rest.slice(0, line).reduce((sum, one) => sum + one.length + 1, 0);
    this.kept += found.length - 1;
  }

  reset() {
    this.container.replaceChildren();
    this.settled = 0;
    this.kept = 0;
  }
}

/** Whether a code block could be brought up to date in place. */
function sameCode(node, block) {
  if (block.type !== "code" || !node.classList?.contains("code") || node.dataset.language !== block.language) {
    return false;
  }
  const code = node.querySelector("code");
  if (code.textContent !== block.text) code.textContent = block.text;
  return true;
}

function blockNode(block) {
  switch (block.type) {
    case "heading":
      // The page has its own first headings.
      return el(`h${Math.min(6, block.level + 2)}`, { class: `h${block.level}` }, block.inline.map(spanNode));
    case "rule":
      return el("hr");
    case "code":
      return codeNode(block);
    case "quote":
      return el("blockquote", {}, block.blocks.map(blockNode));
    case "list":
      return listNode(block);
    case "table":
      return tableNode(block);
    default:
      return el("p", {}, block.inline.map(spanNode));
  }
}

function codeNode({ language, text }) {
  const code = el("code", {}, text);
  const copy = el("button", { class: "button quiet small", type: "button" }, icon("copy"), el("span", {}, "Copy"));
  copy.addEventListener("click", async () => {
    const words = copy.lastChild;
    words.textContent = (await copied(code.textContent)) ? "Copied" : "Select and copy it by hand";
    setTimeout(() => (words.textContent = "Copy"), 2000);
  });
  return el(
    "div",
    { class: "code", dataset: { language } },
    el("div", { class: "code-head" }, el("span", {}, language), copy),
    el("pre", { tabindex: "0" }, code),
  );
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

function listNode({ ordered, start, loose, items }) {
  const rows = items.map(({ done, blocks: inner }) => {
    const nodes = inner.flatMap((block) =>
      !loose && block.type === "paragraph" ? block.inline.map(spanNode) : [blockNode(block)],
    );
    const box = done !== null && el("input", { type: "checkbox", checked: done, disabled: true });
    return el("li", { class: done === null ? null : "task" }, box, nodes);
  });
  const from = ordered && start !== 1 ? start : null;
  return el(ordered ? "ol" : "ul", { start: from }, rows);
}

function tableNode({ align, head, rows }) {
  const cell = (tag, inner, place) =>
    el(tag, { class: align[place] ? `align-${align[place]}` : null, scope: tag === "th" ? "col" : null }, inner.map(spanNode));
  const row = (tag, found) => el("tr", {}, found.map((inner, place) => cell(tag, inner, place)));
  return el(
    "div",
    { class: "md-table", tabindex: "0", role: "region", "aria-label": "Table" },
    el("table", {}, el("thead", {}, row("th", head)), el("tbody", {}, rows.map((one) => row("td", one)))),
  );
}

function spanNode(span) {
  switch (span.type) {
    case "text":
      return document.createTextNode(span.text);
    case "break":
      return el("br");
    case "code":
      return el("code", {}, span.text);
    case "strong":
      return el("strong", {}, span.inline.map(spanNode));
    case "em":
      return el("em", {}, span.inline.map(spanNode));
    case "strike":
      return el("del", {}, span.inline.map(spanNode));
    case "link":
      return linkNode(span);
    default:
      return el("span", {}, span.inline.map(spanNode));
  }
}

function linkNode({ href, picture, inline: inner }) {
  const host = href.startsWith("mailto:") ? "" : new URL(href).host;
  const node = el(
    "a",
    { href, target: "_blank", rel: "noopener noreferrer", title: href.length > 300 ? host : href },
    picture && icon("file"),
    inner.map(spanNode),
  );
  // Letters of other alphabets can look like ours, and words can name another host.
  if (host.includes("xn--") || misleads(node.textContent, host)) {
    node.append(el("span", { class: "host" }, ` (${host || href})`));
  }
  return node;
}

/** Whether words look like an address at another host. */
function misleads(words, host) {
  const shown = /^\s*(?:https?:\/\/|www\.)[^\s/?#]+/i.exec(words)?.[0].trim();
  if (!shown) return false;
  const named = safe(shown.replace(/^www\./i, "https://www."));
  return named === null || new URL(named).host !== host;
}
