// Several entries at once: which are chosen, what can be done with them, and two of them side by side.

import { get, here, isPicture } from "./asking.js";
import { pinning, removingAll } from "./deeds.js";
import { h, icon, replace } from "./dom.js";
import { comparison } from "./fields.js";
import { may } from "./live.js";
import { empty } from "./notices.js";
import { go } from "./route.js";
import { ago, number, t } from "./words.js";

/** The entries that are chosen in the gallery. `onchange` is called when one comes or goes. */
export class Chosen {
  constructor() {
    this.entries = new Map(); // key -> entry, in the order in which they were chosen
    this.last = null; // the place of the last one: from there a range reaches
    this.onchange = () => {};
  }

  has(key) {
    return this.entries.has(key);
  }

  /** Choose entries, or let go of them. */
  put(entries, yes) {
    for (const entry of entries) {
      if (yes) this.entries.set(entry.key, entry);
      else this.entries.delete(entry.key);
    }
    this.onchange();
  }

  clear() {
    this.entries.clear();
    this.last = null;
    this.onchange();
  }
}

/** Return the bar that says how many are chosen, and does things to all of them; it is there while any is. */
export function chosenBar(chosen) {
  const bar = h("div", { class: "chosen-bar", role: "region", "aria-label": t("choose.bar"), hidden: true });
  const button = (drawing, words, run, more = {}) => h("button", { type: "button", class: "quiet", title: words, onclick: run, ...more }, icon(drawing), h("span", { class: "bar-words" }, words));
  const pin = (yes) => async () => (await pinning(all(), yes)) && chosen.clear();
  const all = () => [...chosen.entries.values()];
  const draw = () => {
    const count = chosen.entries.size;
    const focused = bar.contains(document.activeElement) ? document.activeElement.dataset.test : null;
    bar.hidden = count === 0;
    replace(
      bar,
      h("p", { role: "status", "data-test": "chosen" }, t("choose.count", { raw: count, n: number(count) })),
      h(
        "div",
        { class: "buttons" },
        count === 2 && button("scale", t("choose.compare"), () => go(`#/compare/${[...chosen.entries.keys()].join("/")}`), { "data-test": "compare" }),
        may("admin") && (all().every((each) => each.pinned) ? button("pin", t("deed.unpin"), pin(false), { "data-test": "unpin-all" }) : button("pin", t("deed.pin"), pin(true), { "data-test": "pin-all" })),
        may("admin") && button("trash", t("deed.remove"), async () => (await removingAll(all())) && chosen.clear(), { "data-test": "remove-all" }),
        button("cross", t("choose.clear"), () => chosen.clear(), { "data-test": "clear" }),
      ),
    );
    if (focused) bar.querySelector(`[data-test="${focused}"]`)?.focus();
  };
  draw();
  return { element: bar, draw };
}

/** Return the page of two entries, with the fields in which they differ. */
export function compareView(signal, [one, other]) {
  const place = h("div", { class: "comparing" }, h("p", { class: "soft" }, t("entry.looking")));
  const draw = async () => {
    try {
      const ask = (path) => get(`v1/entries/${path}`, { signal });
      const [first, second, { differences }] = await Promise.all([ask(one), ask(other), ask(`${one}/differences/${other}`)]);
      replace(
        place,
        h("a", { class: "more back", href: "#/gallery" }, icon("back"), t("gallery.back")),
        h("div", { class: "two" }, side(first, t("compare.first")), side(second, t("compare.second"))),
        h("section", { class: "card" }, h("h2", {}, t("compare.title")), comparison(differences, t("compare.first"), t("compare.second"))),
      );
    } catch (error) {
      if (error.name === "AbortError") return;
      replace(place, empty("search", error.status === 404 ? t("compare.gone") : error.message, t("entry.goneDo")), h("a", { class: "more", href: "#/gallery" }, t("gallery.open"), " →"));
    }
  };
  draw();
  return place;
}

function side(entry, words) {
  return h(
    "section",
    { class: "card" },
    h("h2", {}, words),
    h("a", { href: `#/entry/${entry.key}`, class: "two-picture" }, isPicture(entry) ? h("img", { src: here(entry.url), alt: entry.prompt ?? t("entry.picture") }) : h("span", { class: "note" }, t("entry.noPicture", { kind: entry.media_type }))),
    h("p", { class: "entry-prompt" }, entry.prompt ?? t("prompt.hidden")),
    h("p", { class: "soft" }, ago(entry.created_at), " · ", t("gallery.uses", { raw: entry.uses, n: number(entry.uses) })),
  );
}
