// One entry: the picture, what is known of it, every field of its request, and whether a new render agrees.

import { get, here, isPicture, post } from "./asking.js";
import { nearestPart } from "./answers.js";
import { copySettings, download, pinning, removing, reuse } from "./deeds.js";
import { fact, h, icon, replace } from "./dom.js";
import { fieldTable } from "./fields.js";
import { may, on } from "./live.js";
import { empty } from "./notices.js";
import { go } from "./route.js";
import { ago, bytes, duration, moment, number, t } from "./words.js";

/** Return the page of one entry. */
export function entryView(signal, [key]) {
  const place = h("div", { class: "entry" }, h("p", { class: "soft" }, t("entry.looking")));
  let shown = null;
  const draw = async () => {
    try {
      const entry = await get(`v1/entries/${key}`, { signal });
      if (shown && shown.pinned === entry.pinned && shown.uses === entry.uses) return;
      if (shown) {
        shown = entry;
        place.querySelector(".entry-facts").replaceWith(factsOf(entry));
        place.querySelector(".entry-deeds").replaceWith(deedsOf(entry, draw));
        return;
      }
      shown = entry;
      replace(place, whole(entry, signal, draw));
    } catch (error) {
      if (error.name === "AbortError") return;
      replace(place, empty("search", error.status === 404 ? t("entry.gone") : error.message, t("entry.goneDo")), h("a", { class: "more", href: "#/gallery" }, t("gallery.open"), " →"));
    }
  };
  on("entry", signal, (change) => (!change.key || change.key === key) && draw());
  draw();
  return place;
}

function whole(entry, signal, again) {
  const picture = isPicture(entry);
  const nearest = h("section", { class: "card" }, h("h2", {}, t("entry.nearest")));
  const facts = h(
    "div",
    { class: "column" },
    h(
      "section",
      { class: "card" },
      h("a", { class: "more back", href: "#/gallery" }, icon("back"), t("gallery.back")),
      h("p", { class: "entry-prompt" }, entry.prompt ?? t("prompt.hidden")),
      deedsOf(entry, again),
      factsOf(entry),
    ),
    may("admin") && picture && auditPart(entry, signal),
    nearest,
    h("section", { class: "card" }, h("h2", {}, t("entry.fields")), entry.redacted && h("p", { class: "note" }, t("entry.redacted")), fieldTable(entry.fields)),
  );
  showNearest(nearest, entry.key, signal);
  return h(
    "div",
    { class: "entry-columns" },
    h("div", { class: "entry-picture" }, picture ? h("a", { href: here(entry.url), target: "_blank", rel: "noopener" }, h("img", { src: here(entry.url), alt: entry.prompt ?? t("entry.picture") })) : h("p", { class: "note" }, t("entry.noPicture", { kind: entry.media_type }))),
    facts,
  );
}

function deedsOf(entry, again) {
  const button = (drawing, words, run, more = {}) => h("button", { type: "button", class: "quiet", onclick: run, ...more }, icon(drawing), words);
  return h(
    "div",
    { class: "buttons entry-deeds" },
    may("generate") && !entry.redacted && button("brush", t("deed.reuse"), () => reuse(entry)),
    button("copy", t("deed.copy"), () => copySettings(entry), { "data-test": "copy" }),
    button("download", t("deed.download"), () => download(entry)),
    may("admin") && button("pin", t(entry.pinned ? "deed.unpin" : "deed.pin"), async () => (await pinning([entry], !entry.pinned)) && again(), { "aria-pressed": String(entry.pinned), "data-test": "pin" }),
    may("admin") && button("trash", t("deed.remove"), async () => (await removing(entry)) && go("#/gallery"), { "data-test": "remove" }),
  );
}

function factsOf(entry) {
  const stale = entry.expires_at !== null && entry.expires_at * 1000 < Date.now();
  const facts = [
    [t("field.uses"), number(entry.uses)],
    [t("field.saved"), duration(entry.uses * entry.cost)],
    [t("field.cost"), duration(entry.cost)],
    [t("field.created_at"), h("time", { title: moment(entry.created_at) }, ago(entry.created_at))],
    [t("field.used_at"), ago(entry.used_at)],
    [t("field.expires_at"), entry.expires_at === null ? t("value.never") : `${stale ? `${t("gallery.isStale")}, ` : ""}${ago(entry.expires_at)}`],
    [t("field.model"), entry.model],
    [t("field.bytes"), `${bytes(entry.size)} · ${entry.media_type}`],
    [t("field.namespace"), entry.namespace],
    [t("field.key"), h("code", {}, entry.key)],
    [t("field.digest"), h("code", {}, entry.digest)],
  ];
  return h("dl", { class: "facts entry-facts" }, facts.map(([name, value]) => fact(name, value, { class: value.tagName === "CODE" ? "whole" : null })));
}

async function showNearest(place, key, signal) {
  const heading = h("h2", {}, t("entry.nearest"));
  try {
    const { nearest } = await get(`v1/entries/${key}/nearest?limit=4`, { signal });
    replace(place, heading, nearest.length ? nearestPart(nearest) : h("p", { class: "soft" }, t("entry.alone")));
  } catch (error) {
    if (error.name !== "AbortError") replace(place, heading, h("p", { class: "note" }, error.message));
  }
}

// The audit: render again, and compare every pixel

function auditPart(entry, signal) {
  const result = h("div", { "aria-live": "polite" });
  const button = h("button", { type: "button", class: "main", "data-test": "audit", onclick: () => run() }, icon("scale"), t("audit.go"));
  const run = async () => {
    button.disabled = true;
    replace(result, h("p", { class: "loading" }, h("span", { class: "spinner" }), t("audit.running")));
    try {
      replace(result, verdict(entry, await post(`v1/entries/${entry.key}/audit`, {}, { signal })));
    } catch (error) {
      replace(result, error.name !== "AbortError" && h("p", { class: "note bad", role: "alert" }, error.message));
    }
    button.disabled = false;
  };
  return h("section", { class: "card audit" }, h("h2", {}, t("audit.title")), h("p", { class: "soft" }, t("audit.words")), button, result);
}

function verdict(entry, found) {
  if (!found.auditable) return h("p", { class: "note" }, t("audit.cannot", { why: found.why }));
  const source = (address) => (address.startsWith("data:") ? address : here(address));
  const shown = (address, words) => address && h("figure", {}, h("img", { src: source(address), alt: words }), h("figcaption", {}, words));
  return [
    found.identical
      ? h("p", { class: "verdict verdict-good pop", "data-test": "identical" }, icon("check"), h("strong", {}, t("audit.identical")), " ", t("audit.took", { time: duration(found.seconds) }))
      : h("p", { class: "verdict verdict-bad pop", "data-test": "different" }, icon("cross"), h("strong", {}, found.differing_pixels === null ? t("audit.other") : t("audit.different", { raw: found.differing_pixels, n: number(found.differing_pixels) })), " ", found.largest_difference !== null && t("audit.largest", { n: found.largest_difference })),
    !found.identical && found.why && h("p", { class: "note" }, found.why),
    h("div", { class: "figures" }, shown(entry.url, t("audit.stored")), shown(found.rendered, t("audit.rendered")), shown(found.difference, t("audit.difference"))),
  ];
}
