// A list whose items are put into another order by their handles: with a pointer, or with keys.

const FAR_ENOUGH = 4;
const EDGE = 60;

/**
 * Items are children of `list` with a `.handle` button and data-id. `dropped(ids)` is told of the
 * new order, `say(words)` announces, `name(item)` says what an item is called.
 */
export function reorderable(list, { name, dropped, say, busy = () => {} }) {
  const items = () => [...list.children].filter((one) => one.dataset.id);
  const ids = () => items().map((one) => one.dataset.id);
  const spot = (item) => `position ${items().indexOf(item) + 1} of ${items().length}`;
  let held = null;

  list.addEventListener("keydown", (event) => {
    const item = event.target.closest(".handle")?.closest("[data-id]");
    if (!item || event.metaKey || event.ctrlKey || event.altKey) return;
    const deeds = {
      Enter: () => (held ? drop() : take(item)),
      " ": () => (held ? drop() : take(item)),
      ...(held && { ArrowUp: () => move(item, -1), ArrowDown: () => move(item, 1), Home: () => move(item, -Infinity), End: () => move(item, Infinity), Escape: () => cancel() }),
    };
    if (!deeds[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    deeds[event.key]();
  });
  list.addEventListener("focusout", () => setTimeout(() => held && !list.contains(document.activeElement) && drop()));
  list.addEventListener("pointerdown", (event) => {
    const item = event.target.closest(".handle")?.closest("[data-id]");
    if (item && event.button === 0 && event.isPrimary) drag(item, event);
  });

  function take(item) {
    held = { item, before: ids() };
    mark(item, true);
    busy(true);
    say(`${name(item)} picked up, ${spot(item)}. The arrows move it, Enter drops it, Escape puts it back.`);
  }

  function move(item, step) {
    const all = items();
    const to = Math.max(0, Math.min(all.length - 1, all.indexOf(item) + step));
    place(item, to);
    item.querySelector(".handle").focus();
    item.scrollIntoView({ block: "nearest" });
    say(`${name(item)}, ${spot(item)}`);
  }

  function place(item, to) {
    const others = items().filter((one) => one !== item);
    if (others[to]) list.insertBefore(item, others[to]);
    else others.at(-1)?.after(item);
  }

  function drop() {
    const { item, before } = held;
    release(item);
    say(`${name(item)} dropped, ${spot(item)}.`);
    if (ids().join() !== before.join()) dropped(ids());
  }

  function cancel() {
    const { item, before } = held;
    restore(before);
    release(item);
    item.querySelector(".handle").focus();
    say(`${name(item)} is back, ${spot(item)}.`);
  }

  function restore(order) {
    const found = new Map(items().map((one) => [one.dataset.id, one]));
    list.append(...order.map((id) => found.get(id)).filter(Boolean));
  }

  function release(item) {
    held = null;
    mark(item, false);
    busy(false);
  }

  function mark(item, on) {
    item.classList.toggle("held", on);
    item.querySelector(".handle").setAttribute("aria-pressed", String(on));
  }

  /** The item follows the pointer, the others make room; the order changes when it is let go. */
  function drag(item, { pointerId, clientY: start, target }) {
    const handle = target.closest(".handle");
    const all = items();
    const from = all.indexOf(item);
    const boxes = all.map((one) => one.getBoundingClientRect());
    const scroller = list.closest(".main") ?? document.documentElement;
    const scrolled = scroller.scrollTop;
    const leaving = new AbortController();
    let to = from;
    let moving = false;
    handle.setPointerCapture(pointerId);

    const follow = (event) => {
      if (event.pointerId !== pointerId) return;
      const by = event.clientY - start + scroller.scrollTop - scrolled;
      if (!moving && Math.abs(by) < FAR_ENOUGH) return;
      if (!moving) mark(item, true), busy(true);
      moving = true;
      event.preventDefault();
      const [top, bottom] = [boxes[from].top + by, boxes[from].bottom + by];
      // It takes the place of another one once its edge is past the middle of that.
      const past = (box, at) => (at < from ? top < middle(box) : at > from && bottom > middle(box));
      to = from + boxes.reduce((sum, box, at) => sum + (past(box, at) ? Math.sign(at - from) : 0), 0);
      item.style.transform = `translateY(${by}px)`;
      all.forEach((one, at) => {
        if (one === item) return;
        const way = at > from && at <= to ? -1 : at < from && at >= to ? 1 : 0;
        one.style.transform = way ? `translateY(${way * boxes[from].height}px)` : "";
      });
      if (event.clientY < EDGE) scroller.scrollBy(0, -12);
      if (event.clientY > innerHeight - EDGE) scroller.scrollBy(0, 12);
    };
    const end = (kept) => {
      leaving.abort();
      for (const one of all) one.style.transform = "";
      if (!moving) return;
      mark(item, false);
      busy(false);
      if (!kept || to === from) return;
      place(item, to);
      say(`${name(item)} dropped, ${spot(item)}.`);
      dropped(ids());
    };
    const options = { signal: leaving.signal };
    handle.addEventListener("pointermove", follow, options);
    handle.addEventListener("pointerup", () => end(true), options);
    handle.addEventListener("pointercancel", () => end(false), options);
    handle.addEventListener("lostpointercapture", () => end(false), options);
    addEventListener("keydown", (event) => event.key === "Escape" && end(false), options);
  }
}

const middle = ({ top, height }) => top + height / 2;
