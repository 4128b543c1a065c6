// What is stored, as pictures. Only what is on the screen is in the document: the list may be as long as it likes.

import { isPicture, thumbnail } from "./asking.js";
import { Chosen, chosenBar } from "./chosen.js";
import { download, pinning, removing } from "./deeds.js";
import { debounced, h, icon, iconButton, replace } from "./dom.js";
import { may, on, state } from "./live.js";
import { empty } from "./notices.js";
import { Pages } from "./pages.js";
import { amend } from "./route.js";
import { ago, number, t } from "./words.js";

const ORDERS = ["newest", "used", "uses", "saved", "cost", "largest", "smallest", "expiring", "oldest"];
const GAP = 14;
const CAPTION = 58;
const TALLEST = 8_000_000; // pixels: beyond about 16 million browsers give up
const ROWS_AHEAD = 2;

/** Return the gallery. What is looked for stands in the address, so that one can come back to it. */
export function galleryView(signal, _rest, query) {
  const pages = new Pages(signal);
  const count = h("p", { class: "gallery-count", role: "status", "data-test": "count" });
  const list = h("ol", { class: "gallery-list", role: "list", "aria-label": t("gallery.title") });
  const nothing = h("div", {});
  const chosen = new Chosen();
  const grid = new Grid(list, pages, chosen);
  const bar = chosenBar(chosen);
  chosen.onchange = () => {
    bar.draw();
    grid.mark();
  };

  const search = h("input", { type: "search", id: "search", value: query.get("prompt") ?? "", placeholder: t("gallery.search") });
  const model = choice("model", t("gallery.model"), query.get("model") ?? "", [["", t("gallery.anyModel")], ...modelNames().map((name) => [name, name])]);
  const order = choice("order", t("gallery.order"), query.get("order") ?? "newest", ORDERS.map((name) => [name, t(`order.${name}`)]));
  const spaces = state.stats?.namespaces ?? [];
  const namespace = choice("namespace", t("field.namespace"), query.get("namespace") ?? "", [["", t("gallery.anyNamespace")], ...spaces.map(({ name }) => [name, name])]);
  const pinned = h("input", { type: "checkbox", id: "pinned", checked: query.get("pinned") === "true" });
  const stale = h("input", { type: "checkbox", id: "stale", checked: query.get("stale") === "true" });

  const asked = () => {
    const values = new URLSearchParams();
    if (search.value.trim()) values.set("prompt", search.value.trim());
    if (model.input.value) values.set("model", model.input.value);
    if (namespace.input.value) values.set("namespace", namespace.input.value);
    if (order.input.value !== "newest") values.set("order", order.input.value);
    if (pinned.checked) values.set("pinned", "true");
    if (stale.checked) values.set("stale", "true");
    return values;
  };
  const look = async (fresh) => {
    const values = asked();
    amend(values);
    await pages.look(values, fresh);
  };
  const changed = () => {
    scrollTo({ top: 0 });
    look(true);
  };
  pages.onchange = () => {
    grid.draw();
    const filtered = [...asked().keys()].some((name) => name !== "order");
    const found = pages.total;
    replace(count, pages.trouble ?? (found === null ? t("gallery.looking") : t(filtered ? "gallery.found" : "gallery.count", { raw: found, n: number(found) })));
    count.classList.toggle("bad", Boolean(pages.trouble));
    if (found === 0) replace(nothing, filtered ? empty("search", t("gallery.nothing"), t("gallery.nothingDo")) : empty("brush", t("gallery.empty"), t("gallery.emptyDo")));
    else replace(nothing);
  };

  search.addEventListener("input", debounced(250, changed));
  for (const input of [model.input, namespace.input, order.input, pinned, stale]) input.addEventListener("change", changed);
  on("entry", signal, debounced(300, () => look(false)));
  addEventListener("scroll", () => grid.soon(), { signal, passive: true });
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.closest("input, textarea, select")) {
      event.preventDefault();
      search.focus();
    }
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) chosen.clear();
  }, { signal });
  list.addEventListener("keydown", (event) => grid.key(event));
  new ResizeObserver(() => grid.draw()).observe(list);
  look(true);

  const check = (input, words) => h("label", { class: "check" }, input, words);
  return h(
    "div",
    { class: "gallery" },
    h(
      "form",
      { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
      h("div", { class: "searching" }, icon("search"), h("label", { for: "search", class: "hidden" }, t("gallery.search")), search),
      model.element,
      spaces.length > 1 && namespace.element,
      order.element,
      check(pinned, t("gallery.pinned")),
      check(stale, t("gallery.stale")),
    ),
    count,
    nothing,
    list,
    bar.element,
  );
}

