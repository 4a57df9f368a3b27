// Shapes of pictures that are drawn here.

const SPACE = "http://www.w3.org/2000/svg";
/** As the style sheet has it. */
const LETTERS = "11px";

/** An SVG element: `shape("rect", { x: 1, class: "bar" }, child)`. */
export function shape(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(name, String(value));
  }
  node.append(...children.filter(Boolean));
  return node;
}

/** Words at a place; `anchor` is "start", "middle" or "end". */
export function words(x, y, text, anchor = "start", attributes = {}) {
  const node = shape("text", { x, y, "text-anchor": anchor, ...attributes });
  node.textContent = text;
  return node;
}

/** What is told when the pointer rests on a shape. */
export function told(text) {
  const node = shape("title");
  node.textContent = text;
  return node;
}

/** How many pixels wide words in a chart are. */
export function widthOf(text) {
  pen ??= document.createElement("canvas").getContext("2d");
  pen.font = `${LETTERS} ${getComputedStyle(document.body).fontFamily}`;
  return pen.measureText(text).width;
}

let pen = null;
