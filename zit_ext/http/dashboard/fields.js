// Fields of requests: as a table with groups, and side by side where they differ.

import { h } from "./dom.js";
import { either, t } from "./words.js";

/** Return a value as text. Short things stand in a line, others as JSON. */
export function shown(value) {
  if (value === null || value === undefined) return t("value.none");
  if (value === true) return t("value.yes");
  if (value === false) return t("value.no");
  if (typeof value === "object") return JSON.stringify(value, null, 1);
  return String(value);
}

export const fieldName = (name) => either(`field.${name}`, name);

/** Return the fields that differ, side by side, with what is not alike in a text marked. */
export function comparison(differences, one, other) {
  const rows = Object.entries(differences).sort(([a], [b]) => a.localeCompare(b));
  if (!rows.length) return h("p", { class: "note" }, t("compare.same"));
  return h(
    "div",
    { class: "table-wrap", tabindex: "0", role: "region", "aria-label": t("compare.title") },
    h(
      "table",
      { class: "compare" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("compare.field")), h("th", { scope: "col" }, one), h("th", { scope: "col" }, other))),
      h(
        "tbody",
        {},
        rows.map(([name, [mine, theirs]]) => {
          const [left, right] = apart(shown(mine), shown(theirs));
          return h("tr", {}, h("th", { scope: "row", title: name }, fieldName(name)), h("td", {}, left), h("td", {}, right));
        }),
      ),
    ),
  );
}

// What two texts begin and end with alike is left plain; what stands between is marked.
function apart(one, other) {
  const a = [...one];
  const b = [...other];
  const least = Math.min(a.length, b.length);
  let head = 0;
  while (head < least && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < least - head && a.at(-1 - tail) === b.at(-1 - tail)) tail += 1;
  if (head + tail < 3) return [h("mark", {}, one), h("mark", {}, other)];
  const parts = (letters) => [
    letters.slice(0, head).join(""),
    h("mark", {}, letters.slice(head, letters.length - tail).join("") || "∅"),
    letters.slice(letters.length - tail).join(""),
  ];
  return [parts(a), parts(b)];
}

/** Return all fields of an entry, those of one kind together; groups of groups can be opened. */
export function fieldTable(fields) {
  const plain = [];
  const groups = [];
  for (const [name, value] of Object.entries(fields)) {
    const grouped = value !== null && typeof value === "object" && Object.keys(value).length > 0;
    (grouped ? groups : plain).push([name, value]);
  }
  return h(
    "div",
    { class: "fields" },
    h("dl", { class: "field-list" }, plain.map(([name, value]) => h("div", {}, h("dt", { title: name }, fieldName(name)), h("dd", {}, shown(value))))),
    groups.map(([name, value]) => h("details", {}, h("summary", {}, fieldName(name), h("span", { class: "soft" }, ` ${Object.keys(value).length}`)), fieldTable(value))),
  );
}