function choice(id, words, value, options) {
  const input = h("select", { id }, options.map(([each, name]) => h("option", { value: each, selected: each === value }, name)));
  return { input, element: h("div", { class: "choice" }, h("label", { for: id, class: "hidden" }, words), input) };
}

const modelNames = () => [...new Set([...(state.models?.names ?? []), ...(state.models?.held ?? []).map((each) => each.name), ...state.answers.map((each) => each.model).filter(Boolean)])];

/** Places entries in rows and columns; makes elements for what is near the screen, and drops the others. */
class Grid {
  constructor(list, pages, chosen) {
    this.list = list;
    this.pages = pages;
    this.chosen = chosen;
    this.shown = new Map(); // place -> {element, entry}
    this.frame = 0;
  }

  soon() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  measure() {
    const width = this.list.clientWidth;
    this.columns = Math.max(2, Math.floor((width + GAP) / (186 + GAP)));
    this.side = (width - GAP * (this.columns - 1)) / this.columns;
    this.row = this.side + CAPTION + GAP;
    this.rows = Math.ceil((this.pages.total ?? 0) / this.columns);
    this.height = Math.min(TALLEST, this.rows * this.row);
  }

  draw() {
    this.measure();
    if (!this.side || this.side < 0) return;
    this.list.style.height = `${this.height}px`;
    const above = Math.max(0, -this.list.getBoundingClientRect().top);
    // Where there are more rows than a browser can be tall, the scroll bar moves in larger steps.
    const whole = this.rows * this.row;
    const stretch = whole > this.height ? (whole - innerHeight) / (this.height - innerHeight) : 1;
    const from = above * stretch;
    const first = Math.max(0, Math.floor(from / this.row) - ROWS_AHEAD) * this.columns;
    const last = Math.min(this.pages.total ?? 0, (Math.ceil((from + innerHeight) / this.row) + ROWS_AHEAD) * this.columns);
    this.pages.want(first, last);
    for (const [place, { element }] of this.shown) {
      if (place < first || place >= last) {
        if (element.contains(document.activeElement)) continue; // the focus is never dropped
        element.remove();
        this.shown.delete(place);
      }
    }
    for (let place = first; place < last; place += 1) this.put(place, above - from);
  }

  put(place, shift) {
    const entry = this.pages.at(place);
    let item = this.shown.get(place);
    if (!item || item.entry !== entry) {
      const focused = item?.element.contains(document.activeElement);
      const element = entry ? card(entry, place, this.pages.total, this) : h("li", { class: "picture waiting", "aria-hidden": "true" });
      if (item) item.element.replaceWith(element);
      else this.list.append(element);
      item = { element, entry };
      this.shown.set(place, item);
      if (focused) element.querySelector("a")?.focus({ preventScroll: true });
    }
    const column = place % this.columns;
    const row = Math.floor(place / this.columns);
    const style = item.element.style;
    style.width = `${this.side}px`;
    style.height = `${this.side + CAPTION}px`;
    style.transform = `translate(${column * (this.side + GAP)}px, ${row * this.row + shift}px)`;
  }

