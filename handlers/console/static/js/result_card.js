// A key result: its chart, its table, and what can be done with it.

import { get, remove } from "./api.js";
import { chart } from "./chart.js";
import { open } from "./dialog.js";
import { el, fill } from "./dom.js";
import { icon } from "./icons.js";
import { many, sessionApi } from "./investigations.js";
import { menu } from "./menu.js";
import { segments, spinner } from "./parts.js";
import { DataTable } from "./table.js";
import { size } from "./time.js";
import { advice, problem, toast } from "./toast.js";

const VIEWS = [
  ["chart", "Chart"],
  ["table", "Table"],
  ["both", "Both"],
];
const LARGE_PX = 560;
const PANEL_PX = 300;

export const resultApi = (session, result, rest = "") => sessionApi(session, `/results/${encodeURIComponent(result)}${rest}`);

/** How much there is of a result: "12 rows", or its size. */
export const extent = ({ rows, bytes }) => (rows === null || rows === undefined ? size(bytes ?? 0) : many(rows, "row"));

/** The data of a result, read once. */
export class ResultData {
  constructor(session, result) {
    this.session = session;
    this.result = result;
  }

  read() {
    this.reading ??= get(resultApi(this.session, this.result)).catch((error) => {
      this.reading = null;
      throw error;
    });
    return this.reading;
  }
}

export class ResultCard {
  /** `host` gives session, mayWrite(), edit(result, data), changed(). */
  constructor(result, host) {
    this.host = host;
    this.data = new ResultData(host.session, result.result);
    this.view = null;
    this.title = el("h3", { class: "grow", tabindex: "-1" });
    this.about = el("p", { class: "muted result-about" });
    this.ways = el("div", {});
    this.body = el("div", { class: "result-body" });
    this.foot = el("p", { class: "result-foot muted" });
    this.more = el("button", { class: "button quiet icon small", type: "button" }, icon("more"));
    this.more.addEventListener("click", () => menu(this.more, this.items()));
    this.large = el("button", { class: "button quiet icon small", type: "button", onclick: () => this.enlarge() }, icon("expand"));
    this.node = el("li", { class: "result" }, el("header", { class: "row" }, this.title, this.large, this.more), this.about, this.ways, this.body, this.foot);
    this.update(result);
  }

  update(result) {
    const drawn = JSON.stringify([result, this.host.mayWrite()]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    this.result = result;
    this.node.dataset.result = result.result;
    this.title.textContent = result.title;
    this.about.textContent = result.description ?? "";
    this.about.hidden = !result.description;
    for (const [button, words] of [[this.more, `More about ${result.title}`], [this.large, `Show ${result.title} large`]]) {
      button.setAttribute("aria-label", words);
      button.title = words;
    }
    this.drawable = Boolean(result.chart && result.columns);
    const first = this.drawable ? this.view ?? result.display ?? "both" : "table";
    fill(this.ways, this.drawable && segments(`How ${result.title} is shown`, VIEWS, first, (way) => this.show(way)));
    fill(this.foot, el("span", { class: "mono" }, result.tool), el("span", {}, extent(result)), result.promoted_by && el("span", {}, `by ${result.promoted_by}`));
    this.show(first);
  }

  async show(way) {
    this.view = way;
    if (!this.body.childElementCount) fill(this.body, spinner());
    try {
      const found = await this.data.read();
      if (this.view === way) fill(this.body, content(found, this.result, way, PANEL_PX));
    } catch (error) {
      const again = el("button", { class: "button small", type: "button", onclick: () => this.show(way) }, "Try again");
      fill(this.body, el("p", { class: "bad-words" }, advice(error)), again);
    }
  }

  items() {
    const address = (rest) => resultApi(this.host.session, this.result.result, rest);
    const write = this.host.mayWrite();
    return [
      write && { label: "Edit", icon: "pencil", run: () => this.host.edit(this.result, this.data) },
      this.result.columns && { label: "Save as CSV", icon: "download", run: () => save(address("/csv"), `${this.result.title}.csv`) },
      { label: "Save as JSON", icon: "download", run: () => save(address("/data"), `${this.result.title}.json`) },
      ...(write ? [null, { label: "Remove", icon: "close", danger: true, run: () => this.remove() }] : []),
    ].filter((one) => one !== false && one !== undefined && (one !== null || write));
  }

  async remove() {
    try {
      await remove(resultApi(this.host.session, this.result.result));
      toast(`“${this.result.title}” is a candidate again`);
      await this.host.changed();
    } catch (error) {
      problem(error, "The key result was not removed");
    }
  }

  async enlarge() {
    const body = el("div", { class: "stack" }, spinner());
    const shown = open({ title: this.result.title, body, wide: "full", actions: [{ label: "Close", value: null, primary: true }] });
    try {
      const found = await this.data.read();
      fill(body, this.result.description && el("p", { class: "muted" }, this.result.description), content(found, this.result, this.drawable ? this.view : "table", LARGE_PX));
    } catch (error) {
      fill(body, el("p", { class: "notice bad" }, advice(error)));
    }
    return shown;
  }
}

/** The chart, the table or both; what is no table is text. */
export function content({ table, text }, { title, chart: spec, tool }, way, height) {
  if (!table) return el("pre", { class: "result-text", tabindex: "0" }, text || "—");
  const caption = `${title ?? tool}: ${many(table.rows.length, "row")}`;
  if (table.rows.length === 0) return el("p", { class: "muted" }, "It found no rows.");
  return [way !== "table" && spec && chart(spec, table, { below: title }), way !== "chart" && new DataTable(table, { caption, height }).node];
}

function save(href, name) {
  const link = el("a", { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}
