// Line icons, drawn here: 24 units square.

const PATHS = {
  bell: "M6 16V11a6 6 0 0 1 12 0v5l1.5 2h-15zM10 20.5a2.2 2.2 0 0 0 4 0",
  chat: "M5 5h14a1.5 1.5 0 0 1 1.5 1.5v9A1.5 1.5 0 0 1 19 17h-7l-4.5 3.5V17H5a1.5 1.5 0 0 1-1.5-1.5v-9A1.5 1.5 0 0 1 5 5z",
  clock: "M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17zM12 7.5V12l3 2",
  gear: "M12 9a3 3 0 1 1 0 6 3 3 0 0 1 0-6zM10.3 3.8h3.4l.5 2.3 1.7 1 2.3-.7 1.7 2.9-1.8 1.6v2.2l1.8 1.6-1.7 2.9-2.3-.7-1.7 1-.5 2.3h-3.4l-.5-2.3-1.7-1-2.3.7-1.7-2.9 1.8-1.6v-2.2L4.1 9.3l1.7-2.9 2.3.7 1.7-1z",
  plane: "M20.5 4.5 3.5 11.4l5.2 2 1.9 6 2.9-3.8 4.8 3.6zM8.7 13.4l7-4.9-5.1 6.6",
  hook: "M9.2 10.8a3.6 3.6 0 1 1 5-3.2l-2.9 5M14.9 8.6l2.6 4.6a3.6 3.6 0 1 1-2.6 6.3M8.3 11.9a3.6 3.6 0 1 0 3.6 4.4h5",
  inbox: "M4 13.5 6.5 5h11l2.5 8.5V19H4zM4 13.5h4.5a3.5 3.5 0 0 0 7 0H20",
  chart: "M4 20h16M7 20v-7M12 20V5M17 20v-10",
  layers: "M12 4 3.5 8.5 12 13l8.5-4.5zM3.5 12.5 12 17l8.5-4.5M3.5 16.5 12 21l8.5-4.5",
  spark: "M12 3.5l1.9 5.6 5.6 1.9-5.6 1.9L12 18.5l-1.9-5.6L4.5 11l5.6-1.9zM18.5 16.5v4M16.5 18.5h4",
  plus: "M12 5v14M5 12h14",
  search: "M10.5 4a6.5 6.5 0 1 1 0 13 6.5 6.5 0 0 1 0-13zM15.3 15.3 20 20",
  more: "M5.5 12h.01M12 12h.01M18.5 12h.01",
  pin: "M9 4h6l-.7 6 3.2 3.5h-11L9.7 10zM12 13.5V20",
  archive: "M4 5h16v4H4zM5.5 9v10h13V9M10 13h4",
  trash: "M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7M10.3 10.5v5.5M13.7 10.5v5.5",
  pencil: "M4.5 19.5l.8-3.8L15.6 5.4l3 3L8.3 18.7zM13.5 7.5l3 3",
  back: "M14.5 5.5 8 12l6.5 6.5",
  close: "M6 6l12 12M18 6 6 18",
  send: "M12 19V5.5M6 11l6-6 6 6",
  stop: "M7.5 7.5h9v9h-9z",
  pause: "M8.5 6v12M15.5 6v12",
  clip: "M19 11.5l-7.3 7.3a4.6 4.6 0 0 1-6.5-6.5l7.6-7.6a3.1 3.1 0 0 1 4.3 4.4l-7.5 7.5a1.5 1.5 0 0 1-2.2-2.2l6.7-6.6",
  file: "M7 3.5h6.5L18 8v12.5H7zM13 3.5V8.5h5",
  people: "M9 5a3.2 3.2 0 1 1 0 6.4A3.2 3.2 0 0 1 9 5zM3 19.5c.3-3.6 2.5-5.3 6-5.3s5.7 1.7 6 5.3M15.6 5.4a3.2 3.2 0 0 1 0 5.7M17.5 14.6c2.1.6 3.3 2.2 3.5 4.9",
  person: "M12 4.5a3.7 3.7 0 1 1 0 7.4 3.7 3.7 0 0 1 0-7.4zM5 20c.4-4 2.9-6 7-6s6.6 2 7 6",
  moon: "M19.5 14.2A8 8 0 0 1 9.8 4.5a8 8 0 1 0 9.7 9.7z",
  sun: "M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM12 2.8v2M12 19.2v2M2.8 12h2M19.2 12h2M5.5 5.5l1.4 1.4M17.1 17.1l1.4 1.4M5.5 18.5l1.4-1.4M17.1 6.9l1.4-1.4",
  half: "M12 4a8 8 0 1 1 0 16 8 8 0 0 1 0-16zM12 4v16M12 7h3.8M12 10.3h7M12 13.6h7M12 17h3.8",
  tool: "M14.6 6.2a4.2 4.2 0 0 1 5.2 5.2l-2.5-2.3-2.2 2.2 2.3 2.4a4.2 4.2 0 0 1-5-5L6 15l-1.8 2.5 2.3 2.3L9 18l5.4-5.4",
  check: "M5 12.5l4.5 4.5L19 7.5",
  alert: "M12 4 2.8 20h18.4zM12 10v4.5M12 17.3h.01",
  copy: "M9 9h10.5v11H9zM15 9V4H4.5v11H9",
  download: "M12 4v11M7 10.5l5 5 5-5M4.5 20h15",
  sliders: "M4 7h9M17.5 7H20M4 17h3M11.5 17H20M13 7a2.2 2.2 0 1 0 4.5 0 2.2 2.2 0 0 0-4.5 0zM7 17a2.2 2.2 0 1 0 4.5 0A2.2 2.2 0 0 0 7 17z",
  fold: "M5 5h14v14H5zM9 9l3 3 3-3M9 15h6",
  eraser: "M8.5 19.5 4 15l9.5-9.5 6 6-8 8zM9 10l6 6M8.5 19.5H20",
  restore: "M4.5 12a7.5 7.5 0 1 0 2.3-5.4L4.5 9M4.5 4.5V9H9",
  leave: "M13 4.5H5.5v15H13M10 12h10M16.5 8.5 20 12l-3.5 3.5",
  down: "M12 5v14M6 13l6 6 6-6",
  chevron: "M6 9.5l6 6 6-6",
  play: "M8 5.5v13l10.5-6.5z",
  refresh: "M19.5 12a7.5 7.5 0 1 1-2.2-5.3l2.2 2.3M19.5 4.5V9H15",
  key: "M8 11a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM11 12.2 19.5 4M16 7.5l2.5 2.5",
  at: "M15.5 12a3.5 3.5 0 1 1-7 0 3.5 3.5 0 0 1 7 0zm0-3.5V13a2.4 2.4 0 0 0 4.8 0v-1a8.3 8.3 0 1 0-3.3 6.6",
};

const SPACE = "http://www.w3.org/2000/svg";

/** An icon; it is decoration unless `label` says what it means. */
export function icon(name, label = null) {
  const svg = document.createElementNS(SPACE, "svg");
  svg.setAttribute("class", `icon icon-${name}`);
  svg.setAttribute("viewBox", "0 0 24 24");
  if (label) {
    svg.setAttribute("role", "img");
    const title = document.createElementNS(SPACE, "title");
    title.textContent = label;
    svg.append(title);
  } else {
    svg.setAttribute("aria-hidden", "true");
  }
  const path = document.createElementNS(SPACE, "path");
  path.setAttribute("d", PATHS[name] ?? PATHS.spark);
  svg.append(path);
  return svg;
}