  /** Choose what stands at a place, or let go of it; with `far`, all that is known from the last one to there. */
  choose(place, yes, far) {
    const from = far && this.chosen.last !== null ? this.chosen.last : place;
    const entries = [];
    for (let each = Math.min(from, place); each <= Math.max(from, place); each += 1) {
      const entry = this.pages.at(each);
      if (entry) entries.push(entry);
    }
    this.chosen.last = place;
    this.chosen.put(entries, yes);
  }

  /** Show which are chosen. */
  mark() {
    this.list.classList.toggle("choosing", this.chosen.entries.size > 0);
    for (const { element, entry } of this.shown.values()) {
      const box = entry && element.querySelector(".choose");
      if (box) box.checked = this.chosen.has(entry.key);
    }
  }

  key(event) {
    if (event.target.matches(".choose") && event.key === " ") return;
    const from = Number(event.target.closest("li")?.dataset.place ?? NaN);
    if (Number.isNaN(from)) return;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns, Home: -from, End: this.pages.total - 1 - from };
    if (event.key in steps) {
      event.preventDefault();
      this.focus(Math.min(this.pages.total - 1, Math.max(0, from + steps[event.key])));
      return;
    }
    const entry = this.pages.at(from);
    if (entry && event.key === "x") this.choose(from, !this.chosen.has(entry.key), false);
    if (!entry || !may("admin")) return;
    if (event.key === "p") pinning([entry], !entry.pinned);
    if (event.key === "Delete") removing(entry);
  }

  async focus(place) {
    const there = () => this.shown.get(place)?.element.querySelector("a");
    if (!there()) {
      const row = Math.floor(place / this.columns);
      const whole = this.rows * this.row;
      scrollTo({ top: this.list.offsetTop + (row * this.row * this.height) / whole - innerHeight / 3 });
      this.draw();
      await this.pages.arrived(place);
      this.draw();
    }
    const link = there();
    link?.focus({ preventScroll: true });
    link?.closest("li").scrollIntoView({ block: "nearest" });
  }
}

function card(entry, place, total, grid) {
  const words = entry.prompt ?? t("prompt.hidden");
  const picture = isPicture(entry) ? h("img", { src: thumbnail(entry, 256), alt: "", loading: "lazy", decoding: "async" }) : h("span", { class: "no-picture" }, icon("bolt"), entry.media_type.replace("application/", ""));
  picture.addEventListener("error", () => picture.classList.add("broken"));
  const stale = entry.expires_at !== null && entry.expires_at * 1000 < Date.now();
  return h(
    "li",
    { class: entry.pinned ? "picture pinned" : "picture", "data-place": place, "data-key": entry.key, "aria-setsize": total, "aria-posinset": place + 1 },
    h(
      "a",
      { href: `#/entry/${entry.key}`, "aria-label": words, title: words },
      h("span", { class: "frame" }, picture, stale && h("span", { class: "badge badge-miss corner" }, t("gallery.isStale"))),
      h("span", { class: "picture-words" }, words),
      h("span", { class: "picture-more" }, h("span", {}, ago(entry.created_at)), entry.uses > 0 && h("span", { class: "uses" }, t("gallery.uses", { raw: entry.uses, n: number(entry.uses) }))),
    ),
    h("input", {
      type: "checkbox",
      class: "choose",
      checked: grid.chosen.has(entry.key),
      "aria-label": t("choose.this", { prompt: words }),
      onclick: (event) => grid.choose(place, event.target.checked, event.shiftKey),
    }),
    h(
      "div",
      { class: "picture-deeds" },
      may("admin") && iconButton("pin", t(entry.pinned ? "deed.unpin" : "deed.pin"), () => pinning([entry], !entry.pinned), { "aria-pressed": String(entry.pinned), "data-test": "pin" }),
      iconButton("download", t("deed.download"), () => download(entry)),
      may("admin") && iconButton("trash", t("deed.remove"), () => removing(entry), { "data-test": "remove" }),
    ),
  );
}
