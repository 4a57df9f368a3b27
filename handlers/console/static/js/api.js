// Calling the JSON API: one place for errors, sign-in and who we are.

/** An answer other than success; `detail` says what to do. */
export class ApiError extends Error {
  constructor(status, body = {}) {
    super(body.detail || body.title || `The service answered ${status}.`);
    this.name = "ApiError";
    this.status = status;
    this.title = body.title ?? "";
    this.detail = body.detail ?? "";
    this.reason = body.reason ?? null;
    this.body = body;
  }
}

/** Nothing came back at all. */
export class Unreachable extends Error {
  constructor() {
    super("The service does not answer. Check that it runs, then try again.");
    this.name = "Unreachable";
    this.status = 0;
  }
}

export const get = (path, options) => call("GET", path, undefined, options);
export const post = (path, body, options) => call("POST", path, body, options);
export const patch = (path, body, options) => call("PATCH", path, body, options);
export const put = (path, body, options) => call("PUT", path, body, options);
export const remove = (path, options) => call("DELETE", path, undefined, options);

/** A path with a query; nothing is put in for null, undefined and "". */
export function withQuery(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => ![null, undefined, ""].includes(value));
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return text ? `${path}?${text}` : path;
}

/** Whoever is signed in: { name, role, zone? }; asked once. */
export function me() {
  myself ??= get("/api/me").then(
    (found) => {
      known = found;
      return found;
    },
    (error) => {
      myself = null;
      throw error;
    },
  );
  return myself;
}

/** Whether whoever is signed in has at least this role; the server decides again. */
export function may(role) {
  return RANKS.indexOf(known?.role ?? "admin") >= RANKS.indexOf(role);
}

/**
 * Sign out. What is being read is given up first, and nothing more is asked for: the answers would
 * be refusals that nobody waits for. When it fails, so do they.
 */
export async function signOut() {
  let fail;
  leaving = new Promise((_, reject) => (fail = reject));
  leaving.catch(() => {});
  reading.abort();
  try {
    await post("/signout", {});
  } catch (error) {
    leaving = null;
    reading = new AbortController();
    fail(error);
    throw error;
  }
}

/** Go to the sign-in page and come back here afterwards. */
export function signIn() {
  const here = location.pathname + location.search;
  location.assign(`/console/signin?next=${encodeURIComponent(here)}`);
}

const RANKS = ["viewer", "operator", "admin"];
let myself = null;
let known = null;
let reading = new AbortController();
let leaving = null;

async function call(method, path, body, { query, signal, headers = {} } = {}) {
  const reads = method === "GET";
  if (reads && leaving) return leaving;
  const form = body instanceof FormData;
  const sent = { Accept: "application/json", ...headers };
  if (body !== undefined && !form) sent["Content-Type"] = "application/json";
  let answer, found;
  try {
    answer = await fetch(withQuery(path, query), {
      method,
      signal: reads ? AbortSignal.any([reading.signal, ...(signal ? [signal] : [])]) : signal,
      headers: sent,
      body: body === undefined || form ? body : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
    });
    found = answer.status === 204 ? null : await parsed(answer);
  } catch (error) {
    if (leaving && reads && !signal?.aborted) return leaving;
    if (error.name === "AbortError") throw error;
    throw new Unreachable();
  }
  if (answer.ok) return found;
  if (answer.status === 401) signIn();
  throw new ApiError(answer.status, found ?? {});
}

async function parsed(answer) {
  const text = await answer.text();
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return { title: answer.statusText };
  }
}
