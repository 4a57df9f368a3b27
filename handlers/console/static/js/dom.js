// Making nodes. Text is always text; nothing here takes markup.

/** An element: `el("a", { class: "x", href: "/", onclick: f, dataset: { n: 1 } }, "words", node)`. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) set(node, name, value);
  node.append(...flat(children));
  return node;
}

/** Replace everything inside of `node`. */
export function fill(node, ...children) {
  node.replaceChildren(...flat(children));
  return node;
}

export const byId = (id) => document.getElementById(id);

/** An id that is unique in this document, for labels. */
export function uid(prefix = "u") {
  last += 1;
  return `${prefix}-${last}`;
}

let last = 0;

function set(node, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name === "class") node.className = value;
  else if (name === "dataset") Object.assign(node.dataset, value);
  else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
  else if (name === "value" || name === "checked" || name === "selected") node[name] = value;
  else node.setAttribute(name, value === true ? "" : String(value));
}

function flat(children) {
  return children
    .flat(Infinity)
    .filter((one) => one !== null && one !== undefined && one !== false)
    .map((one) => (one instanceof Node ? one : String(one)));
}
