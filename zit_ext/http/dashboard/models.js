// Which weights are where, with buttons to bring them near the device and to let them go.

import { post } from "./asking.js";
import { meter, residence } from "./charts.js";
import { fact, h, icon, replace } from "./dom.js";
import { may, on, state, WEEK } from "./live.js";
import { empty, say, trying } from "./notices.js";
import { spans } from "./reckoning.js";
import { ago, bytes, duration, number, t } from "./words.js";

const busy = new Set();
const TIERS = ["disk", "ram", "vram"];

/** A device that computes in RAM has no memory of its own: every tier is RAM. */
const onlyRam = () => state.models?.device === "cpu";

const sizeOf = (model) => model.parts.reduce((sum, part) => sum + part.bytes, 0);

/** Return the weights that are held, each with its parts; `most` of them where there is little room. */
export function heldModels(most = Infinity) {
  const models = state.models;
  if (!models) return h("p", { class: "soft" }, t("models.unknown"));
  const held = models.held.slice(0, most);
  const loading = [
    models.loading && !models.held.some((each) => each.name === models.loading) && h("p", { class: "loading" }, h("span", { class: "spinner" }), t("models.loading", { name: models.loading })),
    ...(models.waiting ?? []).map((name) => h("p", { class: "soft", "data-test": "waiting" }, t("models.preloadWaits", { name }))),
  ].filter(Boolean);
  if (!held.length) return [loading, empty("load", t("models.empty"), t(may("admin") ? "models.emptyDo" : "models.emptyRead")), !loading.length && preloadButtons(models, most)];
  return [loading, h("ul", { class: "held", role: "list" }, held.map(heldModel)), preloadButtons(models, most)];
}

function heldModel(model) {
  const keep = model.keep_alive < 0 ? t("models.forever") : t("models.keep", { time: duration(model.keep_alive) });
  return h(
    "li",
    { class: "held-model", "data-model": model.name },
    h(
      "div",
      { class: "held-head" },
      h("strong", { class: "held-name", title: model.name }, model.name),
      model.rendering ? h("span", { class: "badge badge-live" }, t("models.rendering")) : h("span", { class: "soft small" }, t("models.used", { ago: ago(model.used_at) })),
    ),
    h(
      "div",
      { class: "parts" },
      model.parts.map((part) =>
        h(
          "span",
          { class: `part part-${TIERS[part.tier]}`, title: `${part.name}: ${bytes(part.bytes)}, ${t(onlyRam() ? "tier.inRam" : `tier.${TIERS[part.tier]}`)}` },
          h("span", {}, part.name.replaceAll("_", " ")),
          h("b", {}, bytes(part.bytes)),
          h("i", {}, t(onlyRam() ? "tier.short.ram" : `tier.short.${TIERS[part.tier]}`)),
        ),
      ),
    ),
    h(
      "div",
      { class: "held-foot" },
      h("span", { class: "soft small" }, `${bytes(sizeOf(model))} · ${keep}`),
      may("admin") && action("unload", model.name, "out", t("models.unload")),
    ),
  );
}

function preloadButtons(models, most) {
  if (!may("admin")) return null;
  const away = models.names.filter((name) => !models.held.some((each) => each.name === name)).slice(0, most);
  return away.length > 0 && h("div", { class: "preloads" }, away.map((name) => h("div", { class: "preload" }, h("span", { class: "held-name", title: name }, name), action("preload", name, "load", t("models.preload")))));
}

function action(does, name, drawing, words) {
  const key = `${does} ${name}`;
  const run = async () => {
    busy.add(key);
    button.disabled = true;
    button.classList.add("busy");
    await trying(async () => {
      const told = await post(`v1/models/${does}`, { model: name });
      const waits = told.loaded === false || told.state === "unloading when the render is done";
      say(t(waits ? `models.${does}Waits` : `models.${does}ed`, { name }));
    });
    busy.delete(key);
    button.disabled = false;
    button.classList.remove("busy");
  };
  const button = h("button", { type: "button", class: busy.has(key) ? "quiet small busy" : "quiet small", disabled: busy.has(key), onclick: run, "data-test": does }, icon(drawing), words);
  return button;
}

/** Return the view of the weights: where they are, how much room they take, and when they were resident. */
export function modelsView(signal) {
  const held = h("section", { class: "card" });
  const room = h("section", { class: "card" });
  const week = h("section", { class: "card" });
  const draw = () => {
    replace(held, h("h2", {}, t("models.title")), heldModels());
    replace(room, h("h2", {}, t("models.room")), roomPart());
  };
  const drawWeek = () => {
    const made = spans(state.histories.get(WEEK), WEEK, 168);
    replace(week, h("h2", {}, t("models.week")), made.some((each) => each.models.size) ? residence(made) : empty("load", t("models.weekEmpty"), t("models.weekEmptyDo")));
  };
  on("models", signal, draw);
  on("minute", signal, draw);
  on("history", signal, drawWeek);
  draw();
  drawWeek();
  return h("div", { class: "grid-two" }, held, h("div", { class: "column" }, room, week));
}

function roomPart() {
  const models = state.models;
  if (!models?.device) return h("p", { class: "soft" }, t("models.noDevice"));
  const whole = models.vram_bytes + models.ram_bytes;
  const gauge = (name, held) =>
    h(
      "div",
      { class: "gauge" },
      h("div", { class: "gauge-line" }, h("span", {}, t(`tier.${name}`)), h("b", {}, bytes(held))),
      whole > 0 && !onlyRam() && meter(t(`tier.${name}`), held / whole, "calm"),
    );
  return [
    ...(onlyRam() ? [gauge("inRam", whole)] : [gauge("vram", models.vram_bytes), gauge("ram", models.ram_bytes)]),
    h(
      "dl",
      { class: "facts" },
      fact(t("models.device"), models.device),
      fact(t("models.loads"), number(models.loads)),
      fact(t("models.loadSeconds"), duration(models.load_seconds)),
      fact(t("models.renders"), number(models.renders)),
      fact(t("models.queued"), number(models.queued)),
    ),
  ];
}
