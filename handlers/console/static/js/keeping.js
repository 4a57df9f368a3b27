// What a window keeps while its page is loaded anew, and nobody else sees.

/** Do something with the storage of this window; null in browsers that allow none. */
export function keep(work) {
  try {
    return work(sessionStorage) ?? null;
  } catch {
    return null;
  }
}
