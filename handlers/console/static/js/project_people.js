// Who may see a project, and who may write in it.

import { get, put, remove } from "./api.js";
import { doing } from "./doing.js";
import { el, fill, uid } from "./dom.js";
import { icon } from "./icons.js";
import { initials } from "./feed_view.js";
import { SHARES, projectApi } from "./investigations.js";
import { select } from "./parts.js";
import { problem, toast } from "./toast.js";

const WORDS = { owner: "owner", ...Object.fromEntries(SHARES) };

/** The panel; `changed()` reads the project anew. */
export function people(project, changed) {
  const rows = [row(project, { name: project.owner, share: "owner" }, changed), ...project.members.map((one) => row(project, one, changed))];
  return el(
    "section",
    { class: "card people", "aria-label": "People" },
    el("h2", {}, "People"),
    project.private && el("p", { class: "muted hint" }, "It is private: made for questions that have no project of their own."),
    el("ul", { class: "plain-rows", role: "list" }, rows),
    project.may_own && adding(project, changed),
  );
}

function row(project, { name, share }, changed) {
  const fixed = share === "owner" || !project.may_own;
  const kind = fixed ? el("span", { class: "muted" }, WORDS[share]) : kindOf(project, name, share, changed);
  return el("li", {}, el("span", { class: "monogram", "aria-hidden": "true" }, initials(name)), el("span", { class: "grow person-name", title: name }, name), kind, !fixed && away(project, name, changed));
}

function kindOf(project, name, share, changed) {
  const node = select(SHARES, { value: share, "aria-label": `What ${name} may do` });
  node.classList.add("small");
  node.addEventListener("change", async () => {
    try {
      await put(member(project, name), { share: node.value });
      toast(`${name} ${WORDS[node.value]}`);
      await changed();
    } catch (error) {
      node.value = share;
      problem(error, `${name} was not changed`);
    }
  });
  return node;
}

function away(project, name, changed) {
  const work = async () => {
    try {
      await remove(member(project, name));
      toast(`${name} does not see the project any more`, { action: { label: "Undo", run: () => put(member(project, name), { share: project.members.find((one) => one.name === name).share }).then(changed) } });
      await changed();
    } catch (error) {
      problem(error, `${name} was not removed`);
    }
  };
  return el("button", { class: "button quiet icon small", type: "button", "aria-label": `Remove ${name}`, title: `Remove ${name}`, onclick: work }, icon("close"));
}

function adding(project, changed) {
  const name = el("input", { class: "input small", type: "text", maxlength: "120", autocomplete: "off", placeholder: "Name", "aria-label": "Name of a new member" });
  const others = suggested(name, [project.owner, ...project.members.map((one) => one.name)]);
  const share = select(SHARES, { "aria-label": "What the new member may do" });
  share.classList.add("small");
  const told = el("p", { class: "bad-words", role: "alert" });
  const work = async () => {
    const given = name.value.trim();
    fill(told);
    if (!given) {
      name.focus();
      return;
    }
    try {
      await put(member(project, given), { share: share.value });
      await changed();
      document.querySelector(".people input")?.focus();
    } catch (error) {
      if (![400, 409, 422].includes(error.status)) throw error;
      fill(told, error.message);
    }
  };
  const add = doing("Add", work, { kind: "small", failing: "Nobody was added" });
  return el("form", { class: "add-person", novalidate: true, onsubmit: (event) => (event.preventDefault(), add.click()) }, name, others, share, add, told);
}

/** Names to choose from while one is typed in `input`, but those in it already; other names do, too. */
export function suggested(input, known = []) {
  const list = el("datalist", { id: uid("people") });
  input.setAttribute("list", list.id);
  get("/api/people").then(
    ({ people: found }) => fill(list, found.filter((one) => !known.includes(one)).map((one) => el("option", { value: one }))),
    () => {},
  );
  return list;
}

const member = (project, name) => projectApi(project.project, `/members/${encodeURIComponent(name)}`);
