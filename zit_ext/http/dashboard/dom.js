// Elements from plain calls. Text is text: nothing here reads HTML, so nothing in a prompt can become any.

const SVG = "http://www.w3.org/2000/svg";

/** Return an element: h("button", { class: "quiet", onclick: stop }, "Stop"). */
export function h(name, given = {}, ...children) {
  return dressed(document.createElement(name), given, children);
}

/** The same in SVG. */
export function svg(name, given = {}, ...children) {
  return dressed(document.createElementNS(SVG, name), given, children);
}

function dressed(element, given, children) {
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  fill(element, ...children);
  return element;
}

/** Put these children in the place of what is there. */
export function replace(element, ...children) {
  element.replaceChildren();
  fill(element, ...children);
  return element;
}

function fill(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

const ICONS = {
  bolt: "M13 2 4 14h6l-1 8 10-13h-6z",
  pin: "M9 3h6l-1 6 4 4v2h-5v6l-1 1-1-1v-6H6v-2l4-4z",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5",
  download: "M12 4v11M7.5 11l4.5 4.5 4.5-4.5M5 20h14",
  copy: "M9 9h10v11H9zM5 15V4h10",
  stop: "M7 7h10v10H7z",
  search: "M10.5 4.5a6 6 0 1 1 0 12 6 6 0 0 1 0-12zM15 15l5 5",
  dice: "M5 5h14v14H5zM9 9h.01M15 15h.01M15 9h.01M9 15h.01M12 12h.01",
  check: "M5 12.5 10 17 19 7",
  cross: "M6 6l12 12M18 6 6 18",
  back: "M15 5l-7 7 7 7",
  scale: "M12 4v16M6 20h12M5 8h14M5 8l-2.5 6h5zM19 8l-2.5 6h5z",
  theme: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  globe: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM3 12h18M12 3c3 3 3 15 0 18M12 3c-3 3-3 15 0 18",
  out: "M14 4H5v16h9M10 12h11M17 8l4 4-4 4",
  load: "M12 20V9M7.5 13.5 12 9l4.5 4.5M5 4h14",
  brush: "M4 20c3 0 4-1 4-3a2.5 2.5 0 0 1 5 0c0 3-4 4-9 3zM11 14 20 4l-2 9-4 3",
};

/** Return a small drawing that says nothing by itself: its button or line does. */
export function icon(name) {
  return svg(
    "svg",
    { viewBox: "0 0 24 24", class: `icon icon-${name}`, "aria-hidden": "true" },
    svg("path", { d: ICONS[name] }),
  );
}

/** Return a button with a drawing, whose name is read aloud and shown as a tip. */
export function iconButton(name, label, onclick, more = {}) {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...more }, icon(name));
}

/** Return one line of a list of facts. */
export const fact = (name, value, more = {}) => h("div", more, h("dt", {}, name), h("dd", {}, value));

/** Return a function that runs after the last call has been quiet for so many milliseconds. */
export function debounced(milliseconds, run) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...given), milliseconds);
  };
}
