// The keys of the console.

import { open } from "./dialog.js";
import { el } from "./dom.js";

const KEYS = [
  [["/"], "Search sessions"],
  [["j", "k"], "Next and previous session"],
  [["↑", "↓"], "The same, in the list"],
  [["F2"], "Rename the session in the list"],
  [["n"], "New session"],
  [["Space", "↑", "↓"], "Move a session of a project, at its handle"],
  [["Enter"], "Send"],
  [["Shift", "Enter"], "New line"],
  [["@"], "Address a voice"],
  [["Esc"], "Close what is open"],
  [["?"], "This list"],
];

export function showKeys() {
  const rows = KEYS.map(([keys, words]) =>
    el("tr", {}, el("td", { class: "tight" }, keys.map((key) => [el("kbd", {}, key), " "])), el("td", {}, words)),
  );
  return open({
    title: "Keys",
    body: el("table", { class: "table" }, el("tbody", {}, rows)),
    actions: [{ label: "Close", value: null, primary: true }],
  });
}
