// What a session came to: its fields, who set and confirmed them, and whether they are out of date.

import { post, put } from "./api.js";
import { open } from "./dialog.js";
import { DispositionForm } from "./disposition_form.js";
import { doing } from "./doing.js";
import { el, fill } from "./dom.js";
import { icon } from "./icons.js";
import { sessionApi, shown } from "./investigations.js";
import { badge } from "./parts.js";
import { ago, whole } from "./time.js";
import { problem, toast } from "./toast.js";

export class DispositionPanel {
  /** `host` gives session, view(), mayWrite(), editLink(), changed(). */
  constructor(host) {
    this.host = host;
    this.body = el("div", { class: "stack tight" });
    this.badges = el("span", { class: "row" });
    this.node = el("section", { class: "findings-part", "aria-label": "Disposition", dataset: { part: "disposition" } }, el("header", { class: "row" }, el("h2", { class: "grow" }, "Disposition"), this.badges), this.body);
  }

  update() {
    const view = this.host.view();
    const drawn = JSON.stringify([view.schema, view.disposition, view.stale, view.confirmed_by, view.disposition_by, view.disposition_at, this.host.mayWrite()]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const { disposition, stale, confirmed_by: confirmed } = view;
    fill(this.badges, disposition && stale && badge("stale", "warn"), disposition && confirmed && el("span", { class: "badge ok" }, icon("check"), "confirmed"));
    if (!view.schema && !disposition) fill(this.body, this.without());
    else fill(this.body, disposition && stale && this.staleNotice(view), this.values(view), this.foot(view), this.host.mayWrite() && this.actions(view));
  }

  without() {
    const link = this.host.mayWrite() && this.host.editLink() && el("a", { href: this.host.editLink() }, "Ask for one");
    return el("p", { class: "muted" }, "This session is not asked for a disposition. ", link || null);
  }

  staleNotice({ schema }) {
    const words = schema ? "The fields have changed since it was set. What depends on it waits until it is set again." : "It is not asked for any more; what was set is kept.";
    return el("p", { class: "notice warn" }, icon("alert"), words);
  }

  values({ schema, disposition }) {
    const names = [...new Set([...Object.keys(schema ?? {}), ...Object.keys(disposition ?? {})])];
    const value = (name) => {
      const given = disposition?.[name];
      return given === undefined || given === null ? el("span", { class: "muted" }, schema?.[name] ?? "—") : el("b", {}, shown(given));
    };
    return el("dl", { class: "disposition" }, names.map((name) => el("div", {}, el("dt", {}, name), el("dd", {}, value(name)))));
  }

  foot({ disposition, disposition_by: by, disposition_at: at, confirmed_by: confirmer, confirmed_at: then }) {
    if (!disposition) return el("p", { class: "muted" }, "Not set yet.");
    const line = (words, name, when) => name && el("span", { title: whole(when) }, `${words} by ${name} ${ago(when)}. `);
    return el("p", { class: "muted" }, line("Set", by, at), line("Confirmed", confirmer, then));
  }

  actions({ schema, disposition, stale, confirmed_by: confirmed }) {
    if (!schema) return null;
    const edit = el("button", { class: "button small", type: "button", onclick: () => this.edit() }, icon("pencil"), disposition ? "Edit" : "Set it");
    const confirm = disposition && !stale && !confirmed && doing("Confirm", () => this.confirm(), { kind: "small primary", glyph: "check", failing: "It was not confirmed" });
    return el("div", { class: "actions" }, edit, confirm);
  }

  async confirm() {
    await post(sessionApi(this.host.session, "/disposition/confirm"), {});
    await this.host.changed();
  }

  async edit() {
    const { schema, disposition } = this.host.view();
    const form = new DispositionForm(schema, disposition);
    const store = async () => {
      try {
        await put(sessionApi(this.host.session, "/disposition"), { values: form.read() });
        return true;
      } catch (error) {
        form.tell(error.message);
        return false;
      }
    };
    const chosen = await open({
      title: disposition ? "Edit disposition" : "Set disposition",
      body: form.node,
      focus: form.first,
      actions: [{ label: "Cancel", value: null }, { label: "Save", value: "yes", primary: true, run: store }],
    });
    if (chosen !== "yes") return;
    toast("The disposition is set");
    await this.host.changed().catch((error) => problem(error, "It could not be read again"));
  }
}
