// The sign-in page: a name and password, or a token.

import { byId } from "./dom.js";
import { segments } from "./parts.js";

const WAYS = [
  ["name", "Password"],
  ["token", "API token"],
];
const LAST = "ringback.signin";

const form = byId("form");
const wrong = byId("wrong");
const go = byId("go");
let way = remembered();

const chooser = segments("How to sign in", WAYS, way, choose);
byId("ways").replaceWith(chooser);
choose(way);
if (new URLSearchParams(location.search).has("look")) {
  // Whoever came by a link from elsewhere may be signed in, although the browser did not say so.
  fetch("/api/me", { credentials: "same-origin" }).then((answer) => answer.ok && location.replace(next()), () => {});
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const missing = fields().find((one) => !one.value.trim());
  if (missing) {
    tell(`Enter your ${missing.id === "token" ? "API token" : missing.id}.`);
    missing.focus();
    return;
  }
  wrong.hidden = true;
  go.disabled = true;
  go.textContent = "Signing in …";
  const failed = await signIn();
  if (failed === null) return location.replace(next());
  tell(failed);
  go.disabled = false;
  go.textContent = "Sign in";
  fields().at(-1).select();
});

/** Sign in: null when it went well, else what to tell. */
async function signIn() {
  const body = Object.fromEntries(fields().map((one) => [one.name, one.id === "password" ? one.value : one.value.trim()]));
  let answer;
  try {
    answer = await fetch("/signin", {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify(body),
      credentials: "same-origin",
      redirect: "manual",
    });
  } catch {
    return "The service does not answer. Check that it runs, then try again.";
  }
  if (answer.ok || answer.type === "opaqueredirect") {
    remember();
    return null;
  }
  const said = await answer.json().catch(() => ({}));
  if (answer.status === 429) return said.detail ?? "Too many tries. Wait a minute, then try again.";
  if (answer.status === 401 || answer.status === 403) {
    return said.detail ?? (way === "token" ? "This token is not known. Make one: ringback token create NAME" : "Name or password is wrong. Try again.");
  }
  return said.detail ?? `The service answered ${answer.status}. Try again.`;
}

function choose(chosen) {
  way = chosen;
  byId("by-name").hidden = way !== "name";
  byId("by-token").hidden = way !== "token";
  wrong.hidden = true;
  fields()[0].focus();
}

function fields() {
  return (way === "name" ? ["name", "password"] : ["token"]).map(byId);
}

function tell(words) {
  wrong.textContent = words;
  wrong.hidden = false;
}

/** Where to go afterwards: only pages of the console. */
function next() {
  const wanted = new URLSearchParams(location.search).get("next") ?? "";
  return /^\/console\/(?!signin)[^\\]*$/.test(wanted) && !wanted.includes("//") ? wanted : "/console/";
}

function remembered() {
  try {
    return localStorage.getItem(LAST) === "token" ? "token" : "name";
  } catch {
    return "name";
  }
}

function remember() {
  try {
    localStorage.setItem(LAST, way);
  } catch {
    // It is only a convenience.
  }
}
